"""batch: a batch operation signals a few hundred runs while the node that leads its job is killed with -9, again and again.

The node that takes the job's group over goes on with the page that was being worked on, and does it again: each run must have the signal
once all the same, and the counts must be the number of runs. Nobody works on the runs, so nothing else is in their histories.
"""

from __future__ import annotations

import asyncio
import time

import grpc
from temporalio.api.batch.v1 import BatchOperationSignal
from temporalio.api.enums.v1 import BatchOperationState, EventType
from temporalio.api.workflowservice.v1 import DescribeBatchOperationRequest, StartBatchOperationRequest

from .. import checkers, faults, slots
from ..api import NAMESPACE, REFUSED
from ..checkers import Check
from ..scene import Scene, Verdict, need

NAME = "batch"
JOB = "jepsen-job"
SIGNAL = "once"
# Nobody else's runs.
KIND = "Signalled"
AT_ONCE = 16
STALLED_AFTER_S = 60.0
# A page is worked on over a second: so long after a step was recorded, the next one is in the middle.
MID_PAGE_S = 0.4


async def run(scene: Scene) -> Verdict:
    options = scene.options
    count = options.number(options.runs, 900, 300)
    kills = options.number(options.kills, 6, 2) if scene.faults else 0
    runs = await _start_runs(scene, count)
    group = (await slots.finder(scene.apis[0], options.groups))(JOB)
    request = StartBatchOperationRequest(
        namespace=NAMESPACE,
        job_id=JOB,
        reason=NAME,
        visibility_query=f"WorkflowType = '{KIND}'",
        signal_operation=BatchOperationSignal(signal=SIGNAL),
    )
    await scene.apis[0].call("StartBatchOperation", request, 10.0)
    trouble: list[str] = []
    stalls: list[float] = []
    for number in range(1, kills + 1):
        await _described(scene, lambda job, number=number: job.complete_operation_count >= number * count // (kills + 1))
        await asyncio.sleep(MID_PAGE_S)
        leader = [node for node in scene.cluster.nodes if group in (await scene.cluster.led_groups())[node.number]]
        if not leader:
            trouble.append(f"kill {number}: nobody leads group {group}")
            break
        now = await _described(scene, lambda _: True)
        need(not _is_over(now), f"kill {number}: the job is over already; more runs are needed")
        before = now.complete_operation_count
        scene.journal.fault("kill", {"node": leader[0].name, "recorded": before})
        at = time.monotonic()
        leader[0].process.kill()
        await _described(scene, lambda job, before=before: job.complete_operation_count > before or _is_over(job))
        stalls.append(round(time.monotonic() - at, 3))
        try:
            back_s = await faults._back(scene, leader)
        except faults.NotBack as failure:
            trouble.append(str(failure))
            break
        scene.journal.fault("restart", {"node": leader[0].name, "ready_after_s": round(back_s, 3)})
        scene.say(f"kill {number} of {leader[0].name} at {before} of {count}: the next step was recorded {stalls[-1]:.2f} s later")
    job = await _described(scene, _is_over)
    scene.say(f"the job is over: {job.complete_operation_count} of {job.total_operation_count}; reading {count} histories")
    copies = await scene.read_everywhere(runs)
    names = [node.name for node in scene.cluster.nodes]
    histories = {wf: by_node[names[0]] for wf, by_node in copies.items() if names[0] in by_node}
    checks = [
        _signalled_once(histories, runs),
        _counts_are_exact(job, count),
        checkers.histories_equal_on_all_nodes(copies, names),
        checkers.event_ids_are_dense(histories),
        Check("killed nodes become ready again", "L5", counted=max(len(stalls), 1), violations=trouble),
        *scene.process_checks()[:1],
    ]
    scene.keep_evidence(histories, checks)
    took = (job.close_time.ToNanoseconds() - job.start_time.ToNanoseconds()) / 1e9
    return Verdict(NAME, checks, {"runs": count, "kills": len(stalls), "step_after_kill_s": stalls, "took_s": round(took, 3)})


async def _start_runs(scene: Scene, count: int) -> dict[str, str]:
    gate = asyncio.Semaphore(AT_ONCE)
    runs: dict[str, str] = {}

    async def start(wf: str) -> None:
        async with gate:
            started = await scene.client.start(wf, KIND, 0, total_s=30.0, task_queue="jepsen-nobody")
            if started is not None:
                runs[wf] = started

    await asyncio.gather(*(start(f"batch-{number:05}") for number in range(count)))
    return runs


def _is_over(job) -> bool:
    return job.state != BatchOperationState.BATCH_OPERATION_STATE_RUNNING


async def _described(scene: Scene, wanted):
    """The job once it is as wanted, from any node that answers."""
    request = DescribeBatchOperationRequest(namespace=NAMESPACE, job_id=JOB)
    until = time.monotonic() + STALLED_AFTER_S
    while True:
        try:
            job = await scene.chance.choice(scene.apis).call("DescribeBatchOperation", request, 3.0)
            if wanted(job):
                return job
        except grpc.aio.AioRpcError as error:
            if error.code() in REFUSED:
                raise
        if time.monotonic() > until:
            raise TimeoutError(f"the batch operation stands still for {STALLED_AFTER_S:.0f} s")
        await asyncio.sleep(0.05)


def _signalled_once(histories, runs: dict[str, str]) -> Check:
    check = Check("each run is signalled exactly once", "E1")
    for wf in runs:
        check.counted += 1
        events = histories[wf].events if wf in histories else []
        found = [event for event in events if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED]
        if len(found) != 1:
            check.violations.append(f"{wf}: {len(found)} signals")
    return check


def _counts_are_exact(job, count: int) -> Check:
    check = Check("the job's counts are the number of runs", "E1", counted=1)
    told = (job.state, job.total_operation_count, job.complete_operation_count, job.failure_operation_count)
    if told != (BatchOperationState.BATCH_OPERATION_STATE_COMPLETED, count, count, 0):
        check.violations.append(f"{JOB}: state, total, completed, failed are {told}, of {count} runs")
    return check
