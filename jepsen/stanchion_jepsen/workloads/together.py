"""together: children, signals between runs, updates and schedules in the mix while each node in turn is killed with -9.

Parents run children, which do a step of the ledger and signal a collector; meanwhile clients send updates to the parents, and
schedules start runs every two seconds. Required: nothing lost, nothing doubled, and a schedule's actions exactly its nominal
times; and everything in `checkers` that concerns ledgers and histories.
"""

from __future__ import annotations

import asyncio
import calendar
import json
import time
import uuid

from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import ScheduleOverlapPolicy, UpdateWorkflowExecutionLifecycleStage
from temporalio.api.schedule.v1 import (
    IntervalSpec,
    Schedule,
    ScheduleAction,
    SchedulePatch,
    SchedulePolicies,
    ScheduleSpec,
    ScheduleState,
)
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.update.v1 import Input, Meta, Request, UpdateRef, WaitPolicy
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import request_response_pb2 as messages

from .. import checkers, checkers_together, faults, ledger
from ..api import NAMESPACE
from ..checkers_together import ScheduleEvidence
from ..client import json_payloads
from ..scene import Scene, Verdict, need
from ..workflows_together import child_id, expected_children, expected_tokens

NAME = "together"
COLLECTOR = "together-collector"
LANES = 6
CHILDREN = 4
UPDATES = 8
SCHEDULES = 3
EVERY_S = 2
CLOSE_WITHIN_S = 120.0
COMPLETED = UpdateWorkflowExecutionLifecycleStage.UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED


async def run(scene: Scene) -> Verdict:
    options = scene.options
    parents_least = options.number(options.runs, 60, 12)
    rounds = options.number(options.rounds, 3, 1)
    await scene.workers.begin()
    load = _Load(scene)
    sampling = asyncio.create_task(scene.sampler.run())
    notes: list[dict] = []
    trouble: list[str] = []
    try:
        collector = await scene.client.start(COLLECTOR, "TogetherCollector", {})
        need(collector is not None, "the collector could not be started")
        await load.make_schedules()
        loading = asyncio.create_task(load.run())
        try:
            if scene.faults:
                try:
                    notes = await faults.kill_rounds(scene, rounds)
                except faults.NotBack as failure:
                    trouble.append(str(failure))
            load.enough = parents_least
            await loading
            # A few times without faults, so that whatever was missed has had its chance to be caught up with.
            await asyncio.sleep(3 * EVERY_S)
            await load.pause_schedules()
            scene.say(f"{len(load.parents)} parents started; waiting for them")
            await scene.wait_closed(load.parents, CLOSE_WITHIN_S)
            expected = expected_tokens(sorted(load.parents), CHILDREN)
            await scene.client.signal(COLLECTOR, "finish", len(expected), "end", total_s=60.0)
            await scene.wait_closed({COLLECTOR: collector}, CLOSE_WITHIN_S)
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
    finally:
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)

    schedules = await load.schedule_evidence()
    names = [child_id(wf, number) for wf in load.parents for number in range(CHILDREN)]
    runs_of = await load.runs_of(names)
    asked_again = await load.ask_again()
    runs = {**load.parents, COLLECTOR: collector, **{wf: found[0] for wf, found in runs_of.items() if found}}
    copies = await scene.read_everywhere(runs)
    nodes = [node.name for node in scene.cluster.nodes]
    histories = {wf: by_node[nodes[0]] for wf, by_node in copies.items() if nodes[0] in by_node}
    parents = {wf: histories[wf] for wf in load.parents if wf in histories}
    children = {wf: histories[wf] for wf in names if wf in histories}
    attempts = ledger.load(scene.out)
    results = {wf: history.result() for wf, history in parents.items()}
    checks = [
        checkers.acknowledged_starts_exist(scene.journal.ops, histories),
        checkers.Check(
            "all parents complete with their children's results",
            "C4 G1",
            counted=len(load.parents),
            violations=[
                f"{wf}: result {results.get(wf)!r}"
                for wf in load.parents
                if not isinstance(results.get(wf), dict) or results[wf]["children"] != expected_children(wf, CHILDREN)
            ],
        ),
        checkers_together.children_once(parents, children, runs_of),
        checkers_together.messages_once({**parents, **children}, histories.get(COLLECTOR), expected),
        checkers_together.updates_once(scene.journal.ops, parents, asked_again),
        checkers_together.schedules_exact(schedules),
        checkers.ledger_matches_histories(attempts, histories),
        checkers.acknowledged_steps_stay_done(attempts),
        checkers.attempts_do_not_overlap(attempts),
        checkers.attempts_are_handed_out_once(attempts),
        checkers.histories_equal_on_all_nodes(copies, nodes),
        checkers.event_ids_are_dense(histories),
        checkers.histories_are_well_formed(histories),
        checkers.prefixes_stay_prefixes(scene.sampler.observations, histories),
        checkers.reads_never_go_backwards(scene.sampler.observations),
        checkers.Check("restarted nodes become ready again", "L5", counted=max(len(notes), 1), violations=trouble),
        *scene.process_checks(),
    ]
    scene.keep_evidence(histories, checks)
    ops = [op for op in scene.journal.ops if op.process != "nemesis"]
    figures = {
        "parents": len(load.parents),
        "children": len(children),
        "operations": {f"{f}:{t}": sum(1 for op in ops if op.f == f and op.type == t) for f in ("start", "update") for t in ("ok", "fail", "info")},
        "updates_asked_again": len(asked_again),
        "scheduled_runs": sum(len(each.nominal) for each in schedules),
        "histories_sampled": scene.sampler.reads,
        "kills": len(notes),
        "faults": notes,
    }
    return Verdict(NAME, checks, figures)


