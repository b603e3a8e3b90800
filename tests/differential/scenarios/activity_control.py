"""Activities changed from outside: pause, unpause, reset, options; both families of calls."""

import asyncio
from typing import Any

from differential.env import Env, command, schedule
from differential.registry import scenario
from harness.wire import failure, payloads

ONE_SECOND = {"initial_interval": "1s", "backoff_coefficient": 1}


async def control(env: Env, label: str, method: str, **fields: Any) -> None:
    await env.show(label, method, **_given({"execution": env.execution(), "id": "a1", "identity": "op", **fields}))


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    """None takes a field out."""
    return {key: value for key, value in fields.items() if value is not None}


async def options(env: Env, label: str, mask: str, **given: Any) -> None:
    await control(env, label, "UpdateActivityOptions", update_mask=mask, activity_options=given)


async def describe(env: Env, label: str) -> None:
    await env.show(label, "DescribeWorkflowExecution", execution=env.execution())


async def fail(env: Env, task: Any, text: str = "no") -> None:
    await env.show("failed", "RespondActivityTaskFailed", task_token=task.task_token, failure=failure(text))


async def beat(env: Env, label: str, task: Any, details: int = 1) -> None:
    await env.show(label, "RecordActivityTaskHeartbeat", task_token=task.task_token, details=payloads(details))


@scenario
async def pause_before_start(env: Env) -> None:
    """A paused activity is not handed out; a second pause changes nothing; unpaused it is handed out at once."""
    await env.start()
    await env.step(schedule(env))
    await control(env, "pause", "PauseActivity", reason="why")
    await describe(env, "paused")
    await env.no_task("poll", method="PollActivityTaskQueue")
    await control(env, "again", "PauseActivity", reason="other", identity="op2")
    await describe(env, "still the first pause")
    await control(env, "unpause", "UnpauseActivity")
    await control(env, "unpause what is not paused", "UnpauseActivity")
    task = await env.poll_activity()
    env.response("task", "PollActivityTaskQueue", task)
    await env.rpc("RespondActivityTaskCompleted", task_token=task.task_token)
    await env.history("no trace")


@scenario
async def pause_while_a_worker_has_it(env: Env) -> None:
    """The worker hears of a pause with its heartbeat; its failure does not lead to another attempt until it is unpaused."""
    await env.start()
    await env.step(schedule(env, retry_policy={**ONE_SECOND, "maximum_attempts": 1}, heartbeat_timeout="30s"))
    task = await env.poll_activity()
    await beat(env, "before", task)
    await control(env, "pause", "PauseActivity", reason="why")
    await describe(env, "pause requested")
    await beat(env, "told", task, 2)
    await fail(env, task)
    await describe(env, "paused, beyond its last attempt")
    await control(env, "unpause", "UnpauseActivity")
    await describe(env, "unpaused")
    task = await env.poll_activity()
    env.response("task", "PollActivityTaskQueue", task)
    await control(env, "pause", "PauseActivity")
    await env.show("completed though paused", "RespondActivityTaskCompleted", task_token=task.task_token)
    await env.history("completed")


@scenario
async def pause_in_back_off(env: Env) -> None:
    """Paused while it backs off, and unpaused: it does not wait for the rest."""
    await env.start()
    await env.step(schedule(env, retry_policy={"initial_interval": "100s"}))
    await fail(env, await env.poll_activity())
    await control(env, "pause", "PauseActivity")
    await describe(env, "paused")
    await control(env, "unpause", "UnpauseActivity")
    task = await env.poll_activity()
    env.note("attempt", task.attempt)


@scenario
async def pause_stops_time_outs(env: Env) -> None:
    """No time-out of a paused activity passes; unpaused, those that are over end it."""
    await env.start()
    await env.step(schedule(env, schedule_to_start_timeout="1s", retry_policy=ONE_SECOND))
    await control(env, "pause", "PauseActivity")
    await asyncio.sleep(2.5)
    await describe(env, "after the time-out")
    await control(env, "unpause", "UnpauseActivity", jitter="0s")
    await env.until_event("ACTIVITY_TASK_TIMED_OUT")
    await env.history("timed out")


@scenario
async def pause_and_cancel(env: Env) -> None:
    """Cancellation goes before a pause: at once where no worker has it, with the heartbeat where one has."""
    await env.start()
    other = {"name": env.name("other")}
    await env.step(schedule(env), schedule(env, "a2", task_queue=other))
    task = await env.poll_activity(other["name"])
    for each in ("a1", "a2"):
        await control(env, f"pause {each}", "PauseActivity", id=each)
    await env.signal("go")
    await env.step(*(command("REQUEST_CANCEL_ACTIVITY_TASK", scheduled_event_id=each) for each in (5, 6)))
    await describe(env, "cancel requested")
    await beat(env, "told of both", task)
    await fail(env, task)
    await env.history("ended")


