"""Workflow cron: when a run follows, what it carries over, what ends the row of runs, which strings are taken."""

import asyncio
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from differential.env import Env, command, complete_run
from differential.registry import scenario
from differential.scenarios.children import child_step, with_child
from harness.wire import failure, payload, payloads

EVERY = "@every 1s"


async def runs(env: Env, label: str, *ids: str) -> None:
    for number, run in enumerate(ids):
        await env.history(f"{label} {number + 1}", run_id=run)


async def stop(env: Env) -> None:
    await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(), reason="enough")


@scenario
async def cron_runs_again_after_completion(env: Env) -> None:
    """Three runs in a row: each completes, the next carries the last result; descriptions while one waits and while one runs."""
    first = await env.start(
        cron_schedule=EVERY,
        input=payloads("in"),
        memo={"fields": {"m": payload(1)}},
        search_attributes={"indexed_fields": {"CustomKeyword": payload("k")}},
        header={"fields": {"h": payload("v")}},
    )
    await env.show("describe while the first waits", "DescribeWorkflowExecution", execution=env.execution())
    task = await env.poll()
    env.response("first task", "PollWorkflowTaskQueue", task)
    await env.complete(task, complete_run("one"))
    task = await env.step(complete_run("two"))
    second = task.workflow_execution.run_id
    task = await env.poll()
    third = task.workflow_execution.run_id
    await env.show("describe while the third runs", "DescribeWorkflowExecution", execution=env.execution())
    await stop(env)
    await runs(env, "run", first, second, third)


@scenario
async def cron_runs_again_after_failure(env: Env) -> None:
    """A failed run is followed too: the next carries the failure, and the last result of a run that had one."""
    first = await env.start(cron_schedule=EVERY)
    await env.step(complete_run("one"))
    task = await env.step(command("FAIL_WORKFLOW_EXECUTION", failure=failure("boom", "Mine")))
    second = task.workflow_execution.run_id
    task = await env.poll()
    third = task.workflow_execution.run_id
    await env.complete(task, complete_run())
    fourth = (await env.poll()).workflow_execution.run_id
    await stop(env)
    await runs(env, "run", first, second, third, fourth)


@scenario
async def cron_with_a_retry_policy(env: Env) -> None:
    """A failure under a retry policy is retried first; once the attempts are used up the schedule goes on with attempt 1."""
    first = await env.start(cron_schedule=EVERY, retry_policy={"initial_interval": "1s", "maximum_attempts": 2})
    ids = [first]
    for attempt in range(2):
        task = await env.step(command("FAIL_WORKFLOW_EXECUTION", failure=failure(f"attempt {attempt + 1}")))
        if task.workflow_execution.run_id not in ids:
            ids.append(task.workflow_execution.run_id)
    task = await env.poll()
    ids.append(task.workflow_execution.run_id)
    await stop(env)
    await runs(env, "run", *ids)


@scenario
async def cron_after_a_time_out(env: Env) -> None:
    """A run that hits its run time-out is followed by the next."""
    first = await env.start(cron_schedule=EVERY, workflow_run_timeout="3s")
    await env.step()
    await env.until_closed(run_id=first)
    task = await env.poll()
    await stop(env)
    await runs(env, "run", first, task.workflow_execution.run_id)


@scenario
async def cron_stops_at_the_execution_time_out(env: Env) -> None:
    """The execution time-out spans the row of runs and ends it."""
    await env.start(cron_schedule=EVERY, workflow_execution_timeout="4s")
    task = await env.step(complete_run())
    task = await env.poll()
    await env.until_closed(run_id=task.workflow_execution.run_id)
    await env.history("last run")


@scenario
async def cron_stops_when_cancelled(env: Env) -> None:
    """A cancelled run has no successor; a cancel request while a run waits for its time."""
    await env.start(cron_schedule=EVERY)
    task = await env.poll()
    await env.rpc("RequestCancelWorkflowExecution", workflow_execution=env.execution(), reason="r")
    await env.complete(task)
    await env.step(command("CANCEL_WORKFLOW_EXECUTION"))
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())
    await env.history("cancelled run")
    waiting = env.name("waiting")
    await env.start(workflow_id=waiting, cron_schedule="@every 2s")
    await env.rpc("RequestCancelWorkflowExecution", workflow_execution=env.execution(waiting), reason="r")
    await env.history("asked to cancel while it waits", waiting)
    await env.step(command("CANCEL_WORKFLOW_EXECUTION"))
    await env.history("cancelled while it waited", waiting)


