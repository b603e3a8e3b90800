"""Batch operations: started over a filter or a list of runs, described, listed, stopped; each kind of operation; refusals."""

import asyncio
import contextlib
import uuid
from typing import Any

from differential.env import TASK_SECONDS_MAX, Env, command
from differential.registry import scenario
from differential.shelf import Shelf
from harness.wire import Refusal, payload, payloads

COMPLETED = 2
FAILED = 3


async def runs(env: Env, count: int = 3) -> Shelf:
    """Open runs w0 … of a namespace of its own, and one of another type."""
    shelf = await Shelf.made(env, custom=False)
    for number in range(count):
        await shelf.start(f"w{number}")
    await shelf.start("stranger", kind="Other")
    await shelf.settle(count + 1, open=count + 1)
    return shelf


def batch(env: Env, shelf: Shelf, **fields: Any) -> dict[str, Any]:
    base = {
        "namespace": shelf.namespace,
        "job_id": env.name("job"),
        "reason": "because",
        "visibility_query": "WorkflowType = 'Alpha'",
    }
    return {key: value for key, value in {**base, **fields}.items() if value is not None}


async def free(env: Env, shelf: Shelf) -> None:
    """Returns once no batch is listed as running: a namespace has one at a time, by the list."""
    async with asyncio.timeout(TASK_SECONDS_MAX):
        while any(each.state == 1 for each in (await env.rpc("ListBatchOperations", namespace=shelf.namespace)).operation_info):
            await asyncio.sleep(0.05)


async def done(env: Env, shelf: Shelf, job: str | None = None) -> Any:
    """The description of a batch once it is over."""
    async with asyncio.timeout(TASK_SECONDS_MAX):
        while True:
            found = await env.rpc("DescribeBatchOperation", namespace=shelf.namespace, job_id=job or env.name("job"))
            if found.state in (COMPLETED, FAILED):
                return found
            await asyncio.sleep(0.05)


async def history(env: Env, shelf: Shelf, label: str, name: str, run_id: str | None = None) -> None:
    """The kinds of a run's events, with what was done from outside. By whom is left out: the real server
    names the process that works on the batch."""
    page = await env.rpc("GetWorkflowExecutionHistory", namespace=shelf.namespace, execution=env.execution(name, run_id))
    out: list[Any] = []
    for each in page.history.events:
        out.append(each.event_type)
        if each.HasField("workflow_execution_signaled_event_attributes"):
            signaled = each.workflow_execution_signaled_event_attributes
            out.append([signaled.signal_name, [one.data.decode() for one in signaled.input.payloads]])
        if each.HasField("workflow_execution_terminated_event_attributes"):
            ended = each.workflow_execution_terminated_event_attributes
            out.append([ended.reason, [one.data.decode() for one in ended.details.payloads]])
        if each.HasField("workflow_execution_cancel_requested_event_attributes"):
            asked = each.workflow_execution_cancel_requested_event_attributes
            out.append(asked.cause)
        if each.links:
            out.append([one.WhichOneof("variant") for one in each.links])
    env.note(label, out)


@scenario
async def batch_terminates(env: Env) -> None:
    """Termination over a filter: its description, its entry in the list, the runs' last events, the run that did not match."""
    shelf = await runs(env)
    operation = {"identity": "operator", "details": payloads("d")}
    await env.show("start", "StartBatchOperation", **batch(env, shelf, termination_operation=operation))
    await done(env, shelf)
    await env.show("describe", "DescribeBatchOperation", namespace=shelf.namespace, job_id=env.name("job"))
    await history(env, shelf, "terminated", "w0")
    await history(env, shelf, "untouched", "stranger")
    async with asyncio.timeout(TASK_SECONDS_MAX):
        while True:
            listed = await env.rpc("ListBatchOperations", namespace=shelf.namespace)
            if listed.operation_info and listed.operation_info[0].state == COMPLETED:
                break
            await asyncio.sleep(0.05)
    await env.show("list", "ListBatchOperations", namespace=shelf.namespace)


