"""kill-all: all nodes killed with -9 at once under load, and restarted; nothing that was acknowledged may be missing.

Load is starts, signals (each lane one sender per run, unique integers), queries, and the completions of the steps that the
signals set off. After the last restart every run is told to finish; then journal and ledger are held against the histories.
"""

from __future__ import annotations

import asyncio

from .. import checkers, faults, ledger
from ..scene import Scene, Verdict

NAME = "kill-all"
LANES = 8
SIGNALS_A_RUN = 12
STEPS_A_RUN = 3
CLOSE_WITHIN_S = 90.0


async def run(scene: Scene) -> Verdict:
    options = scene.options
    rounds = options.number(options.rounds, 5, 1)
    await scene.workers.begin()
    load = _Load(scene)
    sampling = asyncio.create_task(scene.sampler.run())
    loading = asyncio.create_task(load.run())
    notes: list[dict] = []
    trouble: list[str] = []
    acked_before_kill: list[int] = []
    try:
        for _ in range(rounds):
            already = len(scene.client.acks)
            # Under load means: acknowledged writes within this round, from every kind of operation.
            while len(scene.client.acks) < already + 250:
                await asyncio.sleep(0.1)
                if loading.done():
                    loading.result()
            await asyncio.sleep(0.5 * scene.chance.random())
            acked_before_kill.append(len(scene.client.acks) - already)
            if scene.faults:
                try:
                    notes.append(await faults.kill_all_and_restart(scene, 0.5 + scene.chance.random()))
                except faults.NotBack as failure:
                    trouble.append(str(failure))
                    break
        load.stop = True
        await loading
        scene.say(f"{len(load.started)} runs started, {len(scene.client.acks)} operations acknowledged; telling all runs to finish")
        await load.finish_all()
        await scene.wait_closed(load.started, CLOSE_WITHIN_S)
    finally:
        loading.cancel()
        sampling.cancel()
        await asyncio.gather(loading, sampling, return_exceptions=True)

    runs = dict(load.started)
    # A start of unknown outcome may have happened; its run is judged like any other.
    for wf in load.unknown:
        for api in scene.apis:
            try:
                runs[wf] = await api.current_run(wf)
                break
            except Exception:  # noqa: BLE001 - not there, which is allowed
                continue
    copies = await scene.read_everywhere(runs)
    names = [node.name for node in scene.cluster.nodes]
    histories = {wf: by_node[names[0]] for wf, by_node in copies.items() if names[0] in by_node}
    attempts = ledger.load(scene.out)
    closed = {wf: history for wf, history in histories.items() if wf in load.started}
    checks = [
        checkers.acknowledged_starts_exist(scene.journal.ops, histories),
        checkers.acknowledged_signals_exist_once(scene.journal.ops, histories),
        checkers.ledger_matches_histories(attempts, histories),
        checkers.results_match_signals(histories),
        checkers.queries_see_own_writes(scene.journal.ops),
        checkers.acknowledged_steps_stay_done(attempts),
        checkers.attempts_do_not_overlap(attempts),
        checkers.attempts_are_handed_out_once(attempts),
        checkers.histories_equal_on_all_nodes(copies, names),
        checkers.event_ids_are_dense(histories),
        checkers.histories_are_well_formed(histories),
        checkers.prefixes_stay_prefixes(scene.sampler.observations, histories),
        checkers.reads_never_go_backwards(scene.sampler.observations),
        checkers.Check(
            "all runs complete",
            "C4",
            counted=len(load.started),
            violations=[f"{wf}: not completed" for wf in load.started if wf not in closed or closed[wf].result() is None],
        ),
        checkers.Check("restarted nodes become ready again", "L5", counted=max(len(notes), 1), violations=trouble),
        *scene.process_checks(),
    ]
    scene.keep_evidence(histories, checks)
    kinds = [op for op in scene.journal.ops if op.process != "nemesis"]
    figures = {
        "runs": len(load.started),
        "operations": {f"{f}:{t}": sum(1 for op in kinds if op.f == f and op.type == t) for f in ("start", "signal", "query", "finish") for t in ("ok", "fail", "info")},
        "completions_acknowledged": sum(1 for a in attempts if a.acked is not None),
        "acknowledged_between_kills": acked_before_kill,
        "histories_sampled": scene.sampler.reads,
        "faults": notes,
    }
    return Verdict(NAME, checks, figures)


class _Load:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._next_run = 0
        self._next_value = 0
        self.stop = False
        self.started: dict[str, str] = {}
        self.unknown: list[str] = []

    async def run(self) -> None:
        lanes = [asyncio.create_task(self._lane()) for _ in range(LANES)]
        try:
            await asyncio.gather(*lanes)
        finally:
            for lane in lanes:
                lane.cancel()

    async def _lane(self) -> None:
        scene = self._scene
        while not self.stop:
            wf = f"signals-{self._next_run:04}"
            self._next_run += 1
            run = await scene.client.start(wf, "SignalList", {"steps": STEPS_A_RUN, "sleep_ms": 60})
            if run is None:
                self.unknown.append(wf)
                continue
            self.started[wf] = run
            scene.sampler.watch(wf, run)
            # Two senders at once: each keeps its own order, nothing is promised between them.
            await asyncio.gather(self._sender(wf, "a"), self._sender(wf, "b"))
            if scene.chance.random() < 0.3:
                await scene.client.query(wf)

    async def _sender(self, wf: str, sender: str) -> None:
        scene = self._scene
        for _ in range(SIGNALS_A_RUN // 2):
            value = self._next_value
            self._next_value += 1
            await scene.client.signal(wf, "add", value, f"{wf}/{sender}")
            await asyncio.sleep(0.02 + 0.1 * scene.chance.random())
            if self.stop:
                return

    async def finish_all(self) -> None:
        gate = asyncio.Semaphore(8)

        async def finish(wf: str) -> None:
            async with gate:
                await self._scene.client.signal(wf, "finish", 0, "end", total_s=60.0)

        await asyncio.gather(*(finish(wf) for wf in self.started))