@scenario
async def cron_stops_when_terminated(env: Env) -> None:
    """A run terminated while it waits for its time."""
    await env.start(cron_schedule="@every 1h")
    await stop(env)
    await env.history("terminated run")


@scenario
async def cron_and_a_signal_while_it_waits(env: Env) -> None:
    """A signal while a run waits is recorded at once and brings no task before the time."""
    await env.start(cron_schedule="@every 5s")
    await env.signal("early")
    await env.history("while it waits")
    task = await env.poll()
    await env.history("first task")
    await env.complete(task, complete_run())
    await env.signal("between runs")
    # A second less for each second between the task's start and its completion.
    await env.history("second run waits", without=("first_workflow_task_backoff",))
    began = (await env.events())[0].workflow_execution_started_event_attributes
    env.note("waits at most five seconds", 0 < began.first_workflow_task_backoff.ToTimedelta().total_seconds() <= 5)
    await stop(env)


@scenario
async def cron_and_continue_as_new(env: Env) -> None:
    """A cron run that continues as new: the next run follows without waiting; the schedule goes on if the command names it."""
    first = await env.start(cron_schedule=EVERY)
    again = {"workflow_type": {"name": "Demo"}, "input": payloads("again")}
    task = await env.step(command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", cron_schedule=EVERY, **again))
    task = await env.step(complete_run("r"))
    second = task.workflow_execution.run_id
    task = await env.step(command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", **again))
    third = task.workflow_execution.run_id
    task = await env.step(complete_run("r"))
    await runs(env, "run", first, second, third, task.workflow_execution.run_id)
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def cron_child(env: Env) -> None:
    """A child with a cron schedule: the parent hears nothing until the row of runs ends."""
    await with_child(env, cron_schedule=EVERY)
    await env.step()
    await child_step(env, complete_run("one"))
    await child_step(env, complete_run("two"))
    await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(env.name("child")), reason="enough")
    await env.step(complete_run())
    await env.history("parent")


@scenario
async def cron_and_a_second_start(env: Env) -> None:
    """A start with the id of a cron workflow that waits for its time: refused, the same request id answered."""
    fields = env.start_fields(cron_schedule="@every 1h", request_id="same")
    await env.show("first", "StartWorkflowExecution", **fields)
    await env.show("again", "StartWorkflowExecution", **fields)
    await env.show("another", "StartWorkflowExecution", **env.start_fields())
    await stop(env)


@scenario
async def cron_starts_by_signal(env: Env) -> None:
    """SignalWithStart with a cron schedule: the signal is there while the run waits."""
    await env.show(
        "signal with start",
        "SignalWithStartWorkflowExecution",
        **env.start_fields(cron_schedule=EVERY, signal_name="s", signal_input=payloads(1)),
    )
    task = await env.poll()
    env.response("first task", "PollWorkflowTaskQueue", task)
    await stop(env)


@scenario
async def cron_strings_are_validated(env: Env) -> None:
    """Which cron strings a start takes, and what it says of the others."""
    strings = {
        "five fields": "0 12 * * *",
        "steps": "*/15 * * * *",
        "lists and ranges": "1,2,10-20/5 8-17 1 1-6 MON-FRI",
        "names": "0 0 * JAN SUN",
        "question mark": "0 0 ? * *",
        "daily": "@daily",
        "hourly": "@hourly",
        "yearly": "@yearly",
        "midnight": "@midnight",
        "every": "@every 90m",
        "with a zone": "CRON_TZ=America/New_York 0 9 * * *",
        "with TZ": "TZ=Europe/Berlin 0 9 * * *",
        "six fields": "0 0 12 * * *",
        "four fields": "0 12 * *",
        "seven fields": "0 0 12 * * * 2030",
        "words": "every day",
        "blank": " ",
        "unknown descriptor": "@sometimes",
        "every nothing": "@every",
        "every rubbish": "@every x",
        "every less than a second": "@every 100ms",
        "every zero": "@every 0s",
        "every below zero": "@every -1s",
        "minute 60": "60 * * * *",
        "hour 24": "0 24 * * *",
        "day 32": "0 0 32 * *",
        "day 0": "0 0 0 * *",
        "month 13": "0 0 1 13 *",
        "weekday 7": "0 0 * * 7",
        "weekday 8": "0 0 * * 8",
        "backwards range": "30-10 * * * *",
        "step of zero": "*/0 * * * *",
        "step below zero": "*/-1 * * * *",
        "too many hyphens": "1-2-3 * * * *",
        "too many slashes": "1/2/3 * * * *",
        "not a number": "a * * * *",
        "unknown zone": "CRON_TZ=Mars/Base 0 9 * * *",
        "never": "0 0 30 2 *",
        "comment": "0 12 * * * # noon",
        "leading blanks": "  0 12 * * *",
    }
    for label, text in strings.items():
        wid = env.name(label)
        response = await env.show(
            label, "StartWorkflowExecution", **env.start_fields(workflow_id=wid, cron_schedule=text, task_queue={"name": env.tq})
        )
        if response:
            await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(wid))