@scenario
async def batch_signals(env: Env) -> None:
    """A signal with input and header to each matching run."""
    shelf = await runs(env)
    operation = {"identity": "operator", "signal": "s", "input": payloads("in"), "header": {"fields": {"h": payload("v")}}}
    await env.show("start", "StartBatchOperation", **batch(env, shelf, signal_operation=operation))
    found = await done(env, shelf)
    env.note("counts", [found.total_operation_count, found.complete_operation_count, found.failure_operation_count])
    for name in ("w0", "w2"):
        await history(env, shelf, name, name)


@scenario
async def batch_cancels(env: Env) -> None:
    """A cancel request to each matching run."""
    shelf = await runs(env)
    await env.show("start", "StartBatchOperation", **batch(env, shelf, cancellation_operation={"identity": "operator"}))
    await done(env, shelf)
    await env.show("describe", "DescribeBatchOperation", namespace=shelf.namespace, job_id=env.name("job"))
    await history(env, shelf, "asked to cancel", "w1")


@scenario
async def batch_deletes(env: Env) -> None:
    """Deletion of each matching run."""
    shelf = await runs(env)
    await env.show("start", "StartBatchOperation", **batch(env, shelf, deletion_operation={"identity": "operator"}))
    found = await done(env, shelf)
    env.note("counts", [found.total_operation_count, found.complete_operation_count, found.failure_operation_count])
    await shelf.count("", 1)
    await shelf.ask("")


@scenario
async def batch_resets(env: Env) -> None:
    """Reset of each matching run to its first and to its last workflow task."""
    shelf = await runs(env, count=2)
    for _ in range(3):
        await shelf.step()
    for name in ("w0", "w1", "stranger"):
        await env.rpc("SignalWorkflowExecution", namespace=shelf.namespace, workflow_execution={"workflow_id": name}, signal_name="s")
    for _ in range(3):
        await shelf.step()
    for label, target in (("last", "last_workflow_task"), ("first", "first_workflow_task")):
        job = env.name(f"job {label}")
        options = {target: {}}
        await env.show(
            label,
            "StartBatchOperation",
            **batch(
                env,
                shelf,
                job_id=job,
                visibility_query="WorkflowType = 'Alpha' AND ExecutionStatus = 'Running'",
                reset_operation={"identity": "operator", "options": options},
            ),
        )
        found = await done(env, shelf, job)
        env.note(f"{label}: counts", [found.total_operation_count, found.complete_operation_count, found.failure_operation_count])
        await history(env, shelf, f"{label}: new run", "w0")
        await shelf.step()
        await shelf.step()
        await free(env, shelf)
        await shelf.count("ExecutionStatus = 'Running'", 3)


@scenario
async def batch_resets_without_a_task(env: Env) -> None:
    """Reset of runs that have no completed workflow task: each is a failure."""
    shelf = await runs(env, count=2)
    await env.show(
        "start", "StartBatchOperation", **batch(env, shelf, reset_operation={"options": {"first_workflow_task": {}}})
    )
    found = await done(env, shelf)
    env.note("counts", [found.state, found.total_operation_count, found.complete_operation_count, found.failure_operation_count])


@scenario
async def batch_updates_options(env: Env) -> None:
    """Options of each matching run changed."""
    shelf = await runs(env, count=2)
    operation = {
        "identity": "operator",
        "workflow_execution_options": {"versioning_override": {"auto_upgrade": True}},
        "update_mask": "versioningOverride",
    }
    await env.show("start", "StartBatchOperation", **batch(env, shelf, update_workflow_options_operation=operation))
    found = await done(env, shelf)
    env.note("counts", [found.state, found.total_operation_count, found.complete_operation_count, found.failure_operation_count])
    await history(env, shelf, "changed", "w0")


