"""What the server refuses of polls, responses and heartbeats."""

import base64
import uuid

from differential.env import UNKNOWN_RUN, Env, Refusal, complete_run, schedule
from differential.registry import scenario
from harness.wire import failure, payloads

LONG = "x" * 1001
BIG = payloads("y" * (2 * 1024 * 1024 + 10))

WORKFLOW_RESPONSES = {
    "RespondWorkflowTaskCompleted": {},
    "RespondWorkflowTaskFailed": {},
}
ACTIVITY_RESPONSES = {
    "RespondActivityTaskCompleted": {},
    "RespondActivityTaskFailed": {"failure": failure("f")},
    "RespondActivityTaskCanceled": {},
    "RecordActivityTaskHeartbeat": {},
}


@scenario
async def polls_are_validated(env: Env) -> None:
    """Polls of workflow and activity tasks with one thing wrong at a time."""
    for kind in ("Workflow", "Activity"):
        method = f"Poll{kind}TaskQueue"

        async def case(label: str, timeout: float | None = 8.0, **fields: object) -> None:
            base = {"task_queue": {"name": env.tq}}
            await env.show(f"{label} ({kind.lower()})", method, timeout=timeout, **{**base, **fields})

        await case("no deadline", timeout=None)
        await case("deadline of half a second", timeout=0.5)
        await case("no task queue", task_queue=None)
        await case("no name", task_queue={"name": ""})
        await case("name of 1001", task_queue={"name": LONG})
        await case("identity of 1001", identity=LONG)
        await case("unknown namespace", namespace="nowhere")
        await case("no namespace", namespace="")
        await case("reserved name", task_queue={"name": "/_sys/x"})


@scenario
async def malformed_tokens(env: Env) -> None:
    """Every response with no token, with rubbish for a token."""
    for method, fields in {**WORKFLOW_RESPONSES, **ACTIVITY_RESPONSES}.items():
        await env.show("no token", method, **fields)
        await env.show("rubbish", method, task_token=b"rubbish", **fields)
        await env.show("rubbish, unknown namespace", method, task_token=b"rubbish", namespace="nowhere", **fields)
    await env.show("query: no token", "RespondQueryTaskCompleted")
    await env.show("query: rubbish", "RespondQueryTaskCompleted", task_token=b"rubbish")


@scenario
async def workflow_task_token_used_twice(env: Env) -> None:
    """A workflow task answered a second time: after completion, after failure, after the run closed."""
    await env.start()
    task = await env.poll()
    await env.complete(task)
    await env.show("complete again", "RespondWorkflowTaskCompleted", task_token=task.task_token)
    await env.show("fail after completion", "RespondWorkflowTaskFailed", task_token=task.task_token)
    await env.signal("s")
    task = await env.poll()
    await env.complete(task, complete_run())
    await env.show("complete on the closed run", "RespondWorkflowTaskCompleted", task_token=task.task_token)
    await env.show("fail on the closed run", "RespondWorkflowTaskFailed", task_token=task.task_token)
    await env.history("the run")


@scenario
async def activity_token_used_twice(env: Env) -> None:
    """An activity answered a second time in every way, while the run is open and after it closed."""
    await env.start()
    await env.step(schedule(env))
    task = await env.poll_activity()
    await env.rpc("RespondActivityTaskCompleted", task_token=task.task_token, result=payloads("r"))
    for method, fields in ACTIVITY_RESPONSES.items():
        await env.show("open run", method, task_token=task.task_token, **fields)
    await env.step(complete_run())
    for method, fields in ACTIVITY_RESPONSES.items():
        await env.show("closed run", method, task_token=task.task_token, **fields)


@scenario
async def token_of_another_kind(env: Env) -> None:
    """An activity's token given for a workflow task's, and the other way round; a token under another namespace."""
    await env.start()
    first = await env.poll()
    await env.show("workflow token completes an activity", "RespondActivityTaskCompleted", task_token=first.task_token)
    await env.complete(first, schedule(env))
    activity = await env.poll_activity()
    await env.show("activity token completes a workflow task", "RespondWorkflowTaskCompleted", task_token=activity.task_token)
    other = env.name("ns")
    await env.rpc("RegisterNamespace", namespace=other, workflow_execution_retention_period="86400s")
    await env.show(
        "token of another namespace", "RespondActivityTaskCompleted", task_token=activity.task_token, namespace=other
    )


