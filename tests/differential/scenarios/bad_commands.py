"""Commands that the server refuses: each fails the workflow task with a cause, and the answer names what is wrong."""

from typing import Any

from differential.env import Env, Refusal, command, complete_run, schedule, timer
from differential.registry import scenario
from harness.wire import payload, payloads

LONG = "x" * 1001


async def refused(env: Env, label: str, *commands: dict[str, Any], leads_to: str | None = None) -> None:
    """A new run whose first completion carries these commands; its answer and the events, once there is one of that type."""
    wid = env.name(label)
    await env.start(workflow_id=wid)
    task = await env.poll()
    await env.show(label, "RespondWorkflowTaskCompleted", task_token=task.task_token, commands=list(commands))
    if leads_to:
        await env.until_event(leads_to, workflow_id=wid)
    await env.history(label, wid)
    # Nothing of this run may be in the way of the next case's poll.
    try:
        await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(wid))
    except Refusal as error:
        env.refused(f"{label}: terminate", error)


@scenario
async def bad_schedule_activity(env: Env) -> None:
    """ScheduleActivityTask with one thing wrong at a time."""
    await refused(env, "no activity id", schedule(env, ""))
    await refused(env, "activity id of 1001", schedule(env, LONG))
    await refused(env, "no type", schedule(env, activity_type={"name": ""}))
    await refused(env, "type of 1001", schedule(env, activity_type={"name": LONG}))
    await refused(env, "no timeout", schedule(env, start_to_close_timeout=None))
    await refused(env, "negative start-to-close", schedule(env, start_to_close_timeout="-1s"))
    await refused(env, "negative schedule-to-close", schedule(env, schedule_to_close_timeout="-1s"))
    await refused(env, "negative schedule-to-start", schedule(env, schedule_to_start_timeout="-1s"))
    await refused(env, "negative heartbeat", schedule(env, heartbeat_timeout="-1s"))
    await refused(env, "bad retry policy", schedule(env, retry_policy={"backoff_coefficient": 0.5}))
    await refused(env, "negative attempts", schedule(env, retry_policy={"maximum_attempts": -1}))
    await refused(env, "same id twice", schedule(env, "a1"), schedule(env, "a1"))
    await refused(env, "no queue", schedule(env, task_queue={"name": ""}))
    await refused(env, "queue of 1001", schedule(env, task_queue={"name": LONG}))
    await refused(env, "no attributes", {"command_type": "COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK"})
    await refused(env, "priority below zero", schedule(env, priority={"priority_key": -1}))


@scenario
async def bad_cancel_activity(env: Env) -> None:
    """RequestCancelActivityTask of an activity that is not there."""
    await refused(env, "unknown event", command("REQUEST_CANCEL_ACTIVITY_TASK", scheduled_event_id=77))
    await refused(env, "no event", command("REQUEST_CANCEL_ACTIVITY_TASK"))
    await refused(env, "no attributes", {"command_type": "COMMAND_TYPE_REQUEST_CANCEL_ACTIVITY_TASK"})


@scenario
async def bad_timers(env: Env) -> None:
    """StartTimer and CancelTimer with one thing wrong at a time."""
    await refused(env, "no timer id", timer("", "1s"))
    await refused(env, "timer id of 1001", timer(LONG, "1s"))
    await refused(env, "zero duration", timer("t1", "0s"), leads_to="TIMER_FIRED")
    await refused(env, "negative duration", timer("t1", "-1s"))
    await refused(env, "no duration", command("START_TIMER", timer_id="t1"))
    await refused(env, "same id twice", timer("t1", "10s"), timer("t1", "10s"))
    await refused(env, "cancel unknown", command("CANCEL_TIMER", timer_id="nope"))
    await refused(env, "cancel without id", command("CANCEL_TIMER", timer_id=""))
    await refused(env, "no attributes", {"command_type": "COMMAND_TYPE_START_TIMER"})
    await refused(env, "cancel no attributes", {"command_type": "COMMAND_TYPE_CANCEL_TIMER"})