@scenario
async def batch_over_a_list(env: Env) -> None:
    """A batch over runs that are named, one of them unknown, instead of a filter."""
    shelf = await runs(env)
    executions = [{"workflow_id": "w0"}, {"workflow_id": "w2", "run_id": shelf.runs["w2"]}, {"workflow_id": "nobody"}]
    await env.show(
        "start",
        "StartBatchOperation",
        **batch(env, shelf, visibility_query=None, executions=executions, termination_operation={"identity": "operator"}),
    )
    found = await done(env, shelf)
    env.note("counts", [found.state, found.total_operation_count, found.complete_operation_count, found.failure_operation_count])
    for name in ("w0", "w1", "w2"):
        await history(env, shelf, name, name)


@scenario
async def batch_over_nothing(env: Env) -> None:
    """A batch whose filter matches nothing."""
    shelf = await runs(env, count=1)
    await env.show(
        "start", "StartBatchOperation", **batch(env, shelf, visibility_query="WorkflowType = 'Nobody'", termination_operation={})
    )
    found = await done(env, shelf)
    env.note("counts", [found.state, found.total_operation_count, found.complete_operation_count, found.failure_operation_count])


@scenario
async def batch_over_closed_runs(env: Env) -> None:
    """Termination of runs that are closed already: the filter is narrowed to open ones, or each counts as done."""
    shelf = await runs(env)
    await env.rpc("TerminateWorkflowExecution", namespace=shelf.namespace, workflow_execution={"workflow_id": "w1"})
    await shelf.settle(4, open=3)
    await env.show("start", "StartBatchOperation", **batch(env, shelf, signal_operation={"signal": "s"}))
    found = await done(env, shelf)
    env.note("counts", [found.state, found.total_operation_count, found.complete_operation_count, found.failure_operation_count])
    await history(env, shelf, "closed run", "w1")


@scenario
async def batch_stopped_too_late(env: Env) -> None:
    """Stopping a batch that is over."""
    shelf = await runs(env, count=1)
    await env.show("start", "StartBatchOperation", **batch(env, shelf, signal_operation={"signal": "s", "identity": "operator"}))
    await done(env, shelf)
    await env.show("stop", "StopBatchOperation", namespace=shelf.namespace, job_id=env.name("job"), reason="enough")


@scenario
async def batch_job_ids(env: Env) -> None:
    """The same job id again after the first is over; unknown job ids."""
    shelf = await runs(env, count=2)
    fields = batch(env, shelf, signal_operation={"signal": "s"})
    await env.show("first", "StartBatchOperation", **fields)
    await done(env, shelf)
    await free(env, shelf)
    await env.show("after it", "StartBatchOperation", **fields)
    unknown = str(uuid.uuid4())
    await env.show("describe unknown", "DescribeBatchOperation", namespace=shelf.namespace, job_id=unknown)
    await env.show("stop unknown", "StopBatchOperation", namespace=shelf.namespace, job_id=unknown, reason="r")


@scenario
async def batch_is_validated(env: Env) -> None:
    """Batch calls with one thing wrong at a time."""
    shelf = await runs(env, count=1)

    async def case(label: str, **fields: object) -> None:
        base = {"termination_operation": {}, "job_id": env.name(label)}
        if await env.show(label, "StartBatchOperation", **batch(env, shelf, **{**base, **fields})):
            # With such a filter it fails by itself, sooner or later than this comes.
            with contextlib.suppress(Refusal):
                await env.rpc("StopBatchOperation", namespace=shelf.namespace, job_id=env.name(label), reason="r")
            await free(env, shelf)

    await case("no job id", job_id="")
    await case("no reason", reason="")
    await case("no filter and no list", visibility_query="")
    await case("a filter and a list", executions=[{"workflow_id": "w0"}])
    await case("no operation", termination_operation=None)
    await case("bad filter", visibility_query="nonsense")
    await case("unknown attribute", visibility_query="Nope = 1")
    await case("unknown namespace", namespace="nowhere")
    await case("signal without a name", termination_operation=None, signal_operation={})
    await case("reset without a kind", termination_operation=None, reset_operation={"identity": "i"})
    await env.show("describe without a job", "DescribeBatchOperation", namespace=shelf.namespace)
    await env.show("stop without a job", "StopBatchOperation", namespace=shelf.namespace, reason="r")
    await env.show("stop without a reason", "StopBatchOperation", namespace=shelf.namespace, job_id="j")
    await env.show("list in an unknown namespace", "ListBatchOperations", namespace="nowhere")


