"""The ledger: what workers really did, written outside the system under test.

One file a worker, opened with O_APPEND, each line on disk (fsync) before the activity goes on. A line is one JSON object:

    {"e":"start","wf":…,"run":…,"step":3,"attempt":1,"worker":"w2","t":…,"deadline":…}   the attempt begins
    {"e":"end",  …,"t":…,"outcome":"returned"|"failed"|"cancelled"}                      its body is over
    {"e":"beat", …,"t":…,"details":…}                                                  a heartbeat is about to be given to the SDK
    {"e":"ack",  …,"t":…,"status":"acked"|"unknown"|"refused"}                           what the server said to its completion

A start line also says what the server told of the attempt (`worker.handed_out`), which the Rust harness reads; `parse` has no use for it.

`deadline` is the moment at which the server may give the step to somebody else. Times are the machine's clock in seconds.
Never buffers, never rewrites. Written by `worker`; read by `checkers` through `load`.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path


class Ledger:
    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def note(self, event: str, key: dict, **more: object) -> None:
        line = json.dumps({"e": event, **key, "t": time.time(), **more}) + "\n"
        os.write(self._fd, line.encode())
        os.fsync(self._fd)


@dataclass
class Attempt:
    """One attempt of one step, put together from its lines."""

    wf: str
    run: str
    step: int
    attempt: int
    worker: str
    start: float
    deadline: float
    end: float | None = None
    outcome: str | None = None
    acked: float | None = None
    statuses: list[str] = field(default_factory=list)

    @property
    def step_key(self) -> tuple[str, str, int]:
        return (self.wf, self.run, self.step)

    def describe(self) -> str:
        end = "never ended" if self.end is None else f"ended {self.end:.3f}"
        acked = "" if self.acked is None else f", acknowledged {self.acked:.3f}"
        return f"attempt {self.attempt} on {self.worker} (started {self.start:.3f}, {end}, deadline {self.deadline:.3f}{acked})"


def parse(lines: list[str]) -> list[Attempt]:
    """Attempts in the order of their start lines. A torn last line (the worker died in the write) is left out."""
    attempts: list[Attempt] = []
    open_: dict[tuple, Attempt] = {}
    for text in lines:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        key = (line["wf"], line["run"], line["step"], line["attempt"], line["worker"])
        if line["e"] == "start":
            attempt = Attempt(*key, start=line["t"], deadline=line["deadline"])
            attempts.append(attempt)
            open_[key] = attempt
            continue
        attempt = open_[key]
        if line["e"] == "beat":
            continue
        if line["e"] == "end":
            attempt.end, attempt.outcome = line["t"], line["outcome"]
        else:
            attempt.statuses.append(line["status"])
            if line["status"] == "acked" and attempt.acked is None:
                attempt.acked = line["t"]
    return attempts


def load(folder: Path) -> list[Attempt]:
    """All attempts of all workers' files (`ledger-*.jsonl`) in `folder`."""
    attempts: list[Attempt] = []
    for path in sorted(folder.glob("ledger-*.jsonl")):
        attempts.extend(parse(path.read_text(encoding="utf-8").splitlines()))
    attempts.sort(key=lambda attempt: attempt.start)
    return attempts