@scenario
async def pause_does_not_save_what_is_not_retried(env: Env) -> None:
    """A failure that is not retryable ends a paused activity; by id it may be completed."""
    await env.start()
    await env.step(schedule(env))
    task = await env.poll_activity()
    await control(env, "pause", "PauseActivity")
    final = failure("no", non_retryable=True)
    await env.show("failed", "RespondActivityTaskFailed", task_token=task.task_token, failure=final)
    await env.step(schedule(env, "a2"))
    await control(env, "pause", "PauseActivity", id="a2")
    await env.show("completed", "RespondActivityTaskCompletedById", workflow_id=env.wid, activity_id="a2")
    await env.history("ended")


@scenario
async def unpause_with_resets(env: Env) -> None:
    """Unpausing may begin again at the first attempt and forget what heartbeats said."""
    await env.start()
    await env.step(schedule(env, retry_policy=ONE_SECOND))
    task = await env.poll_activity()
    await beat(env, "beat", task)
    await control(env, "pause", "PauseActivity", id=None, type="act")
    await fail(env, task)
    await control(env, "unpause", "UnpauseActivity", reset_attempts=True, reset_heartbeat=True)
    await describe(env, "unpaused")
    task = await env.poll_activity()
    env.response("task", "PollActivityTaskQueue", task)
    await fail(env, task)
    task = await env.poll_activity()
    await control(env, "pause", "PauseActivity")
    await control(env, "unpause while it runs", "UnpauseActivity", reset_attempts=True)
    await beat(env, "the second attempt is no more", task)


@scenario
async def reset_of_a_waiting_activity(env: Env) -> None:
    """Reset ends the back-off and begins at the first attempt; options and heartbeats come back where asked."""
    await env.start()
    await env.step(schedule(env, retry_policy={"initial_interval": "100s"}))
    task = await env.poll_activity()
    await beat(env, "beat", task)
    await fail(env, task)
    await options(env, "options", "startToCloseTimeout", start_to_close_timeout="40s")
    await control(env, "reset", "ResetActivity", restore_original_options=True)
    await describe(env, "reset")
    task = await env.poll_activity()
    env.response("task", "PollActivityTaskQueue", task)
    await fail(env, task)
    await control(env, "reset", "ResetActivity", reset_heartbeat=True)
    task = await env.poll_activity()
    env.response("task without details", "PollActivityTaskQueue", task)


@scenario
async def reset_of_a_running_activity(env: Env) -> None:
    """The first attempt hears of a reset with its heartbeat; a later one is outdated by it."""
    await env.start()
    await env.step(schedule(env, retry_policy=ONE_SECOND))
    task = await env.poll_activity()
    await control(env, "reset", "ResetActivity")
    await beat(env, "told", task)
    await fail(env, task)
    task = await env.poll_activity()
    env.note("attempt", task.attempt)
    await control(env, "reset", "ResetActivity")
    await describe(env, "the first attempt again")
    await beat(env, "outdated", task)
    await fail(env, task)


@scenario
async def reset_of_a_paused_activity(env: Env) -> None:
    """Reset ends a pause unless it is to be kept."""
    await env.start()
    await env.step(schedule(env, retry_policy=ONE_SECOND))
    task = await env.poll_activity()
    await control(env, "pause", "PauseActivity")
    await fail(env, task)
    await control(env, "reset, still paused", "ResetActivity", keep_paused=True)
    await describe(env, "paused")
    await env.no_task("poll", method="PollActivityTaskQueue")
    await control(env, "reset", "ResetActivity")
    task = await env.poll_activity()
    await control(env, "pause", "PauseActivity")
    await control(env, "reset while it runs", "ResetActivity")
    await describe(env, "not paused")
    await beat(env, "told of the reset", task)


@scenario
async def options_by_mask(env: Env) -> None:
    """What a mask names is changed, cut to fit and checked; the rest stays; all of it can be taken back."""
    await env.start()
    await env.step(schedule(env, retry_policy=ONE_SECOND))
    await options(env, "nothing", "")
    await options(env, "unknown", "fooBar")
    await options(env, "start to close", "startToCloseTimeout", start_to_close_timeout="50s")
    await options(env, "no time-out left", "startToCloseTimeout")
    await options(env, "longer than start to close", "heartbeatTimeout", heartbeat_timeout="500s")
    await options(env, "negative", "startToCloseTimeout", start_to_close_timeout="-5s")
    await options(env, "queue without a name", "taskQueue", task_queue={"name": "q"})
    await options(env, "queue", "taskQueue.name", task_queue={"name": env.name("other")})
    await options(env, "no queue", "taskQueue.name")
    await options(env, "attempts", "retryPolicy.maximumAttempts", retry_policy={"maximum_attempts": 7})
    await options(env, "coefficient", "retryPolicy.backoffCoefficient", retry_policy={"backoff_coefficient": 0.5})
    await options(env, "priority", "priority", priority={"priority_key": 2})
    await options(env, "key", "priority.fairnessKey", priority={"fairness_key": "f"})
    await options(env, "negative priority", "priority.priorityKey", priority={"priority_key": -3})
    await describe(env, "changed")
    await control(env, "both", "UpdateActivityOptions", restore_original=True, update_mask="heartbeatTimeout")
    await control(env, "restored", "UpdateActivityOptions", restore_original=True)
    await describe(env, "restored")
    await env.history("no trace")