@scenario
async def batch_on_activities(env: Env) -> None:
    """Paused activities of each matching run are unpaused, reset, given other options by a batch."""
    shelf = await runs(env, count=2)
    activity = {
        "activity_id": "a",
        "activity_type": {"name": "act"},
        "task_queue": {"name": env.name("nobody")},
        "start_to_close_timeout": "30s",
    }
    for _ in range(3):
        await shelf.step(command("SCHEDULE_ACTIVITY_TASK", **activity))
    for name in ("w0", "w1"):
        await env.rpc("PauseActivity", namespace=shelf.namespace, execution={"workflow_id": name}, id="a")
    operations = {
        "update_activity_options_operation": {
            "match_all": True,
            "activity_options": {"start_to_close_timeout": "77s"},
            "update_mask": "startToCloseTimeout",
        },
        "unpause_activities_operation": {"match_all": True},
        "reset_activities_operation": {"match_all": True},
    }
    for kind, operation in operations.items():
        job = env.name(kind)
        await free(env, shelf)
        if not await env.show(kind, "StartBatchOperation", **batch(env, shelf, job_id=job, **{kind: operation})):
            continue
        found = await done(env, shelf, job)
        env.note(f"{kind}: counts", [found.operation_type, found.total_operation_count, found.complete_operation_count, found.failure_operation_count])
        described = await env.rpc("DescribeWorkflowExecution", namespace=shelf.namespace, execution={"workflow_id": "w0"})
        pending = described.pending_activities[0]
        env.note(f"{kind}: activity", [pending.paused, pending.attempt, pending.activity_options.start_to_close_timeout.seconds])


@scenario
async def batch_one_at_a_time(env: Env) -> None:
    """A second batch in a namespace while one runs, with another job id and with the same; the first stopped in the middle."""
    shelf = await runs(env, count=1)
    many = [{"workflow_id": "w0"}] * 600
    await env.rpc(
        "StartBatchOperation",
        **batch(env, shelf, visibility_query=None, executions=many, max_operations_per_second=1, signal_operation={"signal": "s"}),
    )
    async with asyncio.timeout(TASK_SECONDS_MAX):
        while not (await env.rpc("ListBatchOperations", namespace=shelf.namespace)).operation_info:
            await asyncio.sleep(0.05)
    found = await env.rpc("DescribeBatchOperation", namespace=shelf.namespace, job_id=env.name("job"))
    env.note("while it runs", [found.state, found.HasField("close_time")])
    for label in ("another", "job"):
        await env.show(label, "StartBatchOperation", **batch(env, shelf, job_id=env.name(label), signal_operation={"signal": "s"}))
    await env.show("stop", "StopBatchOperation", namespace=shelf.namespace, job_id=env.name("job"), reason="enough")
    found = await env.rpc("DescribeBatchOperation", namespace=shelf.namespace, job_id=env.name("job"))
    env.note("stopped", [found.state, found.HasField("close_time"), found.reason])
    await env.show("stop again", "StopBatchOperation", namespace=shelf.namespace, job_id=env.name("job"), reason="enough")
    await free(env, shelf)
    await env.show("list", "ListBatchOperations", namespace=shelf.namespace)


