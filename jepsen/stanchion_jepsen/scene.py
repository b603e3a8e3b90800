"""What every workload needs, set up and taken down in one place: output folder, cluster, workers, journal, client, sampler.

`Scene.open` gives a workload a cluster that is ready; leaving it ends every process that was started, whatever happened, and keeps
the data folders when something was found. Never judges. Used by the workloads and `__main__`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from .checkers import Check
from .client import Client
from .cluster import Cluster, SingleServer, default_binary
from .history import RunHistory, event_name
from .journal import Journal
from .processes import HarnessError
from .sampler import Sampler
from .workers import Workers

READ_WITHIN_S = 60.0
# An acknowledged run that a healed cluster does not know for this long is lost; waiting longer only delays the verdict.
LOST_AFTER_S = 8.0


@dataclass
class Options:
    """What the command line says. None: the workload's own number."""

    quick: bool = False
    control: bool = False
    server: str = "stanchion"
    binary: Path = field(default_factory=default_binary)
    groups: int = 8
    seed: int = 0
    runs: int | None = None
    steps: int | None = None
    rounds: int | None = None
    kills: int | None = None
    megabytes: int | None = None
    limits: dict[str, int] = field(default_factory=dict)
    keep_data: bool = False

    def number(self, given: int | None, full: int, quick: int) -> int:
        return given if given is not None else quick if self.quick else full


@dataclass
class Verdict:
    """The end of a workload: its checks, its figures, and whether its evidence is worth anything."""

    workload: str
    checks: list[Check]
    figures: dict = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def vacuous(self) -> list[str]:
        return [check.name for check in self.checks if check.vacuous]