class _Load:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._next_parent = 0
        self._next_value = 0
        self.enough: int | None = None
        self.parents: dict[str, str] = {}
        # Update id -> the parent that it went to, of those that were acknowledged.
        self._acknowledged: dict[str, str] = {}
        self._made: dict[str, tuple[float, float]] = {}
        self._paused: dict[str, tuple[float, float]] = {}

    async def run(self) -> None:
        lanes = [asyncio.create_task(self._lane(number)) for number in range(LANES)]
        try:
            await asyncio.gather(*lanes)
        finally:
            for lane in lanes:
                lane.cancel()

    async def _lane(self, number: int) -> None:
        scene = self._scene
        await asyncio.sleep(number * 0.3)
        while self.enough is None or self._next_parent < self.enough:
            wf = f"together-{self._next_parent:04}"
            self._next_parent += 1
            run = await scene.client.start(wf, "TogetherParent", {"children": CHILDREN, "collector": COLLECTOR, "sleep_ms": 120})
            # A start of unknown outcome would leave children that nobody expects; with the same request id it is asked for once more.
            need(run is not None, f"{wf}: its start was never answered")
            self.parents[wf] = run
            scene.sampler.watch(wf, run, updated=True)
            for number in range(UPDATES):
                value = self._next_value
                self._next_value += 1
                await self._update(wf, -1 - value if number == 5 else value)
                await asyncio.sleep(0.05 + 0.2 * scene.chance.random())
            await scene.client.signal(wf, "finish", 0, "end", total_s=60.0)

    async def _update(self, wf: str, value: int) -> None:
        """One update, tried under the same id until it is answered."""
        scene = self._scene
        update_id = str(uuid.uuid4())
        op = scene.journal.invoke(scene.journal.new_process(), "update", {"wf": wf, "n": value, "id": update_id})
        request = messages.UpdateWorkflowExecutionRequest(
            namespace=NAMESPACE,
            workflow_execution=WorkflowExecution(workflow_id=wf),
            wait_policy=WaitPolicy(lifecycle_stage=COMPLETED),
            request=Request(meta=Meta(update_id=update_id, identity="jepsen"), input=Input(name="push", args=json_payloads(value))),
        )
        stop = time.monotonic() + 60.0
        while True:
            kind, response, error = await scene.client._try("UpdateWorkflowExecution", request, stop - time.monotonic())
            if kind != "ok" or response.HasField("outcome"):
                break
        if kind != "ok":
            scene.journal.finish(op, kind, error=error)
            return
        told = {"wf": wf, "n": value, "id": update_id}
        if response.outcome.HasField("failure"):
            scene.journal.finish(op, "ok", {**told, "rejected": True})
        else:
            self._acknowledged[update_id] = wf
            scene.journal.finish(op, "ok", {**told, "place": json.loads(response.outcome.success.payloads[0].data)})

    async def ask_again(self) -> dict[str, object]:
        """The outcome of acknowledged updates, asked for again after the runs closed."""
        out: dict[str, object] = {}
        for update_id, wf in list(self._acknowledged.items())[:200]:
            reference = UpdateRef(workflow_execution=WorkflowExecution(workflow_id=wf), update_id=update_id)
            request = messages.PollWorkflowExecutionUpdateRequest(
                namespace=NAMESPACE, update_ref=reference, identity="jepsen", wait_policy=WaitPolicy(lifecycle_stage=COMPLETED)
            )
            kind, response, error = await self._scene.client._try("PollWorkflowExecutionUpdate", request, 15.0)
            out[update_id] = json.loads(response.outcome.success.payloads[0].data) if kind == "ok" else f"{kind}: {error}"
        return out

    # --- schedules ------------------------------------------------------------------------------------------------------

    async def make_schedules(self) -> None:
        for number in range(SCHEDULES):
            name = f"together-schedule-{number}"
            action = NewWorkflowExecutionInfo(
                workflow_id=f"tick-{number}",
                workflow_type=WorkflowType(name="TogetherTick"),
                task_queue=TaskQueue(name=self._scene.task_queue),
            )
            schedule = Schedule(
                spec=ScheduleSpec(interval=[IntervalSpec(interval=Duration(seconds=EVERY_S))]),
                action=ScheduleAction(start_workflow=action),
                policies=SchedulePolicies(overlap_policy=ScheduleOverlapPolicy.SCHEDULE_OVERLAP_POLICY_ALLOW_ALL),
                state=ScheduleState(),
            )
            request = messages.CreateScheduleRequest(
                namespace=NAMESPACE, schedule_id=name, schedule=schedule, request_id=str(uuid.uuid4()), identity="jepsen"
            )
            asked = time.time()
            kind, _, error = await self._scene.client._try("CreateSchedule", request, 30.0)
            need(kind == "ok", f"schedule {name} could not be made: {error}")
            self._made[name] = (asked, time.time())

    async def pause_schedules(self) -> None:
        for name in self._made:
            request = messages.PatchScheduleRequest(
                namespace=NAMESPACE, schedule_id=name, patch=SchedulePatch(pause="over"), request_id=str(uuid.uuid4()), identity="jepsen"
            )
            asked = time.time()
            kind, _, error = await self._scene.client._try("PatchSchedule", request, 60.0)
            need(kind == "ok", f"schedule {name} could not be paused: {error}")
            # The real server takes a patch in the background; a paused description is what counts.
            while not (await self._describe(name)).schedule.state.paused:
                await asyncio.sleep(0.1)
            self._paused[name] = (asked, time.time())

    async def _describe(self, name: str):
        request = messages.DescribeScheduleRequest(namespace=NAMESPACE, schedule_id=name)
        kind, response, error = await self._scene.client._try("DescribeSchedule", request, 30.0)
        need(kind == "ok", f"schedule {name} cannot be described: {error}")
        return response

    async def schedule_evidence(self) -> list[ScheduleEvidence]:
        out = []
        for number, name in enumerate(self._made):
            prefix = f"tick-{number}-"
            # Acting may lag behind a pause by a moment: look until two looks agree.
            before: list[str] | None = None
            while before != (before := sorted(await self._listed(f"WorkflowId STARTS_WITH '{prefix}'"))):
                await asyncio.sleep(2.0)
            nominal = tuple(calendar.timegm(time.strptime(wf.removeprefix(prefix), "%Y-%m-%dT%H:%M:%SZ")) for wf in before)
            count = (await self._describe(name)).info.action_count
            out.append(ScheduleEvidence(name, EVERY_S, *self._made[name], *self._paused[name], nominal, count))
        return out

    async def _listed(self, query: str) -> list[str]:
        """The workflow ids of all runs that a filter matches, one entry a run."""
        return [wf for wf, _ in await self._listed_runs(query)]

    async def _listed_runs(self, query: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        token = b""
        while True:
            request = messages.ListWorkflowExecutionsRequest(namespace=NAMESPACE, query=query, page_size=500, next_page_token=token)
            kind, response, error = await self._scene.client._try("ListWorkflowExecutions", request, 30.0)
            need(kind == "ok", f"cannot list {query}: {error}")
            found += [(each.execution.workflow_id, each.execution.run_id) for each in response.executions]
            token = response.next_page_token
            if not token:
                return found

    async def runs_of(self, names: list[str]) -> dict[str, list[str]]:
        """Every run of every child's id, by the list; the list must hold what is closed by now."""
        wanted = set(names)
        out: dict[str, list[str]] = {}
        for _ in range(20):
            out = {}
            for wf, run in await self._listed_runs("WorkflowType = 'TogetherChild'"):
                out.setdefault(wf, []).append(run)
            if wanted <= set(out):
                break
            # The real server lists what it wrote some time later.
            await asyncio.sleep(0.5)
        return out