@scenario
async def batch_operations_are_validated(env: Env) -> None:
    """Each kind of operation with something of its own missing."""
    shelf = await runs(env, count=1)
    options = {"activity_options": {"start_to_close_timeout": "3s"}, "update_mask": "startToCloseTimeout"}
    cases: dict[str, dict[str, Any]] = {
        "reset without a target": {"reset_operation": {"options": {}}},
        "options without options": {"update_workflow_options_operation": {}},
        "options without a mask": {"update_workflow_options_operation": {"workflow_execution_options": {"priority": {}}}},
        "unpause of none": {"unpause_activities_operation": {}},
        "unpause of a type without a name": {"unpause_activities_operation": {"type": ""}},
        "unpause of all, but not": {"unpause_activities_operation": {"match_all": False}},
        "reset of no activities": {"reset_activities_operation": {}},
        "reset of a type without a name": {"reset_activities_operation": {"type": ""}},
        "activity options without options": {"update_activity_options_operation": {"match_all": True}},
        "activity options of a type without a name": {"update_activity_options_operation": {"type": "", **options}},
        "new and original options": {"update_activity_options_operation": {"match_all": True, "restore_original": True, **options}},
        "long job id": {"signal_operation": {"signal": "s"}, "job_id": "x" * 1001},
    }
    for label, operation in cases.items():
        await env.show(label, "StartBatchOperation", **batch(env, shelf, **{"job_id": env.name(label), **operation}))


@scenario
async def batch_on_standalone_activities(env: Env) -> None:
    """Standalone activities are cancelled, terminated, deleted by a batch over a filter of theirs."""
    shelf = Shelf(env)
    await env.rpc("RegisterNamespace", namespace=shelf.namespace, workflow_execution_retention_period="86400s")
    for number in range(3):
        async with asyncio.timeout(TASK_SECONDS_MAX):
            while True:
                try:
                    await env.rpc(
                        "StartActivityExecution",
                        namespace=shelf.namespace,
                        activity_id=f"a{number}",
                        activity_type={"name": "act"},
                        task_queue={"name": env.tq},
                        start_to_close_timeout="30s",
                        request_id=str(uuid.uuid4()),
                    )
                    break
                except Refusal as error:
                    if "is not found" not in error.message:
                        raise
                await asyncio.sleep(0.1)

    async def listed(query: str, count: int) -> None:
        async with asyncio.timeout(TASK_SECONDS_MAX):
            while (await env.rpc("CountActivityExecutions", namespace=shelf.namespace, query=query)).count != count:
                await asyncio.sleep(0.05)

    await listed("ActivityType = 'act' AND ExecutionStatus = 'Running'", 3)
    named = [{"type": "EXECUTION_TYPE_ACTIVITY", "business_id": "a0"}, {"type": "EXECUTION_TYPE_ACTIVITY", "business_id": "nobody"}]
    operations: dict[str, dict[str, Any]] = {
        "named": {"cancel_activities_operation": {"identity": "i", "reason": "r"}, "target_executions": named, "visibility_query": None},
        "terminate": {"terminate_activities_operation": {"identity": "i", "reason": "r"}},
        "delete": {"delete_activities_operation": {}},
    }
    for label, operation in operations.items():
        job = env.name(label)
        await free(env, shelf)
        query = {"visibility_query": "ActivityType = 'act'"}
        if not await env.show(label, "StartBatchOperation", **batch(env, shelf, **{"job_id": job, **query, **operation})):
            continue
        found = await done(env, shelf, job)
        counts = [found.total_operation_count, found.complete_operation_count, found.failure_operation_count]
        env.note(f"{label}: counts", [found.operation_type, found.state, *counts])
        for each in found.executions:
            env.note(f"{label}: execution", [each.type, each.business_id])
        if label == "terminate":
            await listed("ActivityType = 'act' AND ExecutionStatus = 'Running'", 0)
            # The one that was cancelled before anybody had it is over already.
            await listed("ActivityType = 'act' AND ExecutionStatus = 'Terminated'", 2)
    await listed("ActivityType = 'act'", 0)
