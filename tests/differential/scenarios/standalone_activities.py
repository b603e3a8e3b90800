"""Standalone activities: start and policies, attempts, outcomes, long polls, requests, pause and its like."""

import asyncio
import uuid
from typing import Any

from differential.env import TASK_SECONDS_MAX, Env
from differential.registry import scenario
from harness.wire import failure, payload, payloads

ALL = {"include_outcome": True, "include_heartbeat_details": True, "include_last_failure": True, "include_input": True}


def fields(env: Env, **more: Any) -> dict[str, Any]:
    """A start that is valid, with the given fields over it; None takes a field out."""
    base = {
        "activity_id": env.name("sa"),
        "activity_type": {"name": "act"},
        "task_queue": {"name": env.tq},
        "start_to_close_timeout": "30s",
        "input": payloads("in"),
        "request_id": "r1",
    }
    return {key: value for key, value in {**base, **more}.items() if value is not None}


async def start(env: Env, label: str = "start", **more: Any) -> Any:
    return await env.show(label, "StartActivityExecution", **fields(env, **more))


async def ask(env: Env, label: str, method: str, **more: Any) -> Any:
    return await env.show(label, method, **{"activity_id": env.name("sa"), **more})


async def describe(env: Env, label: str, **more: Any) -> Any:
    return await ask(env, label, "DescribeActivityExecution", **{**ALL, **more})


async def beat(env: Env, label: str, task: Any, details: int = 1) -> None:
    await env.show(label, "RecordActivityTaskHeartbeat", task_token=task.task_token, details=payloads(details))


async def fail(env: Env, label: str, task: Any, **info: Any) -> None:
    await env.show(label, "RespondActivityTaskFailed", task_token=task.task_token, failure=failure("no", **info))


@scenario
async def standalone_life(env: Env) -> None:
    """Start, a failed attempt, a completed one: descriptions on the way, tasks, the outcome, deletion."""
    header, metadata = {"fields": {"h": payload("v")}}, {"summary": payload("s")}
    await start(env, header=header, user_metadata=metadata, priority={"priority_key": 2})
    await describe(env, "scheduled")
    task = await env.poll_activity()
    env.response("task", "PollActivityTaskQueue", task)
    await beat(env, "beat", task)
    await describe(env, "started")
    await ask(env, "without what nobody asked for", "DescribeActivityExecution")
    await fail(env, "failed", task)
    await describe(env, "backs off")
    task = await env.poll_activity()
    env.response("second task", "PollActivityTaskQueue", task)
    done = {"task_token": task.task_token, "result": payloads("out")}
    await env.show("completed", "RespondActivityTaskCompleted", **done)
    await env.show("completed twice", "RespondActivityTaskCompleted", **done)
    await beat(env, "too late", task)
    await ask(env, "outcome", "PollActivityExecution")
    await describe(env, "closed")
    await ask(env, "cancel", "RequestCancelActivityExecution")
    await ask(env, "terminate", "TerminateActivityExecution")
    await ask(env, "delete", "DeleteActivityExecution")


@scenario
async def standalone_id_policies(env: Env) -> None:
    """One open run of an id; what the next start may do, by policies and by request id."""
    first = await start(env)
    use = "ACTIVITY_ID_CONFLICT_POLICY_USE_EXISTING"
    reject = "ACTIVITY_ID_REUSE_POLICY_REJECT_DUPLICATE"
    failed_only = "ACTIVITY_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY"
    await start(env, "same request")
    await start(env, "other request", request_id="r2")
    await start(env, "use existing", request_id="r3", id_conflict_policy=use)
    await start(env, "nothing to attach", request_id="r4", id_conflict_policy=use, on_conflict_options={"attach_request_id": True})
    task = await env.poll_activity()
    await env.rpc("RespondActivityTaskCompleted", task_token=task.task_token)
    await start(env, "same request, closed")
    await start(env, "rejected", request_id="r5", id_reuse_policy=reject)
    await start(env, "did not fail", request_id="r5", id_reuse_policy=failed_only)
    await start(env, "again", request_id="r6")
    await start(env, "request of the run before", request_id="r1")
    await describe(env, "the run before", run_id=first.run_id)
    await fail(env, "failed", await env.poll_activity(), non_retryable=True)
    await start(env, "after a failure", request_id="r7", id_reuse_policy=failed_only)
    await ask(env, "terminate", "TerminateActivityExecution", reason="because", identity="op")
    await describe(env, "terminated")
    await start(env, "after an end", request_id="r8", id_reuse_policy=failed_only)


