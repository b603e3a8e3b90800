"""The journal: every operation that a client tried, what came of it, and every fault.

An operation is invoked by a process and ends in one of three ways: `ok` (acknowledged), `fail` (certainly had no effect) or
`info` (unknown: it happened zero times or once). A process whose operation ended in `info` never acts again, as in Jepsen:
its thread goes on under a new process number. Lines are on disk before the call goes out, so a crash of the harness
loses no evidence. Never judges: that is `checkers`' work. Written by `client` and `faults`.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from . import edn


@dataclass
class Op:
    """One line of the journal. `time` is in nanoseconds since the journal was opened."""

    index: int
    type: str
    f: str
    value: object
    process: int | str
    time: int
    error: str | None = None

    def as_dict(self) -> dict:
        line = {
            "index": self.index,
            "type": self.type,
            "f": self.f,
            "value": self.value,
            "process": self.process,
            "time": self.time,
        }
        if self.error is not None:
            line["error"] = self.error
        return line


class Journal:
    """Appends operations to `history.edn` and `history.jsonl` of one run's folder and keeps them in memory."""

    def __init__(self, folder: Path) -> None:
        self._zero = time.monotonic_ns()
        self._edn = open(folder / "history.edn", "w", encoding="utf-8")
        self._json = open(folder / "history.jsonl", "w", encoding="utf-8")
        self._processes = 0
        self.ops: list[Op] = []

    def new_process(self) -> int:
        self._processes += 1
        return self._processes - 1

    def _append(self, type_: str, f: str, value: object, process: int | str, error: str | None = None) -> Op:
        op = Op(len(self.ops), type_, f, value, process, time.monotonic_ns() - self._zero, error)
        self.ops.append(op)
        line = op.as_dict()
        self._edn.write(edn.dumps(line) + "\n")
        self._json.write(json.dumps(line) + "\n")
        return op

    def invoke(self, process: int, f: str, value: object) -> Op:
        return self._append("invoke", f, value, process)

    def finish(self, invoked: Op, type_: str, value: object | None = None, error: str | None = None) -> Op:
        """Ends `invoked` with `ok`, `fail` or `info`."""
        assert type_ in ("ok", "fail", "info"), type_
        return self._append(type_, invoked.f, invoked.value if value is None else value, invoked.process, error)

    def fault(self, f: str, value: object) -> None:
        """Notes something that the nemesis did, as Jepsen's own nemesis does: an `info` line of the process `nemesis`."""
        self._append("info", f, value, "nemesis")

    def close(self) -> None:
        self._edn.close()
        self._json.close()