class Scene:
    def __init__(self, out: Path, options: Options, cluster: Cluster, task_queue: str) -> None:
        self.out = out
        self.options = options
        self.cluster = cluster
        self.chance = random.Random(options.seed)
        self.journal = Journal(out)
        self.task_queue = task_queue
        self.apis = [node.api for node in cluster.nodes]
        self.client = Client(self.apis, self.journal, self.chance, task_queue)
        self.workers = Workers(cluster, out, task_queue)
        self.sampler = Sampler(self.apis, self.chance)
        self._begin = time.monotonic()

    @property
    def faults(self) -> bool:
        return not self.options.control

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._begin:7.1f} s] {text}", file=sys.stderr, flush=True)

    async def read_everywhere(self, runs: dict[str, str], within_s: float = READ_WITHIN_S) -> dict[str, dict[str, RunHistory]]:
        """Every run's history from every node: workflow id -> node -> history. What cannot be read in time is left out."""
        copies: dict[str, dict[str, RunHistory]] = {wf: {} for wf in runs}
        gate = asyncio.Semaphore(6)

        failed: list[str] = []

        async def read(wf: str, run: str, api) -> None:
            async with gate:
                begin = time.monotonic()
                while True:
                    try:
                        copies[wf][api.name] = await api.history(wf, run, 20.0)
                        return
                    except grpc.aio.AioRpcError as error:
                        # Once many have failed, the rest get one chance each.
                        patience = LOST_AFTER_S if error.code() == grpc.StatusCode.NOT_FOUND else within_s
                        if time.monotonic() - begin > (patience if len(failed) < 12 else 0):
                            failed.append(f"{wf} from {api.name}: {error.code().name} {error.details()}")
                            return
                        await asyncio.sleep(0.2)

        await asyncio.gather(*(read(wf, run, api) for wf, run in runs.items() for api in self.apis))
        for line in failed[:10]:
            self.say(f"cannot read {line}")
        if len(failed) > 10:
            self.say(f"… and {len(failed) - 10} more reads failed")
        return copies

    async def wait_closed(self, runs: dict[str, str], within_s: float) -> int:
        """Waits until all runs are closed, or `within_s` has passed without one more closing; how many are still open."""
        open_, last = dict(runs), time.monotonic()
        lost: list[str] = []
        gate = asyncio.Semaphore(24)

        async def wait(wf: str, run: str) -> None:
            nonlocal last
            gone_since: float | None = None
            while True:
                async with gate:
                    api = self.chance.choice(self.apis)
                    try:
                        if await api.wait_close(wf, run, 10.0):
                            del open_[wf]
                            last = time.monotonic()
                            return
                    except grpc.aio.AioRpcError as error:
                        # Dying nodes refuse; a poll that ended without news is simply asked again.
                        now = time.monotonic()
                        gone_since = (gone_since or now) if error.code() == grpc.StatusCode.NOT_FOUND else None
                        if gone_since is not None and now - gone_since > LOST_AFTER_S:
                            lost.append(wf)
                            del open_[wf]
                            return
                await asyncio.sleep(0.1)

        tasks = [asyncio.create_task(wait(wf, run)) for wf, run in runs.items()]
        try:
            while open_ and time.monotonic() - last <= within_s:
                await asyncio.wait(tasks, timeout=1.0)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for wf in [*lost, *open_][:5]:
            self.say(f"{'lost' if wf in lost else 'still open'}: {wf}")
        return len(open_) + len(lost)

    def process_checks(self) -> list[Check]:
        from . import checkers

        deaths = self.cluster.notice_deaths() + self.cluster.panics()
        starts = sum(node.process.starts for node in self.cluster.nodes)
        return [
            checkers.nodes_ended_only_when_told(deaths, starts),
            checkers.workers_lived(self.workers.notice_deaths(), sum(p.starts for p in self.workers.processes)),
        ]

    def keep_evidence(self, histories: dict[str, RunHistory], checks: list[Check]) -> None:
        """Writes the histories that a violation names, one line an event, into `violations/`."""
        named = {wf for wf in histories for check in checks for line in check.violations[:50] if line.startswith(f"{wf}:") or line.startswith(f"{wf} ")}
        for wf in sorted(named)[:40]:
            folder = self.out / "violations"
            folder.mkdir(exist_ok=True)
            lines = [f"{e.event_id:5} {e.event_time.ToJsonString()} {event_name(e)} {str(e).replace(chr(10), ' ')[:400]}" for e in histories[wf].events]
            (folder / f"{wf}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@contextlib.asynccontextmanager
async def open_scene(out: Path, options: Options, workload: str, limits: dict[str, int]) -> AsyncIterator[Scene]:
    out.mkdir(parents=True, exist_ok=True)
    cluster = SingleServer(out, options.server == "temporal-memory") if options.server != "stanchion" else Cluster(out, options.binary, options.groups, limits | options.limits)
    scene = Scene(out, options, cluster, task_queue=f"jepsen-{workload}")
    kept = True
    try:
        scene.say(f"{workload}: starting {len(cluster.nodes)} nodes; data in {cluster.folder}, output in {out}")
        await cluster.begin()
        scene.say("cluster is ready")
        yield scene
        await scene.workers.end()
        await cluster.end()
        kept = options.keep_data
    finally:
        scene.workers.kill_everything()
        cluster.kill_everything()
        scene.journal.close()
        if kept:
            scene.say(f"data folders kept: {cluster.folder}")
        else:
            cluster.remove_data()


def write_verdict(out: Path, verdict: Verdict, options: Options) -> None:
    summary = {
        "workload": verdict.workload,
        "passed": verdict.passed,
        "vacuous": verdict.vacuous,
        "seed": options.seed,
        "control": options.control,
        "quick": options.quick,
        "server": options.server,
        "limits": options.limits,
        "checks": [check.as_dict() for check in verdict.checks],
        "figures": verdict.figures,
    }
    (out / "verdict.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def need(condition: bool, what: str) -> None:
    """The harness's own expectations: what is not met makes a run worthless, not a violation."""
    if not condition:
        raise HarnessError(what)