@scenario
async def standalone_cancellation(env: Env) -> None:
    """Cancelled at once while no worker has it, through its worker otherwise; one request counts."""
    await start(env)
    why = {"reason": "why", "identity": "op"}
    await ask(env, "cancel", "RequestCancelActivityExecution", request_id="c1", **why)
    await describe(env, "canceled")
    await ask(env, "same request", "RequestCancelActivityExecution", request_id="c1", **why)
    await ask(env, "other request", "RequestCancelActivityExecution", request_id="c2", **why)
    await start(env, request_id="r2")
    task = await env.poll_activity()
    canceled = {"task_token": task.task_token, "details": payloads("d")}
    await env.show("not asked for", "RespondActivityTaskCanceled", **canceled)
    await ask(env, "cancel", "RequestCancelActivityExecution", request_id="c1", **why)
    await ask(env, "other request", "RequestCancelActivityExecution", request_id="c2", **why)
    await describe(env, "asked for")
    await beat(env, "told", task)
    await env.show("canceled", "RespondActivityTaskCanceled", **canceled)
    await describe(env, "canceled by its worker")
    await start(env, request_id="r3")
    task = await env.poll_activity()
    await ask(env, "cancel", "RequestCancelActivityExecution", **why)
    await fail(env, "fails instead", task)
    await describe(env, "failed")


@scenario
async def standalone_time_outs(env: Env) -> None:
    """Each of the four time-outs, with the failures that they leave."""
    policy = {"maximum_attempts": 2, "initial_interval": "1s", "backoff_coefficient": 1}

    async def one(name: str, polled: bool, **more: Any) -> None:
        queue = env.name("q" + name)
        activity = {"activity_id": env.name(name), "task_queue": {"name": queue}, "retry_policy": policy}
        await env.rpc("StartActivityExecution", **fields(env, **activity, **more))
        for attempt in (1, 2) if polled else ():
            task = await env.poll_activity(queue)
            if name == "hb":
                beaten = {"task_token": task.task_token, "details": payloads(attempt)}
                await env.rpc("RecordActivityTaskHeartbeat", **beaten)
        await env.rpc("PollActivityExecution", activity_id=env.name(name), timeout=40)

    names = ("stc", "s2s", "s2c", "late", "hb")
    await asyncio.gather(
        one("stc", True, start_to_close_timeout="1s"),
        one("s2s", False, schedule_to_start_timeout="1s"),
        one("s2c", False, schedule_to_close_timeout="1s", start_to_close_timeout=None),
        one("late", True, schedule_to_close_timeout="3s", start_to_close_timeout="1s"),
        one("hb", True, heartbeat_timeout="1s"),
    )
    for name in names:
        await describe(env, name, activity_id=env.name(name))


@scenario
async def standalone_last_attempts(env: Env) -> None:
    """No attempt is left, or no time for one."""
    await start(env, retry_policy={"maximum_attempts": 1})
    await fail(env, "failed", await env.poll_activity())
    await describe(env, "no attempt left")
    await start(env, request_id="r2", schedule_to_close_timeout="5s", retry_policy={"initial_interval": "60s"})
    await fail(env, "failed", await env.poll_activity())
    await describe(env, "no time left")
    await start(env, request_id="r3", start_to_close_timeout="1s", schedule_to_close_timeout="9s", retry_policy={"initial_interval": "60s"})
    await env.poll_activity()
    await env.rpc("PollActivityExecution", activity_id=env.name("sa"), timeout=40)
    await describe(env, "timed out, no time left")


