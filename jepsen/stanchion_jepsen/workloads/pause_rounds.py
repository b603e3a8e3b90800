"""pause-rounds: the load and checks of kill-rounds, while each node in turn stands still (SIGSTOP) for four to seven seconds.

A node that wakes up believes that it still leads: it must neither serve old reads nor hand out work nor acknowledge anything.
"""

from __future__ import annotations

from .. import faults
from ..scene import Scene, Verdict
from .kill_rounds import ledger_under_faults

NAME = "pause-rounds"


async def run(scene: Scene) -> Verdict:
    return await ledger_under_faults(scene, NAME, faults.pause_rounds)