@scenario
async def cron_times_of_first_tasks(env: Env) -> None:
    """When the first task of a calendar schedule is due: the distance, as a time of day in the schedule's zone."""
    cases = {
        "noon": ("0 12 * * *", "UTC"),
        "quarter hours": ("*/15 * * * *", "UTC"),
        "new york": ("CRON_TZ=America/New_York 30 9 * * *", "America/New_York"),
        "kathmandu": ("CRON_TZ=Asia/Kathmandu 45 5 * * *", "Asia/Kathmandu"),
        "first of the month": ("0 0 1 * *", "UTC"),
        "mondays": ("15 3 * * MON", "UTC"),
        "day or weekday": ("0 6 13 * FRI", "UTC"),
        "hourly": ("@hourly", "UTC"),
        "weekly": ("@weekly", "UTC"),
    }
    for label, (text, zone) in cases.items():
        wid = env.name(label)
        await env.start(workflow_id=wid, cron_schedule=text)
        event = (await env.events(wid))[0]
        attributes = event.workflow_execution_started_event_attributes
        began = event.event_time.ToDatetime(tzinfo=UTC)
        due = began + attributes.first_workflow_task_backoff.ToTimedelta()
        # The server counts whole seconds from its own clock reading of the start: it may come out a second late.
        due = datetime.fromtimestamp(round(due.timestamp()), UTC).astimezone(ZoneInfo(zone))
        env.note(label, [due.second <= 1, due.minute if "hours" not in label else due.minute % 15])
        if label not in ("quarter hours", "hourly"):
            env.note(f"{label}: hour", due.hour)
        if label in ("mondays", "weekly"):
            env.note(f"{label}: weekday", due.isoweekday())
        if label == "first of the month":
            env.note(f"{label}: day", due.day)
        if label == "day or weekday":
            env.note(label, due.day == 13 or due.isoweekday() == 5)
        await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(wid))


@scenario
async def cron_with_a_start_delay(env: Env) -> None:
    """A cron schedule together with a start delay."""
    await env.show("both", "StartWorkflowExecution", **env.start_fields(cron_schedule=EVERY, workflow_start_delay="1s"))
    await env.show("both, by signal", "SignalWithStartWorkflowExecution", **env.start_fields(
        workflow_id=env.name("by signal"), cron_schedule=EVERY, workflow_start_delay="1s", signal_name="s"
    ))


@scenario
async def cron_run_outlasts_its_interval(env: Env) -> None:
    """A run that takes longer than the interval: missed times are not made up for."""
    first = await env.start(cron_schedule="@every 2s")
    task = await env.poll()
    await asyncio.sleep(2.5)
    await env.complete(task, complete_run())
    task = await env.poll()
    env.note("another run", task.workflow_execution.run_id != first)
    began = task.history.events[0].workflow_execution_started_event_attributes
    env.note("waits at most two seconds", 0 < began.first_workflow_task_backoff.ToTimedelta().total_seconds() <= 2)
    await stop(env)
