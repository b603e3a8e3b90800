"""The worker processes: one per node, started once, ended at the end.

Never restarts a worker: that one finds its node again is part of what is tested. Used by the workloads.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from .cluster import Cluster
from .processes import HarnessError, Process


class Workers:
    def __init__(self, cluster: Cluster, out: Path, task_queue: str) -> None:
        package = Path(__file__).parent.parent
        self.processes = []
        for node in cluster.nodes:
            name = f"w{node.number}"
            command = [sys.executable, "-m", "stanchion_jepsen.worker", "--name", name, "--target", node.grpc]
            command += ["--task-queue", task_queue, "--ledger", str(out / f"ledger-{name}.jsonl")]
            self.processes.append(Process(name, command, out / f"{name}.log", {"PYTHONPATH": str(package), "RUST_LOG": "warn"}))

    async def begin(self, within_s: float = 60.0) -> None:
        for process in self.processes:
            process.start()
        stop = time.monotonic() + within_s
        for process in self.processes:
            while "worker ready" not in process.tail(100_000):
                if not process.running or time.monotonic() > stop:
                    raise HarnessError(f"worker {process.name} did not come up: {process.tail()}")
                await asyncio.sleep(0.1)

    def notice_deaths(self) -> list[str]:
        for process in self.processes:
            process.notice_death()
        return [death for process in self.processes for death in process.deaths]

    async def end(self) -> None:
        # The SDK drains its polls, which takes as long as the server lets them hang: not what is tested here.
        async def stop(process: Process) -> None:
            before = list(process.deaths)
            await process.terminate(15.0)
            process.deaths = before

        await asyncio.gather(*(stop(process) for process in self.processes))

    def kill_everything(self) -> None:
        for process in self.processes:
            process.kill()