@scenario
async def standalone_by_id(env: Env) -> None:
    """By its id, without a workflow's: completed before it starts, heartbeats, failures."""
    await start(env)
    named = {"activity_id": env.name("sa")}
    await env.show("nobody has it", "RecordActivityTaskHeartbeatById", **named)
    await env.show("nobody has it", "RespondActivityTaskFailedById", failure=failure("x"), **named)
    await env.show("nobody has it", "RespondActivityTaskCanceledById", **named)
    await env.show("completed", "RespondActivityTaskCompletedById", result=payloads(1), **named)
    await env.show("completed twice", "RespondActivityTaskCompletedById", result=payloads(1), **named)
    await describe(env, "completed")
    await start(env, request_id="r2")
    await env.poll_activity()
    await env.show("beat", "RecordActivityTaskHeartbeatById", details=payloads(1), **named)
    await env.show("other run", "RecordActivityTaskHeartbeatById", run_id=str(uuid.uuid4()), **named)
    await env.show("not asked for", "RespondActivityTaskCanceledById", **named)
    await env.show("failed", "RespondActivityTaskFailedById", failure=failure("x"), **named)
    await describe(env, "backs off")
    await env.show("unknown", "RespondActivityTaskCompletedById", activity_id="nope")


@scenario
async def standalone_start_delay(env: Env) -> None:
    """A delayed start: its times, and what a cancellation makes of it."""
    await start(env, start_delay="2s", schedule_to_start_timeout="1s", schedule_to_close_timeout="10s")
    await describe(env, "delayed")
    task = await env.poll_activity()
    env.response("task", "PollActivityTaskQueue", task)
    info = (await describe(env, "started")).info
    since = info.schedule_time.ToSeconds()
    env.note("expires and executes", [round(at.ToSeconds() - since) for at in (info.expiration_time, info.execution_time)])
    await env.rpc("RespondActivityTaskCompleted", task_token=task.task_token)
    await start(env, request_id="r2", start_delay="100s")
    await ask(env, "cancel", "RequestCancelActivityExecution", identity="op")
    await describe(env, "canceled before its time")


@scenario
async def standalone_long_polls(env: Env) -> None:
    """A description waits for a change beyond its token, a poll for the outcome."""
    run = (await start(env)).run_id
    token = (await describe(env, "scheduled")).long_poll_token
    waits = {"run_id": run, "long_poll_token": token}
    await describe(env, "no change in time", timeout=3, **waits)
    await ask(env, "no outcome in time", "PollActivityExecution", timeout=3)
    polled = env.rpc("DescribeActivityExecution", activity_id=env.name("sa"), timeout=30, **waits)
    changed = asyncio.ensure_future(polled)
    task = await env.poll_activity()
    env.response("changed", "DescribeActivityExecution", await changed)
    await describe(env, "changed before", **waits)
    outcome = asyncio.ensure_future(env.rpc("PollActivityExecution", activity_id=env.name("sa"), timeout=30))
    await asyncio.sleep(0.2)
    await env.rpc("RespondActivityTaskCompleted", task_token=task.task_token, result=payloads("out"))
    env.response("outcome", "PollActivityExecution", await outcome)
    await describe(env, "a token without its run", long_poll_token=token)
    await describe(env, "no token", run_id=run, long_poll_token=b"xx")


@scenario
async def standalone_ends(env: Env) -> None:
    """Terminated while a worker has it: the request counts once, and its worker is told that it is gone."""
    await start(env)
    task = await env.poll_activity()
    await ask(env, "terminate", "TerminateActivityExecution", request_id="t1", identity="op")
    await ask(env, "same request", "TerminateActivityExecution", request_id="t1", identity="op")
    await ask(env, "other request", "TerminateActivityExecution", request_id="t2", identity="op")
    await describe(env, "terminated")
    await beat(env, "too late", task)


