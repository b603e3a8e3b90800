"""kill-rounds: runs of sequential activities while each node in turn is killed with -9 and restarted.

Runs are started one by one, so that some are in every stage at every kill; if the planned number is done before the last
fault is over, more are started, and all count. Required: everything in `checkers` that concerns ledgers and histories.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from .. import checkers, faults, ledger
from ..scene import Scene, Verdict
from ..workflows import expected_chain

NAME = "kill-rounds"
OPEN_AT_ONCE = 24
CLOSE_WITHIN_S = 90.0


async def run(scene: Scene) -> Verdict:
    return await ledger_under_faults(scene, NAME, faults.kill_rounds)


async def ledger_under_faults(scene: Scene, name: str, nemesis: Callable[[Scene, int], Awaitable[list[dict]]]) -> Verdict:
    """The load and the checks of this workload under any nemesis that goes in rounds."""
    options = scene.options
    runs = options.number(options.runs, 200, 20)
    steps = options.number(options.steps, 20, 10)
    rounds = options.number(options.rounds, 5, 1)
    await scene.workers.begin()

    started: dict[str, str] = {}
    unknown: list[str] = []
    trouble: list[str] = []
    load = _Load(scene, steps, started, unknown)
    sampling = asyncio.create_task(scene.sampler.run())
    loading = asyncio.create_task(load.run())
    notes: list[dict] = []
    try:
        if scene.faults:
            try:
                notes = await nemesis(scene, rounds)
            except faults.NotBack as failure:
                trouble.append(str(failure))
        load.enough = runs
        await loading
        scene.say(f"{len(started)} runs started, {load.closed} closed so far, {scene.sampler.reads} histories sampled")
        await scene.wait_closed({wf: run for wf, run in started.items() if wf not in load.done}, CLOSE_WITHIN_S)
    finally:
        loading.cancel()
        sampling.cancel()
        await asyncio.gather(loading, sampling, return_exceptions=True)

    copies = await scene.read_everywhere(started)
    scene.say("histories read from all nodes")
    names = [node.name for node in scene.cluster.nodes]
    histories = {wf: by_node[names[0]] for wf, by_node in copies.items() if names[0] in by_node}
    attempts = ledger.load(scene.out)
    checks = [
        checkers.runs_complete({wf: expected_chain(wf, steps) for wf in started}, histories),
        checkers.acknowledged_starts_exist(scene.journal.ops, histories),
        checkers.acknowledged_steps_stay_done(attempts),
        checkers.attempts_do_not_overlap(attempts),
        checkers.attempts_are_handed_out_once(attempts),
        checkers.ledger_matches_histories(attempts, histories),
        checkers.histories_equal_on_all_nodes(copies, names),
        checkers.event_ids_are_dense(histories),
        checkers.histories_are_well_formed(histories),
        checkers.prefixes_stay_prefixes(scene.sampler.observations, histories),
        checkers.reads_never_go_backwards(scene.sampler.observations),
        checkers.Check("restarted nodes become ready again", "L5", counted=max(len(notes), 1), violations=trouble),
    ]
    if scene.faults and not options.quick and not trouble and await scene.cluster.status():
        for node in scene.cluster.nodes:
            checks.insert(7, await faults.own_copies(scene, started, histories, node))
    checks += scene.process_checks()
    scene.keep_evidence(histories, checks)
    figures = {
        "runs": len(started),
        "steps_a_run": steps,
        "starts_unknown": len(unknown),
        "attempts": len(attempts),
        "attempts_beyond_the_first": sum(1 for a in attempts if a.attempt > 1),
        "completions_acknowledged": sum(1 for a in attempts if a.acked is not None),
        "completions_unknown_at_first": sum(1 for a in attempts if "unknown" in a.statuses),
        "attempts_cut_off_by_a_timeout": sum(1 for a in attempts if a.outcome == "cancelled" or "refused" in a.statuses),
        "histories_sampled": scene.sampler.reads,
        "sampling_errors": scene.sampler.errors,
        "kills": len(notes),
        "kills_of_leaders": sum(1 for note in notes if note["led"]),
        "recovery_rate": await scene.cluster.metric("workflow_failure_recovery_rate"),
        "faults": notes,
    }
    return Verdict(name, checks, figures)


class _Load:
    """Keeps `OPEN_AT_ONCE` runs going until told how many are enough and the faults are over."""

    def __init__(self, scene: Scene, steps: int, started: dict[str, str], unknown: list[str]) -> None:
        self._scene = scene
        self._steps = steps
        self._started = started
        self._unknown = unknown
        self._next = 0
        self.enough: int | None = None
        self.done: set[str] = set()

    @property
    def closed(self) -> int:
        return len(self.done)

    async def run(self) -> None:
        """Returns when `enough` is set, that many were started, and their slots have emptied or stalled."""
        lanes = [asyncio.create_task(self._lane(number)) for number in range(OPEN_AT_ONCE)]
        try:
            await asyncio.gather(*lanes)
        finally:
            for lane in lanes:
                lane.cancel()

    async def _lane(self, number: int) -> None:
        scene = self._scene
        # Lanes begin one after another, so that runs are at different steps at any moment.
        await asyncio.sleep(number * 0.15)
        while self.enough is None or self._next < self.enough:
            wf = f"ledger-{self._next:04}"
            self._next += 1
            run = await scene.client.start(wf, "LedgerRun", {"steps": self._steps, "sleep_ms": 120})
            if run is None:
                self._unknown.append(wf)
                continue
            self._started[wf] = run
            scene.sampler.watch(wf, run)
            if not await scene.wait_closed({wf: run}, CLOSE_WITHIN_S):
                self.done.add(wf)
