"""The nemesis: kills nodes and brings them back, and notes each of it in the journal.

Only through the process handles of `cluster`. Never leaves a node down: each fault ends with the node being ready again. That it
becomes ready within the bound is itself required (a node that does not come back is a violation, not a broken test).
"""

from __future__ import annotations

import asyncio
import time

import grpc

from . import checkers
from .checkers import Check
from .cluster import READY_WITHIN_S, Node
from .history import RunHistory
from .processes import HarnessError
from .scene import Scene


class NotBack(Exception):
    """A restarted node did not become ready in time."""


async def _back(scene: Scene, nodes: list[Node]) -> float:
    begin = time.monotonic()
    for node in nodes:
        if not node.process.running:
            node.process.start()
    try:
        await scene.cluster.wait_ready(nodes, READY_WITHIN_S)
    except HarnessError as error:
        raise NotBack(str(error)) from error
    return time.monotonic() - begin


async def kill_and_restart(scene: Scene, node: Node, down_s: float) -> dict:
    led = (await scene.cluster.led_groups())[node.number]
    scene.journal.fault("kill", {"node": node.name, "led": led})
    node.process.kill()
    await asyncio.sleep(down_s)
    back_s = await _back(scene, [node])
    scene.journal.fault("restart", {"node": node.name, "ready_after_s": round(back_s, 3)})
    scene.say(f"killed {node.name} (led {led}), down {down_s:.1f} s, ready {back_s:.1f} s after its restart")
    return {"node": node.name, "led": led, "down_s": round(down_s, 3), "ready_after_s": round(back_s, 3)}


async def kill_all_and_restart(scene: Scene, down_s: float) -> dict:
    scene.journal.fault("kill-all", {"nodes": [node.name for node in scene.cluster.nodes]})
    for node in scene.cluster.nodes:
        # All signals first, so that no node sees another one die and has time to act on it.
        node.process.kill_without_waiting()
    for node in scene.cluster.nodes:
        node.process.child.wait()
    await asyncio.sleep(down_s)
    back_s = await _back(scene, scene.cluster.nodes)
    scene.journal.fault("restart-all", {"ready_after_s": round(back_s, 3)})
    scene.say(f"killed all nodes, down {down_s:.1f} s, all ready {back_s:.1f} s after the restart")
    return {"down_s": round(down_s, 3), "ready_after_s": round(back_s, 3)}


async def kill_rounds(scene: Scene, rounds: int) -> list[dict]:
    """Each node in turn, `rounds` times: down for one to three seconds, then three seconds of peace."""
    notes = []
    for _ in range(rounds):
        for node in scene.cluster.nodes:
            await asyncio.sleep(3.0)
            notes.append(await kill_and_restart(scene, node, 1.0 + 2.0 * scene.chance.random()))
    return notes


async def pause_rounds(scene: Scene, rounds: int) -> list[dict]:
    """Each node in turn stands still for longer than any lease or election, and wakes up believing what it believed."""
    notes = []
    for _ in range(rounds):
        for node in scene.cluster.nodes:
            await asyncio.sleep(3.0)
            led = (await scene.cluster.led_groups())[node.number]
            still_s = 4.0 + 3.0 * scene.chance.random()
            scene.journal.fault("pause", {"node": node.name, "led": led})
            node.process.pause()
            try:
                await asyncio.sleep(still_s)
            finally:
                node.process.resume()
            back_s = await _back(scene, [node])
            scene.journal.fault("resume", {"node": node.name, "ready_after_s": round(back_s, 3)})
            scene.say(f"{node.name} (led {led}) stood still for {still_s:.1f} s, ready {back_s:.1f} s after that")
            notes.append({"node": node.name, "led": led, "still_s": round(still_s, 3), "ready_after_s": round(back_s, 3)})
    return notes


async def own_copies(scene: Scene, runs: dict[str, str], histories: dict[str, RunHistory], node: Node) -> Check:
    """Reads every history from `node` while it leads, so that it answers from its own copy, and compares it with `histories`."""
    not_led = await lead_everything(scene, node)
    own: dict[str, dict[str, RunHistory]] = {wf: {"before": history} for wf, history in histories.items()}
    for wf in histories:
        stop = time.monotonic() + 30.0
        while time.monotonic() < stop:
            try:
                own[wf][node.name] = await node.api.history(wf, runs[wf], 20.0)
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.2)
    check = checkers.histories_equal_on_all_nodes(own, ["before", node.name])
    check.name = f"{node.name}'s own copies are byte-equal"
    check.note = f"it could not be made to lead groups {not_led}" if not_led else "read while it led every group"
    return check


async def lead_everything(scene: Scene, target: Node, rounds: int = 6) -> list[int]:
    """Stops the other nodes in turn (each hands its leadership over) until `target` leads all groups; those it does not lead then.

    A strong read is answered by a group's leader, so only a node that leads shows its own copy of a history.
    """
    others = [node for node in scene.cluster.nodes if node is not target]
    left: list[int] = []
    for attempt in range(rounds):
        led = await scene.cluster.led_groups()
        left = sorted(group for number, groups in led.items() if number != target.number for group in groups)
        if not left and led[target.number]:
            return []
        node = others[attempt % len(others)]
        took = await node.process.terminate(20.0)
        await asyncio.sleep(2.0)
        scene.journal.fault("stop", {"node": node.name, "took_s": round(took, 3)})
        await _back(scene, [node])
    led = await scene.cluster.led_groups()
    return sorted(group for number, groups in led.items() if number != target.number for group in groups)