@scenario
async def standalone_is_validated(env: Env) -> None:
    """Starts that are refused, and requests that name nothing or nobody."""
    long = "x" * 1001
    starts: dict[str, dict[str, Any]] = {
        "no id": {"activity_id": None},
        "no type": {"activity_type": None},
        "no queue": {"task_queue": None},
        "empty queue": {"task_queue": {"name": ""}},
        "server's own queue": {"task_queue": {"name": "/_sys/x"}},
        "no time-out": {"start_to_close_timeout": None},
        "negative time-out": {"start_to_close_timeout": "-1s"},
        "negative delay": {"start_delay": "-1s"},
        "long id": {"activity_id": long},
        "long type": {"activity_type": {"name": long}},
        "long request": {"request_id": long},
        "long identity": {"identity": long},
        "policy": {"retry_policy": {"backoff_coefficient": 0.5}},
        "priority": {"priority": {"priority_key": -1}},
        "unknown attribute": {"search_attributes": {"indexed_fields": {"Nope": payload(1)}}},
        "large input": {"input": payloads("x" * (2 * 1024 * 1024 + 10))},
        "callback": {"completion_callbacks": [{"nexus": {"url": "http://x"}}]},
        "empty link": {"links": [{"workflow_event": {}}]},
        "large summary": {"user_metadata": {"summary": payload("x" * 500)}},
    }
    for label, more in starts.items():
        await start(env, label, **more)
    requests = ("Describe{}", "Poll{}", "RequestCancel{}", "Terminate{}", "Delete{}", "Pause{}", "Unpause{}", "Reset{}")
    for method in (each.format("ActivityExecution") for each in requests):
        await ask(env, "unknown", method, activity_id="nope")
        await ask(env, "unknown run", method, activity_id="nope", run_id=str(uuid.uuid4()))
        await ask(env, "malformed run", method, run_id="x")
        await ask(env, "empty", method, activity_id="")
        await ask(env, "long", method, activity_id=long)
        await ask(env, "unknown namespace", method, namespace="nope")


@scenario
async def standalone_pause_and_reset(env: Env) -> None:
    """Pause, unpause and reset in each state; what makes no sense is refused."""
    await start(env)
    op = {"identity": "op"}
    await ask(env, "pause", "PauseActivityExecution", reason="why", request_id="p1", **op)
    await describe(env, "paused")
    await ask(env, "same request", "PauseActivityExecution", request_id="p1", **op)
    await ask(env, "other request", "PauseActivityExecution", request_id="p2", **op)
    await ask(env, "unpause", "UnpauseActivityExecution", **op)
    await ask(env, "unpause again", "UnpauseActivityExecution", **op)
    task = await env.poll_activity()
    await ask(env, "pause", "PauseActivityExecution", **op)
    await describe(env, "pause requested")
    await beat(env, "told", task)
    await fail(env, "failed", task)
    await describe(env, "paused after its attempt")
    await ask(env, "unpause", "UnpauseActivityExecution", **op)
    task = await env.poll_activity()
    await ask(env, "reset", "ResetActivityExecution", **op)
    await ask(env, "reset again", "ResetActivityExecution", **op)
    await ask(env, "pause", "PauseActivityExecution", **op)
    await beat(env, "told of the reset", task, 2)
    await fail(env, "failed", task, non_retryable=True)
    await describe(env, "the first attempt again")
    task = await env.poll_activity()
    await ask(env, "cancel", "RequestCancelActivityExecution", **op)
    for method in ("PauseActivityExecution", "UnpauseActivityExecution", "ResetActivityExecution"):
        await ask(env, "while it is canceled", method, **op)
    await env.rpc("RespondActivityTaskCompleted", task_token=task.task_token)
    for method in ("PauseActivityExecution", "UnpauseActivityExecution", "ResetActivityExecution"):
        await ask(env, "closed", method, **op)