@scenario
async def token_bytes_are_opaque(env: Env) -> None:
    """A valid token with its last bytes cut off."""
    await env.start()
    task = await env.poll()
    cut = base64.b64encode(task.task_token[: len(task.task_token) // 2])
    try:
        await env.rpc("RespondWorkflowTaskCompleted", task_token=base64.b64decode(cut))
        env.note("cut token", "accepted")
    except Refusal as error:
        env.note("cut token", error.code)


@scenario
async def by_id_calls_are_validated(env: Env) -> None:
    """The by-id calls for activities with one thing wrong at a time."""
    run = await env.start()
    await env.step(schedule(env, "a1"))
    calls = {
        "RespondActivityTaskCompletedById": {},
        "RespondActivityTaskFailedById": {"failure": failure("f")},
        "RespondActivityTaskCanceledById": {},
        "RecordActivityTaskHeartbeatById": {},
    }
    for method, extra in calls.items():

        async def case(label: str, **fields: object) -> None:
            await env.show(
                label, method, **{"workflow_id": env.wid, "run_id": run, "activity_id": "a1", **extra, **fields}
            )

        await case("no workflow id", workflow_id="")
        await case("no activity id", activity_id="")
        await case("unknown workflow", workflow_id="nope", run_id="")
        await case("unknown run", run_id=UNKNOWN_RUN)
        await case("run id is no UUID", run_id="x")
        await case("unknown activity", activity_id="nope")
        await case("unknown namespace", namespace="nowhere")
        await case("identity of 1001", identity=LONG)
        if method != "RespondActivityTaskCompletedById":
            await case("scheduled, not started")
    await env.show(
        "completed though not started",
        "RespondActivityTaskCompletedById",
        workflow_id=env.wid,
        activity_id="a1",
        result=payloads("x"),
    )
    await env.history("the run")


@scenario
async def oversized_results(env: Env) -> None:
    """Over-long payloads in an activity's result, heartbeat and failure, and in a workflow's result and a marker."""
    await env.start()
    task = await env.poll()
    await env.complete(task, schedule(env, "a1", retry_policy={"maximum_attempts": 1}), schedule(env, "a2"))
    first, second = await env.poll_activities(2)
    await env.show("heartbeat", "RecordActivityTaskHeartbeat", task_token=first.task_token, details=BIG)
    await env.show("result", "RespondActivityTaskCompleted", task_token=second.task_token, result=BIG)
    await env.until_event("WORKFLOW_TASK_SCHEDULED", 2)
    await env.history("after both")
    task = await env.poll()
    await env.show("workflow result", "RespondWorkflowTaskCompleted", task_token=task.task_token, commands=[
        {"command_type": "COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION",
         "complete_workflow_execution_command_attributes": {"result": BIG}}
    ])
    await env.history("the end")


@scenario
async def identities_and_failures(env: Env) -> None:
    """Failing an activity with no failure, with an over-long failure, with a heartbeat beside it."""
    await env.start()
    await env.step(schedule(env, "a1", retry_policy={"maximum_attempts": 1}))
    task = await env.poll_activity()
    await env.show("no failure", "RespondActivityTaskFailed", task_token=task.task_token)
    task = await env.poll()
    env.response("next workflow task", "PollWorkflowTaskQueue", task)
    await env.complete(task, schedule(env, "a2", retry_policy={"maximum_attempts": 1}))
    activity = await env.poll_activity()
    await env.show(
        "a failure of 20 kB",
        "RespondActivityTaskFailed",
        task_token=activity.task_token,
        failure={**failure("m" * 10_000), "stack_trace": "s" * 10_000},
    )
    events = await env.events()
    failed = [each for each in events if each.HasField("activity_task_failed_event_attributes")][-1]
    recorded = failed.activity_task_failed_event_attributes.failure
    env.note("recorded message and stack", [len(recorded.message), len(recorded.stack_trace)])


@scenario
async def worker_housekeeping(env: Env) -> None:
    """ShutdownWorker and RecordWorkerHeartbeat with and without what they need."""
    await env.show("shut down", "ShutdownWorker", sticky_task_queue="sticky" + env.nonce, reason="bye")
    await env.show("shut down nothing", "ShutdownWorker")
    await env.show("shut down, unknown namespace", "ShutdownWorker", namespace="nowhere", sticky_task_queue="x")
    await env.show(
        "heartbeat", "RecordWorkerHeartbeat",
        worker_heartbeat=[{"worker_instance_key": str(uuid.uuid4()), "task_queue": env.tq}],
    )
    await env.show("heartbeat of nobody", "RecordWorkerHeartbeat")
    await env.show("heartbeat, unknown namespace", "RecordWorkerHeartbeat", namespace="nowhere")