@scenario
async def bad_close_commands(env: Env) -> None:
    """Closing commands without what they need."""
    for kind in ("COMPLETE", "FAIL", "CANCEL", "CONTINUE_AS_NEW"):
        await refused(env, f"{kind} without attributes", {"command_type": f"COMMAND_TYPE_{kind}_WORKFLOW_EXECUTION"})
    await refused(env, "fail without failure", command("FAIL_WORKFLOW_EXECUTION"))
    await refused(
        env, "cancel nobody requested", command("CANCEL_WORKFLOW_EXECUTION", details=payloads("x"))
    )
    again = "CONTINUE_AS_NEW_WORKFLOW_EXECUTION"
    kind = {"workflow_type": {"name": "Demo"}}
    await refused(env, "continue with negative run timeout", command(again, **kind, workflow_run_timeout="-1s"))
    await refused(env, "continue with negative task timeout", command(again, **kind, workflow_task_timeout="-1s"))
    await refused(env, "continue with negative backoff", command(again, **kind, backoff_start_interval="-1s"))
    await refused(env, "continue with long type", command(again, workflow_type={"name": LONG}))
    await refused(env, "continue with long queue", command(again, **kind, task_queue={"name": LONG}))
    await refused(
        env, "continue with bad policy", command(again, **kind, retry_policy={"backoff_coefficient": 0.1})
    )
    await refused(
        env,
        "continue with unknown search attribute",
        command(again, **kind, search_attributes={"indexed_fields": {"Nope": payload(1)}}),
    )


@scenario
async def bad_markers_and_upserts(env: Env) -> None:
    """RecordMarker, UpsertWorkflowSearchAttributes and ModifyWorkflowProperties without what they need."""
    await refused(env, "no marker name", command("RECORD_MARKER", marker_name=""))
    await refused(env, "marker name of 1001", command("RECORD_MARKER", marker_name=LONG))
    upsert = "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES"
    await refused(env, "upsert nothing", command(upsert))
    await refused(env, "upsert empty", command(upsert, search_attributes={"indexed_fields": {}}))
    await refused(env, "upsert unknown", command(upsert, search_attributes={"indexed_fields": {"Nope": payload(1)}}))
    await refused(
        env, "upsert wrong type", command(upsert, search_attributes={"indexed_fields": {"CustomInt": payload("x")}})
    )
    await refused(env, "modify nothing", command("MODIFY_WORKFLOW_PROPERTIES"))
    for kind in ("RECORD_MARKER", upsert, "MODIFY_WORKFLOW_PROPERTIES"):
        await refused(env, f"{kind} without attributes", {"command_type": f"COMMAND_TYPE_{kind}"})


@scenario
async def bad_command_after_good_ones(env: Env) -> None:
    """A refused command undoes the ones before it in the same completion."""
    await refused(env, "good, bad", timer("t1", "10s"), schedule(env), timer("", "1s"), complete_run())


@scenario
async def bad_command_on_second_attempt(env: Env) -> None:
    """The same bad command on the next attempt leaves no further events."""
    await env.start()
    for _ in range(2):
        task = await env.poll()
        await env.show(
            f"attempt {task.attempt}", "RespondWorkflowTaskCompleted", task_token=task.task_token, commands=[timer("", "1s")]
        )
    await env.history("after two attempts")
    task = await env.poll()
    env.note("next attempt", task.attempt)
    await env.complete(task, complete_run())
    await env.history("closed run")


@scenario
async def unspecified_command(env: Env) -> None:
    """A command of no type."""
    await refused(env, "unspecified", {"command_type": "COMMAND_TYPE_UNSPECIFIED"})


@scenario
async def oversized_commands(env: Env) -> None:
    """Payloads over the limit in each kind of command: the cause, and whether the run itself fails."""
    big = payloads("y" * (2 * 1024 * 1024 + 10))
    await refused(env, "activity input", schedule(env, input=big))
    await refused(env, "marker details", command("RECORD_MARKER", marker_name="m", details={"d": big}))
    await refused(
        env, "memo", command("MODIFY_WORKFLOW_PROPERTIES", upserted_memo={"fields": {"m": big["payloads"][0]}})
    )
    await refused(
        env, "continue input", command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "D"}, input=big)
    )


@scenario
async def longest_retry_interval_below_the_default_first(env: Env) -> None:
    """A retry policy that names only its longest interval, and one below the first interval that it gets by default."""
    policy = {"maximum_interval": "0.5s"}
    await refused(env, "activity", schedule(env, retry_policy=policy))
    child = {"workflow_id": env.name("child"), "workflow_type": {"name": "Child"}, "retry_policy": policy}
    await refused(env, "child", command("START_CHILD_WORKFLOW_EXECUTION", **child))
    again = {"workflow_type": {"name": "Demo"}, "retry_policy": policy}
    await refused(env, "continue as new", command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", **again))
    await env.show("start", "StartWorkflowExecution", **env.start_fields(workflow_id=env.name("start"), retry_policy=policy))