@scenario
async def standalone_options(env: Env) -> None:
    """Options by mask: what is taken, refused, filled in and brought back."""
    await start(env, schedule_to_close_timeout="500s")

    async def change(label: str, mask: str, **given: Any) -> None:
        await ask(env, label, "UpdateActivityExecutionOptions", update_mask=mask, activity_options=given)

    await change("start to close", "startToCloseTimeout", start_to_close_timeout="50s")
    await change("no path", "")
    await change("unknown path", "fooBar")
    await change("whole queue", "taskQueue", task_queue={"name": "q"})
    await change("filled in", "startToCloseTimeout")
    await change("queue", "taskQueue.name", task_queue={"name": env.name("other")})
    await change("policy", "retryPolicy", retry_policy={"maximum_attempts": 5})
    await change("delay", "startDelay", start_delay="20s")
    await ask(env, "no options", "UpdateActivityExecutionOptions", update_mask="startDelay")
    await ask(env, "no mask", "UpdateActivityExecutionOptions", activity_options={})
    await describe(env, "changed")
    await ask(env, "restored", "UpdateActivityExecutionOptions", restore_original=True)
    task = await env.poll_activity()
    await change("while it runs", "startToCloseTimeout", start_to_close_timeout="60s")
    await fail(env, "failed", task)
    await change("while it backs off", "retryPolicy.initialInterval", retry_policy={"initial_interval": "2s"})
    await describe(env, "backs off")
    task = await env.poll_activity()
    env.response("task", "PollActivityTaskQueue", task)
    await env.rpc("RespondActivityTaskCompleted", task_token=task.task_token)
    await change("closed", "startToCloseTimeout", start_to_close_timeout="60s")


@scenario
async def standalone_listed(env: Env) -> None:
    """Lists and counts of standalone activities: open, completed and terminated ones, by id, type, status; what is refused."""
    queue = env.name("listed")
    for name in ("done", "ended", "open"):
        await start(env, f"start {name}", activity_id=env.name(name), task_queue={"name": queue}, request_id=name)
        if name == "done":
            task = await env.poll_activity(queue)
            await env.rpc("RespondActivityTaskCompleted", task_token=task.task_token, result=payloads("out"))
        if name == "ended":
            await env.rpc("TerminateActivityExecution", activity_id=env.name(name), reason="enough")
        await asyncio.sleep(0.01)
    here = f"TaskQueue = '{queue}'"
    async with asyncio.timeout(TASK_SECONDS_MAX):
        for query, wanted in ((here, 3), (f"{here} AND ExecutionStatus = 'Running'", 1)):
            while (await env.rpc("CountActivityExecutions", query=query)).count != wanted:
                await asyncio.sleep(0.05)

    async def listed(label: str, query: str) -> None:
        await env.show(f"list {label}", "ListActivityExecutions", query=query)
        await env.show(f"count {label}", "CountActivityExecutions", query=query)

    await listed("all", here)
    await listed("running", f"{here} AND ExecutionStatus = 'Running'")
    await listed("completed", f"{here} AND ExecutionStatus = 'Completed'")
    await listed("by id", f"ActivityId = '{env.name('ended')}'")
    await listed("by type", f"{here} AND ActivityType = 'act'")
    await listed("nothing", f"{here} AND ActivityType = 'other'")
    grouped = await env.rpc("CountActivityExecutions", query=f"{here} GROUP BY ExecutionStatus")
    # The order of groups is nobody's promise.
    env.note("grouped", sorted([each.group_values[0].data.decode(), each.count] for each in grouped.groups))
    await listed("unknown attribute", "Nope = 1")
    await env.show("unknown namespace", "ListActivityExecutions", namespace="nowhere")
