"""failover: kills of a node that leads groups, under steady starts to the nodes that survive; how long nothing is accepted.

Starts go out at a steady rate whether or not earlier ones were answered, each with a fresh workflow id, to the groups in turn:
by chance alone a group would now and then be left out for half a second, which would look like a stall.
The stall of a group is the longest time without an acknowledged start in it around a kill, as the clients of the surviving nodes
see it; the stall of a kill is that of its worst group. Which group a workflow id belongs to is computed by `slots`.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time

from .. import checkers, faults, slots
from ..scene import Scene, Verdict, need

NAME = "failover"
RATE_PER_S = 64
SETTLE_S = 3.0
OBSERVE_S = 8.0
MEDIAN_MAX_S = 1.5
MAX_S = 3.0


async def run(scene: Scene) -> Verdict:
    options = scene.options
    need(scene.faults, "failover without faults shows nothing: not with --control, and only against stanchion")
    kills = options.number(options.kills, 20, 3)
    group_of = await slots.proven_finder(scene)
    load = _Load(scene, group_of)
    rows: list[dict] = []
    trouble: list[str] = []
    loading = asyncio.create_task(load.run())
    try:
        for number in range(1, kills + 1):
            led = await scene.cluster.led_groups()
            # The node that leads most; among equals, by chance.
            victim = max(scene.cluster.nodes, key=lambda node: (len([g for g in led[node.number] if g != 0]), scene.chance.random()))
            affected = [group for group in led[victim.number] if group != 0]
            need(bool(affected), f"kill {number}: no node leads a group: {led}")
            load.avoid = victim.api
            await asyncio.sleep(SETTLE_S)
            settled = {group for at, group in load.acks if at > time.monotonic() - SETTLE_S}
            need(set(affected) <= settled, f"kill {number}: no start was acknowledged before it in groups {sorted(set(affected) - settled)}; all groups healthy?")
            scene.journal.fault("kill", {"node": victim.name, "led": led[victim.number]})
            at = time.monotonic()
            victim.process.kill()
            await asyncio.sleep(OBSERVE_S)
            until = time.monotonic()
            row = _measure(load.acks, at, until, affected)
            row.update({"kill": number, "node": victim.name, "led_meta": 0 in led[victim.number]})
            try:
                row["ready_after_s"] = round(await faults._back(scene, [victim]), 3)
            except faults.NotBack as failure:
                trouble.append(str(failure))
                rows.append(row)
                break
            scene.journal.fault("restart", {"node": victim.name, "ready_after_s": row["ready_after_s"]})
            rows.append(row)
            scene.say(f"kill {number} of {victim.name} (led {len(affected)}): worst group {row['worst_s']:.2f} s, any write {row['overall_s']:.2f} s")
            load.avoid = None
    finally:
        load.stop = True
        await asyncio.gather(loading, return_exceptions=True)

    scene.say(f"{len(load.started)} starts acknowledged; checking that they are there")
    sample = dict(random.Random(options.seed).sample(sorted(load.started.items()), min(len(load.started), 600)))
    copies = await scene.read_everywhere(sample)
    names = [node.name for node in scene.cluster.nodes]
    histories = {wf: by_node[names[0]] for wf, by_node in copies.items() if names[0] in by_node}
    looked_at = [op for op in scene.journal.ops if op.f == "start" and op.value["wf"] in sample]
    worst = [row["worst_s"] for row in rows]
    checks = [
        checkers.stalls_within(worst, MEDIAN_MAX_S, MAX_S),
        checkers.acknowledged_starts_exist(looked_at, histories),
        checkers.histories_equal_on_all_nodes(copies, names),
        checkers.event_ids_are_dense(histories),
        checkers.Check("restarted nodes become ready again", "L5", counted=len(rows), violations=trouble),
        *scene.process_checks()[:1],
    ]
    groups = [stall for row in rows for stall in row["groups_s"].values()]
    figures = {
        "kills": len(rows),
        "starts_acknowledged": len(load.started),
        "starts_not_acknowledged": load.lost,
        "worst_group_median_s": round(checkers.median(worst), 3),
        "worst_group_max_s": round(max(worst), 3),
        "every_group_median_s": round(checkers.median(groups), 3),
        "any_write_median_s": round(checkers.median([row["overall_s"] for row in rows]), 3),
        "any_write_max_s": round(max(row["overall_s"] for row in rows), 3),
        "per_kill": rows,
    }
    scene.keep_evidence(histories, checks)
    return Verdict(NAME, checks, figures, [_table(rows)])


def _measure(acks: list[tuple[float, int]], kill: float, until: float, affected: list[int]) -> dict:
    """Stalls around one kill: per affected group, the worst of them, and of all writes together."""
    recent = [(at, group) for at, group in acks if at > kill - SETTLE_S]
    groups = {g: round(checkers.longest_gap([at for at, group in recent if group == g], kill, until), 3) for g in affected}
    return {
        "groups_s": groups,
        "worst_s": max(groups.values()),
        "overall_s": round(checkers.longest_gap([at for at, _ in recent], kill, until), 3),
        "usual_s": round(_usual([at for at, group in recent if group in groups and at < kill]) * len(groups), 3),
    }


def _usual(times: list[float]) -> float:
    """The mean time between two successes before the kill: what a stall cannot be told apart from."""
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0


def _table(rows: list[dict]) -> str:
    lines = [
        "  | kill | node | groups led | worst group, s | median group, s | any write, s | usual gap in a group, s | ready after restart, s |",
        "  |---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        groups = list(row["groups_s"].values())
        meta = " + meta" if row["led_meta"] else ""
        lines.append(
            f"  | {row['kill']} | {row['node']} | {len(groups)}{meta} | {row['worst_s']:.2f} | {checkers.median(groups):.2f} | {row['overall_s']:.2f}"
            f" | {row['usual_s']:.2f} | {row.get('ready_after_s', float('nan')):.2f} |"
        )
    worst, overall = [row["worst_s"] for row in rows], [row["overall_s"] for row in rows]
    groups = [stall for row in rows for stall in row["groups_s"].values()]
    lines.append(f"  | median | | | **{checkers.median(worst):.2f}** | {checkers.median(groups):.2f} | {checkers.median(overall):.2f} | | |")
    lines.append(f"  | maximum | | | **{max(worst):.2f}** | {max(groups):.2f} | {max(overall):.2f} | | |")
    return "\n".join(lines)


class _Load:
    """Open-loop starts: one every 1/RATE s, each tried until acknowledged, on any node but the one to be killed."""

    def __init__(self, scene: Scene, group_of) -> None:
        self._scene = scene
        self._group_of = group_of
        self.avoid = None
        self.stop = False
        self.acks: list[tuple[float, int]] = []
        self.started: dict[str, str] = {}
        self.lost = 0

    async def run(self) -> None:
        pending: set[asyncio.Task] = set()
        due = time.monotonic()
        for wf in self._ids_to_each_group_in_turn():
            if self.stop:
                break
            task = asyncio.create_task(self._start(wf))
            pending.add(task)
            task.add_done_callback(pending.discard)
            due += 1 / RATE_PER_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.gather(*pending)

    def _ids_to_each_group_in_turn(self):
        waiting: dict[int, list[str]] = {group: [] for group in range(1, self._scene.options.groups + 1)}
        numbers = itertools.count()
        for group in itertools.cycle(waiting):
            while not waiting[group]:
                wf = f"failover-{next(numbers):06}"
                waiting[self._group_of(wf)].append(wf)
            yield waiting[group].pop()

    async def _start(self, wf: str) -> None:
        # Nobody polls this queue: a start is the write, and nothing else happens.
        run = await self._scene.client.start(wf, "Never", 0, total_s=20.0, apis=self._allowed, task_queue="jepsen-nobody")
        if run is None:
            self.lost += 1
            return
        self.acks.append((time.monotonic(), self._group_of(wf)))
        self.started[wf] = run

    def _allowed(self):
        return [api for api in self._scene.apis if api is not self.avoid]
