"""catchup: a node is stopped, much history is written, the node comes back: it must catch up, by log or by snapshot.

History is made of signals with large payloads, spread over many runs so that none reaches its size limit. Caught up means
that `cluster status` shows the node's replica of every group at the leader's last log index. Then histories are compared byte by
byte from all nodes, and again while the node that was away leads every group, so that it answers from its own copy.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid

import grpc
from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest

from .. import checkers, faults
from ..api import NAMESPACE
from ..scene import Scene, Verdict, need

NAME = "catchup"
RUNS = 24
PAYLOAD_BYTES = (100_000, 1_000_000)
WRITERS = 4
CATCH_UP_WITHIN_S = 180.0


async def run(scene: Scene) -> Verdict:
    return await write_and_return(scene, NAME)


async def write_and_return(scene: Scene, name: str) -> Verdict:
    options = scene.options
    want = options.number(options.megabytes, 200, 30) * 1_000_000
    away = scene.cluster.nodes[-1]
    staying = [node for node in scene.cluster.nodes if node is not away]

    started: dict[str, str] = {}
    for number in range(max(RUNS, want // 20_000_000)):
        wf = f"bulk-{number:03}"
        run = await scene.client.start(wf, "Bulk", 0, task_queue="jepsen-nobody")
        need(run is not None, f"could not start {wf} on a healthy cluster")
        started[wf] = run

    if scene.faults:
        took = await away.process.terminate(20.0)
        scene.journal.fault("stop", {"node": away.name, "took_s": round(took, 3)})
    begin = time.monotonic()
    writer = _Writer(scene, list(started), [node.api for node in staying], want)
    await writer.run()
    wrote_s = time.monotonic() - begin
    scene.say(f"{writer.bytes / 1e6:.0f} MB in {writer.signals} signals written in {wrote_s:.0f} s while {away.name} was away")
    need(writer.bytes >= want, f"only {writer.bytes / 1e6:.0f} of {want / 1e6:.0f} MB could be written: {writer.errors}")

    trouble: list[str] = []
    figures: dict = {}
    if scene.faults:
        before = await scene.cluster.status(staying[0])
        begin = time.monotonic()
        try:
            figures["ready_after_s"] = round(await faults._back(scene, [away]), 3)
            figures["caught_up_after_s"] = round(await _caught_up(scene, away, begin), 3)
            scene.say(f"{away.name} ready after {figures['ready_after_s']} s, caught up after {figures['caught_up_after_s']} s")
        except (faults.NotBack, TimeoutError) as failure:
            trouble.append(str(failure))
        installed = await scene.cluster.metric("stanchion_snapshots_installed_total")
        figures["snapshots_installed"] = installed.get(away.name, 0)
        figures["lag_at_start"] = _lag(before, away.number)

    names = [node.name for node in scene.cluster.nodes]
    copies = await scene.read_everywhere(started)
    histories = {wf: by_node[names[0]] for wf, by_node in copies.items() if names[0] in by_node}
    checks = [
        checkers.acknowledged_starts_exist(scene.journal.ops, histories),
        _signals_are_there(writer, histories),
        checkers.histories_equal_on_all_nodes(copies, names),
        checkers.event_ids_are_dense(histories),
        checkers.histories_are_well_formed(histories),
        checkers.Check("the node comes back and catches up", "L5 B2", counted=1, violations=trouble),
    ]
    if scene.faults and not trouble:
        checks.append(await faults.own_copies(scene, started, histories, away))
    figures.update(
        {"megabytes": round(writer.bytes / 1e6, 1), "signals": writer.signals, "signals_unknown": writer.unknown, "wrote_s": round(wrote_s, 1), "runs": len(started)}
    )
    checks += scene.process_checks()[:1]
    scene.keep_evidence(histories, checks)
    return Verdict(name, checks, figures)


class _Writer:
    """Writes signals with random payloads until `want` bytes are acknowledged."""

    def __init__(self, scene: Scene, wfs: list[str], apis: list, want: int) -> None:
        self._scene = scene
        self._wfs = wfs
        self._apis = apis
        self._want = want
        self._next = 0
        self.bytes = 0
        self.signals = 0
        self.unknown = 0
        self.errors: dict[str, int] = {}
        self.acked: dict[str, list[int]] = {wf: [] for wf in wfs}

    async def run(self) -> None:
        await asyncio.gather(*(self._lane() for _ in range(WRITERS)))

    async def _lane(self) -> None:
        scene, failures = self._scene, 0
        while self.bytes < self._want and failures < 100:
            number, self._next = self._next, self._next + 1
            wf = self._wfs[number % len(self._wfs)]
            size = scene.chance.randint(*PAYLOAD_BYTES)
            request = SignalWorkflowExecutionRequest(
                namespace=NAMESPACE,
                workflow_execution=WorkflowExecution(workflow_id=wf),
                signal_name=f"bulk-{number}",
                # Random bytes: compression must not make 200 MB small.
                input=Payloads(payloads=[Payload(metadata={"encoding": b"binary/plain"}, data=os.urandom(size))]),
                request_id=str(uuid.uuid4()),
                identity="jepsen",
            )
            api = scene.chance.choice(self._apis)
            try:
                await api.call("SignalWorkflowExecution", request, 30.0)
            except grpc.aio.AioRpcError as error:
                name = f"{error.code().name}: {error.details()}"
                self.errors[name] = self.errors.get(name, 0) + 1
                self.unknown += 1
                failures += 1
                await asyncio.sleep(0.2)
                continue
            failures = 0
            self.bytes += size
            self.signals += 1
            self.acked[wf].append(number)


def _signals_are_there(writer: _Writer, histories: dict) -> checkers.Check:
    check = checkers.Check("every acknowledged signal is there once", "E1")
    for wf, numbers in writer.acked.items():
        names: dict[str, int] = {}
        for event in histories[wf].events if wf in histories else []:
            name = event.workflow_execution_signaled_event_attributes.signal_name
            names[name] = names.get(name, 0) + 1
        for number in numbers:
            check.counted += 1
            if names.get(f"bulk-{number}", 0) != 1:
                check.violations.append(f"{wf}: signal bulk-{number} is there {names.get(f'bulk-{number}', 0)} times")
    return check


def _lag(status: dict | None, number: int) -> dict:
    return {str(g["group"]): g["last_log"] - g.get("replicas", {}).get(str(number), 0) for g in (status or {}).get("groups", [])}


async def _caught_up(scene: Scene, node, begin: float) -> float:
    """Seconds from `begin` until every group shows `node` at the leader's last log index."""
    lag: dict = {}
    while time.monotonic() - begin < CATCH_UP_WITHIN_S:
        status = await scene.cluster.status()
        if status and status.get("groups"):
            lag = _lag(status, node.number)
            known = all(g.get("leader") for g in status["groups"])
            if known and all(behind <= 0 for behind in lag.values()):
                return time.monotonic() - begin
        await asyncio.sleep(0.2)
    raise TimeoutError(f"{node.name} did not catch up within {CATCH_UP_WITHIN_S:.0f} s; entries behind by group: {lag}")
