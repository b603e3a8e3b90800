"""catchup-snapshot: as catchup, but the nodes keep so little log that only a snapshot can bring the node back.

That it was a snapshot is required: a node that caught up by log would show nothing here.
"""

from __future__ import annotations

from ..checkers import Check
from ..scene import Scene, Verdict
from . import catchup

NAME = "catchup-snapshot"
LIMITS = {"log_keep_bytes": 1024 * 1024}


async def run(scene: Scene) -> Verdict:
    verdict = await catchup.write_and_return(scene, NAME)
    if scene.faults:
        installed = int(verdict.figures.get("snapshots_installed", 0))
        verdict.checks.append(Check("snapshots were installed", "B2", counted=installed))
    return verdict