@scenario
async def options_move_a_waiting_activity(env: Env) -> None:
    """An activity goes to another queue; a running one keeps its worker; what the poll says is of the scheduled event."""
    await env.start()
    await env.step(schedule(env, retry_policy=ONE_SECOND))
    other = env.name("other")
    await options(env, "other queue", "taskQueue.name", task_queue={"name": other})
    await env.no_task("old queue", method="PollActivityTaskQueue")
    task = await env.poll_activity(other)
    mask = "startToCloseTimeout,taskQueue.name"
    await options(env, "while it runs", mask, task_queue={"name": env.tq}, start_to_close_timeout="40s")
    await beat(env, "still its worker's", task)
    await fail(env, task)
    task = await env.poll_activity()
    env.response("task", "PollActivityTaskQueue", task)


@scenario
async def options_while_it_backs_off(env: Env) -> None:
    """A new policy changes the time of the next attempt, counted from the end of the last."""
    await env.start()
    await env.step(schedule(env, retry_policy={"initial_interval": "100s"}))
    await fail(env, await env.poll_activity())
    await options(env, "sooner", "retryPolicy.initialInterval", retry_policy={"initial_interval": "1s"})
    await describe(env, "two seconds")
    task = await env.poll_activity()
    await options(env, "no more attempts", "retryPolicy.maximumAttempts", retry_policy={"maximum_attempts": 1})
    await fail(env, task)
    await env.history("failed")


@scenario
async def options_let_a_running_activity_time_out(env: Env) -> None:
    """A shorter start-to-close time-out holds for the attempt that runs."""
    await env.start()
    await env.step(schedule(env, retry_policy={"maximum_attempts": 1}))
    await env.poll_activity()
    await options(env, "shorter", "startToCloseTimeout", start_to_close_timeout="1s")
    await env.until_event("ACTIVITY_TASK_TIMED_OUT")
    await env.history("timed out")


@scenario
async def control_is_validated(env: Env) -> None:
    """Errors of all four calls: nothing named, unknown names, malformed names, a closed run."""
    await env.start()
    await env.step(schedule(env))
    given = {"update_mask": "startToCloseTimeout", "activity_options": {"start_to_close_timeout": "5s"}}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("PauseActivity", {}),
        ("UnpauseActivity", {}),
        ("ResetActivity", {}),
        ("UpdateActivityOptions", given),
    ]
    for method, more in calls:
        await control(env, "nothing named", method, id=None, **more)
        await control(env, "unknown id", method, id="zz", **more)
        await control(env, "unknown type", method, id=None, type="zz", **more)
        await control(env, "no execution", method, execution=None, **more)
        await control(env, "unknown workflow", method, execution={"workflow_id": "nope"}, **more)
        await control(env, "malformed run", method, execution={"workflow_id": env.wid, "run_id": "x"}, **more)
    await control(env, "no options", "UpdateActivityOptions")
    await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution())
    for method, more in calls:
        await control(env, "closed", method, **more)


@scenario
async def newer_calls_on_a_workflows_activity(env: Env) -> None:
    """The calls that name one activity do the same to a workflow's, but refuse a second pause by another request."""
    await env.start()
    await env.step(schedule(env, retry_policy=ONE_SECOND))
    named = {"workflow_id": env.wid, "activity_id": "a1", "identity": "op"}
    await env.show("pause", "PauseActivityExecution", reason="why", request_id="p1", **named)
    await env.show("same request", "PauseActivityExecution", request_id="p1", **named)
    await env.show("other request", "PauseActivityExecution", request_id="p2", **named)
    await describe(env, "paused")
    given = {"update_mask": "startToCloseTimeout", "activity_options": {"start_to_close_timeout": "5s"}}
    await env.show("options", "UpdateActivityExecutionOptions", **given, **named)
    await env.show("no options", "UpdateActivityExecutionOptions", **named)
    await env.show("unpause", "UnpauseActivityExecution", **named)
    await env.show("reset", "ResetActivityExecution", restore_original_options=True, **named)
    await describe(env, "reset")
    await env.show("unknown", "PauseActivityExecution", workflow_id=env.wid, activity_id="zz")
