"""Schedules: made, described, listed, changed, patched, deleted; what they start, under which policies."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta

from differential import schedules
from differential.env import TASK_SECONDS_MAX, Env, Refusal, command, complete_run
from differential.registry import scenario
from differential.schedules import COUNTED, HOURLY, OFTEN, acted, action, counters, create, patch, schedule_fields, show, trigger, until
from differential.shelf import refused
from harness.normal import to_dict
from harness.wire import failure, payload, payloads


@scenario
async def schedule_described(env: Env) -> None:
    """A schedule with every kind of specification, policies, state, memo and attributes: the answer and the description."""
    spec = {
        "structured_calendar": [
            {
                "second": [{"start": 5}],
                "minute": [{"start": 0, "end": 30, "step": 15}],
                "hour": [{"start": 9, "end": 17}],
                "day_of_week": [{"start": 1, "end": 5}],
                "comment": "office hours",
            }
        ],
        "cron_string": ["0 12 * * MON-FRI # noon"],
        "interval": [{"interval": "3600s", "phase": "600s"}],
        "exclude_structured_calendar": [{"month": [{"start": 12}], "day_of_month": [{"start": 25}]}],
        "start_time": "2020-01-01T00:00:00Z",
        "end_time": "2099-01-01T00:00:00Z",
        "jitter": "60s",
        "timezone_name": "Europe/Berlin",
    }
    policies = {
        "overlap_policy": "SCHEDULE_OVERLAP_POLICY_BUFFER_ONE",
        "catchup_window": "600s",
        "pause_on_failure": True,
    }
    state = {"paused": True, "notes": "not yet", "limited_actions": True, "remaining_actions": 7}
    start = action(
        env,
        memo={"fields": {"m": payload(1)}},
        header={"fields": {"h": payload("v")}},
        search_attributes={"indexed_fields": {"CustomKeyword": payload("k")}},
        workflow_run_timeout="100s",
        workflow_task_timeout="5s",
        retry_policy={"initial_interval": "1s", "maximum_attempts": 2},
        user_metadata={"summary": payload("sum")},
        priority={"priority_key": 2},
    )
    await env.show(
        "create",
        "CreateSchedule",
        **schedule_fields(
            env,
            spec,
            action=start,
            policies=policies,
            state=state,
            memo={"fields": {"sm": payload("of the schedule")}},
            search_attributes={"indexed_fields": {"CustomInt": payload(5)}},
        ),
    )
    await show(env, "describe")


@scenario
async def schedule_defaults(env: Env) -> None:
    """A schedule with no policies, no state, and an empty specification: what the server fills in."""
    await env.show("create", "CreateSchedule", **schedule_fields(env, {}, state=None))
    await show(env, "describe")


@scenario
async def schedule_is_there_once(env: Env) -> None:
    """The same id again: with the same request id, with another; and after deletion."""
    fields = schedule_fields(env)
    await env.show("first", "CreateSchedule", **fields)
    await env.show("same request", "CreateSchedule", **fields)
    await env.show("another request", "CreateSchedule", **{**fields, "request_id": str(uuid.uuid4())})
    await env.show("delete", "DeleteSchedule", schedule_id=env.name("schedule"))
    await show(env, "describe after deletion")
    await env.show("delete again", "DeleteSchedule", schedule_id=env.name("schedule"))
    await env.show("made again", "CreateSchedule", **{**fields, "request_id": str(uuid.uuid4())})


@scenario
async def schedule_unknown(env: Env) -> None:
    """Calls about a schedule that does not exist, without an id, in an unknown namespace."""
    unknown = env.name("unknown")
    schedule = schedule_fields(env)["schedule"]
    for label, fields in {
        "unknown": {"schedule_id": unknown},
        "no id": {"schedule_id": ""},
        "unknown namespace": {"schedule_id": unknown, "namespace": "nowhere"},
    }.items():
        await env.show(f"describe: {label}", "DescribeSchedule", **fields)
        await env.show(f"update: {label}", "UpdateSchedule", schedule=schedule, request_id="r", **fields)
        await env.show(f"patch: {label}", "PatchSchedule", patch={"pause": "p"}, request_id="r", **fields)
        await env.show(f"delete: {label}", "DeleteSchedule", **fields)
        await env.show(
            f"matching times: {label}",
            "ListScheduleMatchingTimes",
            start_time="2024-01-01T00:00:00Z",
            end_time="2024-01-02T00:00:00Z",
            **fields,
        )


@scenario
async def schedule_creation_is_validated(env: Env) -> None:
    """CreateSchedule with one thing wrong at a time."""

    async def case(label: str, spec: object = None, **fields: object) -> None:
        await env.show(label, "CreateSchedule", **schedule_fields(env, spec, **{"schedule_id": env.name(label), **fields}))

    await case("id of 1001", schedule_id="x" * 1001)
    await case("no schedule", schedule={})
    await case("no request id", request_id="")
    await case("request id of 1001", request_id="x" * 1001)
    await case("unknown namespace", namespace="nowhere")
    await case("no action", schedule={"spec": HOURLY})
    await case("action without a workflow id", action=action(env, workflow_id=""))
    await case("action without a type", action=action(env, workflow_type=None))
    await case("action without a queue", action=action(env, task_queue=None))
    await case("action with a workflow id of 1001", action=action(env, workflow_id="x" * 1001))
    await case("action with a reuse policy", action=action(env, workflow_id_reuse_policy="WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE"))
    await case("action with cron", action=action(env, cron_schedule="@every 1h"))
    await case("action with a negative time-out", action=action(env, workflow_run_timeout="-1s"))
    await case("action with a bad retry policy", action=action(env, retry_policy={"initial_interval": "1s", "backoff_coefficient": 0.5}))
    await case("action with an unknown attribute", action=action(env, search_attributes={"indexed_fields": {"Nope": payload(1)}}))
    await case("unknown attribute", search_attributes={"indexed_fields": {"Nope": payload(1)}})
    await case("attribute of the wrong type", search_attributes={"indexed_fields": {"CustomInt": payload("a")}})
    await case("negative catch-up window", policies={"catchup_window": "-1s"})
    await case("short catch-up window", policies={"catchup_window": "1s"})
    await case("memo over the limit", memo={"fields": {"m": payload("y" * (2 * 1024 * 1024 + 10))}})


@scenario
async def schedule_specs_are_validated(env: Env) -> None:
    """Specifications with one thing wrong at a time, and odd ones that are taken."""
    specs = {
        "cron: words": {"cron_string": ["every day"]},
        "cron: four fields": {"cron_string": ["0 12 * *"]},
        "cron: minute 60": {"cron_string": ["60 * * * *"]},
        "cron: month 13": {"cron_string": ["0 0 1 13 *"]},
        "cron: empty": {"cron_string": [""]},
        "cron: unknown descriptor": {"cron_string": ["@sometimes"]},
        "cron: every": {"cron_string": ["@every 90s"]},
        "cron: every with a phase": {"cron_string": ["@every 1h/10m"]},
        "cron: every rubbish": {"cron_string": ["@every x"]},
        "cron: zone": {"cron_string": ["CRON_TZ=Europe/Berlin 0 12 * * *"]},
        "cron: two zones": {"cron_string": ["CRON_TZ=Europe/Berlin 0 12 * * *", "TZ=Asia/Tokyo 0 12 * * *"]},
        "cron: zone and another zone": {"cron_string": ["CRON_TZ=Europe/Berlin 0 12 * * *"], "timezone_name": "Asia/Tokyo"},
        "cron: seven fields": {"cron_string": ["0 0 12 * * * 2030"]},
        "cron: eight fields": {"cron_string": ["0 0 12 * * * 2030 1"]},
        "zone: unknown": {**HOURLY, "timezone_name": "Mars/Base"},
        "zone: local": {**HOURLY, "timezone_name": "Local"},
        "zone: offset": {**HOURLY, "timezone_name": "+02:00"},
        "zone: data": {**HOURLY, "timezone_name": "UTC", "timezone_data": b"rubbish"},
        "interval: zero": {"interval": [{"interval": "0s"}]},
        "interval: absent": {"interval": [{}]},
        "interval: negative": {"interval": [{"interval": "-1s"}]},
        "interval: half a second": {"interval": [{"interval": "0.5s"}]},
        "interval: phase beyond": {"interval": [{"interval": "60s", "phase": "60s"}]},
        "interval: negative phase": {"interval": [{"interval": "60s", "phase": "-1s"}]},
        "calendar: second 60": {"structured_calendar": [{"second": [{"start": 60}]}]},
        "calendar: hour 24": {"structured_calendar": [{"hour": [{"start": 24}]}]},
        "calendar: day 32": {"structured_calendar": [{"day_of_month": [{"start": 32}]}]},
        "calendar: day 0": {"structured_calendar": [{"day_of_month": [{"start": 0}]}]},
        "calendar: month 13": {"structured_calendar": [{"month": [{"start": 13}]}]},
        "calendar: weekday 8": {"structured_calendar": [{"day_of_week": [{"start": 8}]}]},
        "calendar: weekday 7": {"structured_calendar": [{"day_of_week": [{"start": 7}]}]},
        "calendar: year 1999": {"structured_calendar": [{"year": [{"start": 1999}]}]},
        "calendar: backwards": {"structured_calendar": [{"hour": [{"start": 10, "end": 5}]}]},
        "calendar: negative step": {"structured_calendar": [{"hour": [{"start": 1, "end": 5, "step": -1}]}]},
        "calendar: long comment": {"structured_calendar": [{"comment": "c" * 300}]},
        "old calendar: bad hour": {"calendar": [{"hour": "x"}]},
        "old calendar: hour 24": {"calendar": [{"hour": "24"}]},
        "old calendar: good": {"calendar": [{"hour": "9-17/2", "minute": "*/15", "day_of_week": "mon-fri", "comment": "c"}]},
        "old exclusion": {**HOURLY, "exclude_calendar": [{"day_of_week": "sat,sun"}]},
        "jitter: negative": {**HOURLY, "jitter": "-1s"},
        "end before start": {**HOURLY, "start_time": "2030-01-01T00:00:00Z", "end_time": "2020-01-01T00:00:00Z"},
    }
    for label, spec in specs.items():
        schedule_id = env.name(label)
        try:
            await env.rpc("CreateSchedule", **schedule_fields(env, spec, schedule_id=schedule_id))
        except Refusal as error:
            env.refused(label, error)
            continue
        found = await schedules.describe(env, schedule_id)
        env.note(label, to_dict(found.schedule.spec))
        await env.rpc("DeleteSchedule", schedule_id=schedule_id)


@scenario
async def schedule_matching_times(env: Env) -> None:
    """ListScheduleMatchingTimes for specifications of every kind."""
    cases = {
        "hourly": (HOURLY, "2024-01-01 00:30", "2024-01-01 05:00"),
        "interval with a phase": ({"interval": [{"interval": "3600s", "phase": "600s"}]}, "2024-01-01 00:00", "2024-01-01 05:00"),
        "interval of seven minutes": ({"interval": [{"interval": "420s"}]}, "2024-01-01 00:00", "2024-01-01 01:00"),
        "cron at noon": ({"cron_string": ["0 12 * * *"]}, "2024-01-01 00:00", "2024-01-05 00:00"),
        "cron with seconds": ({"cron_string": ["30 0 12 * * * *"]}, "2024-01-01 00:00", "2024-01-03 00:00"),
        "cron with a year": ({"cron_string": ["0 12 1 * * 2025"]}, "2024-06-01 00:00", "2025-04-01 00:00"),
        "cron weekdays": ({"cron_string": ["0 9 * * MON-FRI"]}, "2024-01-05 00:00", "2024-01-10 00:00"),
        "cron day and weekday": ({"cron_string": ["0 0 13 * FRI"]}, "2024-01-01 00:00", "2024-12-31 00:00"),
        "cron sunday as seven": ({"cron_string": ["0 0 * * 7"]}, "2024-01-01 00:00", "2024-01-20 00:00"),
        "cron leap day": ({"cron_string": ["0 0 29 2 *"]}, "2020-01-01 00:00", "2032-12-31 00:00"),
        "cron every": ({"cron_string": ["@every 45m"]}, "2024-01-01 00:00", "2024-01-01 04:00"),
        "cron monthly": ({"cron_string": ["@monthly"]}, "2024-01-01 00:00", "2024-06-30 00:00"),
        "cron weekly": ({"cron_string": ["@weekly"]}, "2024-01-01 00:00", "2024-01-31 00:00"),
        "two crons that meet": ({"cron_string": ["0 */2 * * *", "0 */3 * * *"]}, "2024-01-01 00:00", "2024-01-01 12:00"),
        "last day of the month is none": (
            {"structured_calendar": [{"day_of_month": [{"start": 31}]}]}, "2024-01-01 00:00", "2024-12-31 00:00"
        ),
        "calendar steps": (
            {"structured_calendar": [{"second": [{"start": 0}], "minute": [{"start": 5, "end": 59, "step": 20}], "hour": [{"start": 8, "end": 10}]}]},
            "2024-01-01 00:00",
            "2024-01-01 23:00",
        ),
        "calendar with exclusion": (
            {"cron_string": ["0 12 * * *"], "exclude_structured_calendar": [{"hour": [{"start": 12}], "day_of_week": [{"start": 0}, {"start": 6}]}]},
            "2024-01-01 00:00",
            "2024-01-15 00:00",
        ),
        "interval with exclusion": (
            {**HOURLY, "exclude_structured_calendar": [{"hour": [{"start": 0, "end": 20}]}]}, "2024-01-01 00:00", "2024-01-02 23:00"
        ),
        "start and end": (
            {**HOURLY, "start_time": "2024-01-01T02:30:00Z", "end_time": "2024-01-01T05:00:00Z"}, "2024-01-01 00:00", "2024-01-02 00:00"
        ),
        "years": ({"structured_calendar": [{"year": [{"start": 2025, "end": 2029, "step": 2}], "month": [{"start": 7}]}]}, "2024-01-01 00:00", "2032-01-01 00:00"),
        "empty range": (HOURLY, "2024-01-01 00:01", "2024-01-01 00:02"),
        "on the edges": (HOURLY, "2024-01-01 01:00", "2024-01-01 03:00"),
        "backwards": (HOURLY, "2024-01-02 00:00", "2024-01-01 00:00"),
        "nothing": ({}, "2024-01-01 00:00", "2024-01-02 00:00"),
    }
    for label, (spec, start, end) in cases.items():
        schedule_id = env.name(label)
        try:
            await env.rpc("CreateSchedule", **schedule_fields(env, spec, schedule_id=schedule_id))
            env.note(label, await schedules.times(env, start, end, schedule_id))
        except Refusal as error:
            env.refused(label, error)


@scenario
async def schedule_matching_times_in_zones(env: Env) -> None:
    """Matching times in zones over changes of the clock: times that do not exist, times that come twice, half-hour zones."""
    cases = {
        "new york, spring, in the gap": ("America/New_York", "30 2 * * *", "2024-03-08 00:00", "2024-03-13 00:00"),
        "new york, spring, hourly": ("America/New_York", "0 * * * *", "2024-03-10 04:00", "2024-03-10 10:00"),
        "new york, autumn, twice": ("America/New_York", "30 1 * * *", "2024-11-01 00:00", "2024-11-06 00:00"),
        "new york, autumn, hourly": ("America/New_York", "0 * * * *", "2024-11-03 03:00", "2024-11-03 09:00"),
        "berlin, spring": ("Europe/Berlin", "30 2 * * *", "2024-03-29 00:00", "2024-04-02 00:00"),
        "berlin, spring, every ten minutes": ("Europe/Berlin", "*/30 1-3 * * *", "2024-03-31 00:00", "2024-03-31 04:00"),
        "berlin, autumn": ("Europe/Berlin", "30 2 * * *", "2024-10-25 00:00", "2024-10-29 00:00"),
        "berlin, midnight": ("Europe/Berlin", "0 0 * * *", "2024-03-29 00:00", "2024-04-02 00:00"),
        "lord howe, half an hour": ("Australia/Lord_Howe", "15 2 * * *", "2024-10-04 00:00", "2024-10-08 00:00"),
        "lord howe, autumn": ("Australia/Lord_Howe", "45 1 * * *", "2024-04-05 00:00", "2024-04-09 00:00"),
        "kathmandu": ("Asia/Kathmandu", "0 12 * * *", "2024-01-01 00:00", "2024-01-03 12:00"),
        "havana, gap at midnight": ("America/Havana", "0 0 * * *", "2024-03-08 00:00", "2024-03-13 12:00"),
        "apia, the day that was not": ("Pacific/Apia", "0 12 * * *", "2011-12-28 00:00", "2012-01-02 00:00"),
        "santiago": ("America/Santiago", "30 0 * * *", "2024-09-06 00:00", "2024-09-10 12:00"),
        "utc": ("UTC", "30 2 * * *", "2024-03-09 00:00", "2024-03-12 00:00"),
        "no zone": ("", "30 2 * * *", "2024-03-09 00:00", "2024-03-12 00:00"),
    }
    for label, (zone, cron, start, end) in cases.items():
        schedule_id = env.name(label)
        spec = {"cron_string": [cron], "timezone_name": zone}
        await env.rpc("CreateSchedule", **schedule_fields(env, spec, schedule_id=schedule_id))
        env.note(label, await schedules.times(env, start, end, schedule_id))


@scenario
async def schedule_matching_times_with_jitter(env: Env) -> None:
    """Jitter moves each time forward by less than itself, the same way at every call."""
    await create(env, {**HOURLY, "jitter": "600s"})
    first = await schedules.times(env, "2024-01-01 00:00", "2024-01-01 08:00")
    again = await schedules.times(env, "2024-01-01 00:00", "2024-01-01 08:00")
    env.note("the same again", first == again)
    env.note("count", len(first))
    env.note("within ten minutes", all(datetime.fromisoformat(each).minute < 10 for each in first))
    env.note("moved", any(datetime.fromisoformat(each).second for each in first))


@scenario
async def schedule_acts_on_time(env: Env) -> None:
    """An interval of a second: the runs it starts, their attributes and memo; two runs' nominal times lie a second apart."""
    begin = action(
        env,
        memo={"fields": {"m": payload(1)}},
        search_attributes={"indexed_fields": {"CustomKeyword": payload("k")}},
        header={"fields": {"h": payload("v")}},
        user_metadata={"summary": payload("sum")},
        workflow_run_timeout="100s",
    )
    await create(env, OFTEN, action=begin, state={}, policies={"overlap_policy": "SCHEDULE_OVERLAP_POLICY_ALLOW_ALL"})
    await acted(env, 2)
    await patch(env, pause="enough")
    found = await until(env, lambda found: found.schedule.state.paused)
    nominal = [each.schedule_time.ToDatetime() for each in found.info.recent_actions]
    env.note("a second apart", all(later - earlier == timedelta(seconds=1) for earlier, later in zip(nominal, nominal[1:], strict=False)))
    env.note("whole seconds", all(each.microsecond == 0 for each in nominal))
    first = found.info.recent_actions[0].start_workflow_result
    env.note("id says the time", first.workflow_id == f"{env.name('run')}-{nominal[0].isoformat()}Z")
    await env.history("first run", first.workflow_id, first.run_id)
    await env.show("describe first run", "DescribeWorkflowExecution", execution=env.execution(first.workflow_id))


@scenario
async def schedule_triggered(env: Env) -> None:
    """A paused schedule that is triggered starts its run all the same; descriptions before, while it runs, and after."""
    await create(env)
    await trigger(env)
    await acted(env, 1)
    await show(env, "describe while the run is open")
    task = await env.poll()
    await env.history("run", task.workflow_execution.workflow_id)
    await env.complete(task, complete_run("r"))
    await until(env, lambda found: not found.info.running_workflows)
    await show(env, "describe afterwards")


async def overlap(env: Env, policy: str) -> None:
    """Three triggers under one policy while the first run is open, then the end of the open runs."""
    await create(env, policies={"overlap_policy": f"SCHEDULE_OVERLAP_POLICY_{policy}"})
    await trigger(env)
    await acted(env, 1)
    first = (await schedules.describe(env)).info.recent_actions[0].start_workflow_result
    for _ in range(2):
        # Two triggers in one second would be for the same run.
        await asyncio.sleep(1.1)
        await trigger(env)
        await asyncio.sleep(0.4)
    if policy in ("TERMINATE_OTHER", "ALLOW_ALL"):
        await acted(env, 3)
    found = await schedules.describe(env)
    env.note(f"three triggers: {COUNTED}", counters(found))
    status = await env.rpc("DescribeWorkflowExecution", execution=env.execution(first.workflow_id, first.run_id))
    env.note("first run", status.workflow_execution_info.status)
    events = await env.events(first.workflow_id, first.run_id)
    env.note("first run's events", [each.event_type for each in events])
    env.note("reasons", [
        [each.workflow_execution_terminated_event_attributes.reason, each.workflow_execution_terminated_event_attributes.identity]
        for each in events if each.event_type == 27
    ] + [
        [each.workflow_execution_cancel_requested_event_attributes.cause, each.workflow_execution_cancel_requested_event_attributes.identity]
        for each in events if each.event_type == 20
    ])
    if policy == "TERMINATE_OTHER":
        return
    closing = command("CANCEL_WORKFLOW_EXECUTION") if policy == "CANCEL_OTHER" else complete_run()
    await env.step(closing)
    if policy not in ("SKIP", "ALLOW_ALL"):
        await acted(env, 2)
    found = await until(env, lambda found: len(found.info.running_workflows) != 1 or found.info.action_count > 1)
    env.note(f"one run ended: {COUNTED}", counters(found))


@scenario
async def schedule_overlap_skip(env: Env) -> None:
    """SKIP: later triggers are counted as skipped."""
    await overlap(env, "SKIP")


@scenario
async def schedule_overlap_buffer_one(env: Env) -> None:
    """BUFFER_ONE: one waits, the next is dropped."""
    await overlap(env, "BUFFER_ONE")


@scenario
async def schedule_overlap_buffer_all(env: Env) -> None:
    """BUFFER_ALL: all wait and start one after the other."""
    await overlap(env, "BUFFER_ALL")


@scenario
async def schedule_overlap_cancel_other(env: Env) -> None:
    """CANCEL_OTHER: the open run is asked to cancel, the next waits for its end."""
    await overlap(env, "CANCEL_OTHER")


@scenario
async def schedule_overlap_terminate_other(env: Env) -> None:
    """TERMINATE_OTHER: the open run is terminated, the next starts."""
    await overlap(env, "TERMINATE_OTHER")


@scenario
async def schedule_overlap_allow_all(env: Env) -> None:
    """ALLOW_ALL: all run side by side."""
    await overlap(env, "ALLOW_ALL")


@scenario
async def schedule_trigger_overrides_the_policy(env: Env) -> None:
    """A trigger with a policy of its own over one that would skip."""
    await create(env, policies={"overlap_policy": "SCHEDULE_OVERLAP_POLICY_SKIP"})
    await trigger(env)
    await acted(env, 1)
    await asyncio.sleep(1.1)
    await trigger(env, "ALLOW_ALL")
    found = await acted(env, 2)
    env.note(COUNTED, counters(found))


@scenario
async def schedule_paused_and_unpaused(env: Env) -> None:
    """Pause and unpause with notes; both at once; what the state says."""
    await create(env, state={"notes": "at first"})
    await env.show("pause", "PatchSchedule", schedule_id=env.name("schedule"), patch={"pause": "stop it"}, request_id="p1")
    await until(env, lambda found: found.schedule.state.paused)
    await show(env, "paused")
    await env.show("unpause", "PatchSchedule", schedule_id=env.name("schedule"), patch={"unpause": "go on"}, request_id="p2")
    await until(env, lambda found: not found.schedule.state.paused)
    await show(env, "unpaused")
    await env.show("nothing", "PatchSchedule", schedule_id=env.name("schedule"), patch={}, request_id="p3")
    await env.show("no patch", "PatchSchedule", schedule_id=env.name("schedule"), request_id="p4")
    await env.show(
        "both", "PatchSchedule", schedule_id=env.name("schedule"), patch={"pause": "a", "unpause": "b"}, request_id="p5"
    )


@scenario
async def schedule_backfilled(env: Env) -> None:
    """A paused hourly schedule back-filled over three hours, everything allowed side by side: three runs with their nominal times."""
    await create(env)
    span = {
        "start_time": "2024-01-01T00:30:00Z",
        "end_time": "2024-01-01T03:30:00Z",
        "overlap_policy": "SCHEDULE_OVERLAP_POLICY_ALLOW_ALL",
    }
    await patch(env, backfill_request=[span])
    found = await acted(env, 3)
    env.note(COUNTED, counters(found))
    env.note("nominal", [each.schedule_time.ToDatetime().isoformat(" ") for each in found.info.recent_actions])
    env.note("ids", [each.start_workflow_result.workflow_id.removeprefix(env.name("run")).rstrip("Z") for each in found.info.recent_actions])
    described = await env.rpc(
        "DescribeWorkflowExecution", execution=env.execution(found.info.recent_actions[0].start_workflow_result.workflow_id)
    )
    fields = described.workflow_execution_info.search_attributes.indexed_fields
    env.note("attributes", [[name, json.loads(fields[name].data).rstrip("Z")] for name in sorted(fields) if name.startswith("TemporalSch")])


@scenario
async def schedule_backfilled_in_order(env: Env) -> None:
    """A back-fill under BUFFER_ALL: its runs start one after the other, in the order of their times."""
    await create(env)
    span = {"start_time": "2024-01-01T00:00:00Z", "end_time": "2024-01-01T02:00:00Z", "overlap_policy": "SCHEDULE_OVERLAP_POLICY_BUFFER_ALL"}
    await patch(env, backfill_request=[span])
    order = []
    for _ in range(3):
        task = await env.poll()
        order.append(task.workflow_execution.workflow_id.removeprefix(env.name("run")).rstrip("Z"))
        await env.complete(task, complete_run())
    env.note("order", order)
    found = await until(env, lambda found: not found.info.running_workflows and found.info.action_count == 3)
    env.note(COUNTED, counters(found))


@scenario
async def schedule_backfill_is_validated(env: Env) -> None:
    """Back-fills that go backwards, that are empty, that lie outside of the schedule's span."""
    await create(env, {**HOURLY, "start_time": "2024-01-01T00:00:00Z", "end_time": "2024-02-01T00:00:00Z"})

    async def case(label: str, start: str | None, end: str | None) -> None:
        span = {key: value for key, value in (("start_time", start), ("end_time", end)) if value}
        await env.show(label, "PatchSchedule", schedule_id=env.name("schedule"), patch={"backfill_request": [span]}, request_id=label)

    await case("backwards", "2024-01-02T00:00:00Z", "2024-01-01T00:00:00Z")
    await case("no start", None, "2024-01-01T00:00:00Z")
    await case("no end", "2024-01-01T00:00:00Z", None)
    await case("before the schedule's start", "2023-01-01T00:00:00Z", "2023-01-02T00:00:00Z")


@scenario
async def schedule_with_limited_actions(env: Env) -> None:
    """Two actions left on an interval of a second: two runs, then none; a trigger does not count against them or does."""
    await create(
        env,
        OFTEN,
        state={"limited_actions": True, "remaining_actions": 2},
        policies={"overlap_policy": "SCHEDULE_OVERLAP_POLICY_ALLOW_ALL"},
    )
    await acted(env, 2)
    await asyncio.sleep(2.2)
    found = await schedules.describe(env)
    env.note(COUNTED, counters(found))
    env.note("left", [found.schedule.state.remaining_actions, found.schedule.state.limited_actions, found.schedule.state.paused])
    env.note("next times", len(found.info.future_action_times))
    await trigger(env)
    await asyncio.sleep(1)
    env.note(f"after a trigger: {COUNTED}", counters(await schedules.describe(env)))


@scenario
async def schedule_pauses_on_failure(env: Env) -> None:
    """A failed run pauses the schedule with a note; a timed-out one too; a cancelled one does not."""
    await create(env, state={"notes": "fine"}, policies={"pause_on_failure": True})
    await trigger(env)
    await env.step(command("CANCEL_WORKFLOW_EXECUTION"))
    await until(env, lambda found: found.info.action_count == 1 and not found.info.running_workflows)
    env.note("after a cancelled run", (await schedules.describe(env)).schedule.state.paused)
    await asyncio.sleep(1.1)
    await trigger(env)
    await env.step(command("FAIL_WORKFLOW_EXECUTION", failure=failure("f")))
    found = await until(env, lambda found: found.schedule.state.paused)
    env.note("after a failed run", [found.schedule.state.paused, found.schedule.state.notes])


@scenario
async def schedule_carries_results_on(env: Env) -> None:
    """A scheduled run gets the last completion result, and the failure of the run before it."""
    await create(env)
    await trigger(env)
    await env.step(complete_run("one"))
    await until(env, lambda found: found.info.action_count == 1 and not found.info.running_workflows)
    await asyncio.sleep(1.1)
    await trigger(env)
    task = await env.step(command("FAIL_WORKFLOW_EXECUTION", failure=failure("f")))
    await env.history("second run", task.workflow_execution.workflow_id)
    await until(env, lambda found: found.info.action_count == 2 and not found.info.running_workflows)
    await asyncio.sleep(1.1)
    await trigger(env)
    task = await env.poll()
    await env.history("third run", task.workflow_execution.workflow_id)


@scenario
async def schedule_updated(env: Env) -> None:
    """An update of everything, with and without the conflict token, with a stale one."""
    await create(env, state={"paused": True, "notes": "first"})
    before = await schedules.describe(env)
    changed = {
        "spec": {"cron_string": ["0 6 * * *"], "timezone_name": "Europe/Berlin"},
        "action": action(env, workflow_type={"name": "Other"}, input=payloads("changed")),
        "policies": {"overlap_policy": "SCHEDULE_OVERLAP_POLICY_ALLOW_ALL", "catchup_window": "120s"},
        "state": {"paused": True, "notes": "second"},
    }
    await env.show(
        "with the token",
        "UpdateSchedule",
        schedule_id=env.name("schedule"),
        schedule=changed,
        conflict_token=before.conflict_token,
        request_id="u1",
    )
    await until(env, lambda found: found.schedule.state.notes == "second")
    await show(env, "described")
    changed["state"]["notes"] = "third"
    try:
        await env.rpc(
            "UpdateSchedule",
            schedule_id=env.name("schedule"),
            schedule=changed,
            conflict_token=before.conflict_token,
            request_id="u2",
        )
    except Refusal as error:
        assert error.code == "FAILED_PRECONDITION", error
    await asyncio.sleep(1)
    env.note("after one with the old token", (await schedules.describe(env)).schedule.state.notes)
    changed["state"]["notes"] = "fourth"
    await env.show("without a token", "UpdateSchedule", schedule_id=env.name("schedule"), schedule=changed, request_id="u3")
    found = await until(env, lambda found: found.schedule.state.notes == "fourth")
    env.note("token changed", found.conflict_token != before.conflict_token)


@scenario
async def schedule_update_is_validated(env: Env) -> None:
    """UpdateSchedule with one thing wrong at a time."""
    await create(env)

    async def case(label: str, **fields: object) -> None:
        base = {"schedule_id": env.name("schedule"), "schedule": schedule_fields(env)["schedule"], "request_id": label}
        await env.show(label, "UpdateSchedule", **{**base, **fields})

    good = schedule_fields(env)["schedule"]
    await case("no schedule", schedule=None)
    await case("no action", schedule={"spec": HOURLY})
    await case("bad cron", schedule={**good, "spec": {"cron_string": ["nonsense"]}})
    await case("bad zone", schedule={**good, "spec": {**HOURLY, "timezone_name": "Mars/Base"}})
    await case("bad interval", schedule={**good, "spec": {"interval": [{"interval": "0s"}]}})
    await case("no request id", request_id="")
    await case("unknown attribute", search_attributes={"indexed_fields": {"Nope": payload(1)}})


@scenario
async def schedule_search_attributes_updated(env: Env) -> None:
    """Search attributes and memo of a schedule: given, left alone by an update, changed, taken away."""
    await create(
        env,
        search_attributes={"indexed_fields": {"CustomKeyword": payload("k"), "CustomInt": payload(1)}},
        memo={"fields": {"m": payload(1)}},
    )
    schedule = schedule_fields(env)["schedule"]

    async def update(label: str, **fields: object) -> None:
        schedule["state"] = {"paused": True, "notes": label}
        await env.rpc("UpdateSchedule", schedule_id=env.name("schedule"), schedule=schedule, request_id=label, **fields)
        await until(env, lambda found: found.schedule.state.notes == label)
        await asyncio.sleep(0.5)
        found = to_dict(await schedules.describe(env))
        env.note(label, [found.get("search_attributes"), found.get("memo")])

    await update("left alone")
    await update("changed", search_attributes={"indexed_fields": {"CustomKeyword": payload("other")}})
    await update("taken away", search_attributes={})


@scenario
async def schedule_listed(env: Env) -> None:
    """ListSchedules: an entry in full, then ids by filters and pages."""
    namespace = env.name("ns")
    await env.rpc("RegisterNamespace", namespace=namespace, workflow_execution_retention_period="86400s")
    await env.rpc("AddSearchAttributes", namespace=namespace, search_attributes={"K": "INDEXED_VALUE_TYPE_KEYWORD"})
    for name, paused in (("a", True), ("b", False), ("c", True)):
        fields = schedule_fields(
            env,
            {"cron_string": ["0 12 * * *"], "timezone_name": "Europe/Berlin"},
            schedule_id=name,
            namespace=namespace,
            state={"paused": paused, "notes": f"notes of {name}"},
            memo={"fields": {"m": payload(name)}},
        )
        async with asyncio.timeout(TASK_SECONDS_MAX):
            while True:
                try:
                    await env.rpc("CreateSchedule", **{**fields, "search_attributes": {"indexed_fields": {"K": payload(name)}}})
                    break
                except Refusal as error:
                    if "no mapping" not in error.message:
                        raise
                    await asyncio.sleep(0.1)
        await asyncio.sleep(0.02)

    async def ids(query: str = "", **fields: object) -> list[str]:
        found = await env.rpc("ListSchedules", namespace=namespace, query=query, **fields)
        return [each.schedule_id for each in found.schedules]

    async with asyncio.timeout(TASK_SECONDS_MAX):
        while sorted(await ids()) != ["a", "b", "c"] or sorted(await ids("TemporalSchedulePaused = true")) != ["a", "c"]:
            await asyncio.sleep(0.1)
    env.note("all", await ids())
    await env.show("one entry", "ListSchedules", namespace=namespace, query="K = 'a'")
    for query in (
        "TemporalSchedulePaused = true",
        "TemporalSchedulePaused = false",
        "K = 'b'",
        "K IN ('a', 'b')",
        "ScheduleId = 'a'",
        "ScheduleId STARTS_WITH 'a'",
        "WorkflowId = 'a'",
        "Nope = 1",
        "nonsense",
        "ORDER BY StartTime",
    ):
        try:
            env.note(query, await ids(query))
        except Refusal as error:
            env.note(query, refused(error))
    pages, token = [], b""
    while True:
        page = await env.rpc("ListSchedules", namespace=namespace, maximum_page_size=2, next_page_token=token)
        pages.append([each.schedule_id for each in page.schedules])
        token = page.next_page_token
        if not token:
            break
    env.note("pages", pages)
    try:
        env.note("count", (await env.rpc("CountSchedules", namespace=namespace)).count)
    except Refusal as error:
        env.refused("count", error)
    await env.show("unknown namespace", "ListSchedules", namespace="nowhere")
    runs = await env.rpc("CountWorkflowExecutions", namespace=namespace)
    env.note("schedules among the runs", runs.count)


@scenario
async def schedule_with_an_initial_patch(env: Env) -> None:
    """A schedule that is triggered and back-filled by its creation."""
    span = {
        "start_time": "2024-01-01T00:30:00Z",
        "end_time": "2024-01-01T01:30:00Z",
        "overlap_policy": "SCHEDULE_OVERLAP_POLICY_ALLOW_ALL",
    }
    await create(
        env,
        initial_patch={
            "trigger_immediately": {"overlap_policy": "SCHEDULE_OVERLAP_POLICY_ALLOW_ALL"},
            "backfill_request": [span],
        },
    )
    found = await acted(env, 2)
    env.note(COUNTED, counters(found))


@scenario
async def schedule_at_its_end(env: Env) -> None:
    """Schedules whose end has passed, whose start lies ahead, that are never due: their next times."""
    cases = {
        "ended": {**HOURLY, "end_time": "2020-01-01T00:00:00Z"},
        "not begun": {**HOURLY, "start_time": "2090-01-01T00:00:00Z"},
        "never": {"structured_calendar": [{"month": [{"start": 2}], "day_of_month": [{"start": 30}]}]},
        "once": {"structured_calendar": [{"year": [{"start": 2090}], "month": [{"start": 1}], "day_of_month": [{"start": 1}]}]},
        "empty": {},
        "hourly": HOURLY,
    }
    for label, spec in cases.items():
        schedule_id = env.name(label)
        await env.rpc("CreateSchedule", **schedule_fields(env, spec, schedule_id=schedule_id))
        found = await schedules.describe(env, schedule_id)
        env.note(label, len(found.info.future_action_times))


@scenario
async def schedule_deleted_while_a_run_is_open(env: Env) -> None:
    """Deleting a schedule leaves the run that it started."""
    await create(env)
    await trigger(env)
    task = await env.poll()
    await env.rpc("DeleteSchedule", schedule_id=env.name("schedule"))
    await env.complete(task, complete_run("r"))
    wid = task.workflow_execution.workflow_id
    await env.until_closed(workflow_id=wid)
    status = await env.rpc("DescribeWorkflowExecution", execution=env.execution(wid))
    env.note("run", status.workflow_execution_info.status)
    env.note("made again", bool((await create(env)).conflict_token))


@scenario
async def schedule_and_an_id_that_is_taken(env: Env) -> None:
    """Two triggers in one second have one nominal time: the second run's id is taken."""
    await create(env, policies={"overlap_policy": "SCHEDULE_OVERLAP_POLICY_ALLOW_ALL"})
    now = datetime.now(UTC)
    await asyncio.sleep(1.05 - now.microsecond / 1e6)
    await trigger(env)
    await trigger(env)
    await acted(env, 1)
    await asyncio.sleep(1)
    found = await schedules.describe(env)
    env.note("runs", len({each.start_workflow_result.workflow_id for each in found.info.recent_actions}))


@scenario
async def sdk_schedule(env: Env) -> None:
    """A schedule by the SDK: made, described, triggered, paused, changed, deleted."""
    from temporalio.client import (
        Schedule,
        ScheduleActionStartWorkflow,
        ScheduleIntervalSpec,
        ScheduleSpec,
        ScheduleState,
        ScheduleUpdate,
        ScheduleUpdateInput,
    )

    from differential.scenarios.sdk import Greeter, greet

    async with await env.worker([Greeter], [greet]):
        client = await env.client()
        handle = await client.create_schedule(
            env.name("schedule"),
            Schedule(
                action=ScheduleActionStartWorkflow(Greeter.run, "schedule", id=env.name("run"), task_queue=env.tq),
                spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=1))]),
                state=ScheduleState(paused=True, note="sdk"),
            ),
        )
        await handle.trigger()
        async with asyncio.timeout(TASK_SECONDS_MAX):
            while True:
                described = await handle.describe()
                if described.info.num_actions == 1 and not described.info.running_actions:
                    break
                await asyncio.sleep(0.1)
        result = described.info.recent_actions[0].action
        env.note("result", await client.get_workflow_handle(result.workflow_id).result())  # type: ignore[union-attr]

        async def change(asked: ScheduleUpdateInput) -> ScheduleUpdate:
            schedule = asked.description.schedule
            schedule.spec.intervals = [ScheduleIntervalSpec(every=timedelta(hours=2))]
            return ScheduleUpdate(schedule=schedule)

        await handle.update(change)
        async with asyncio.timeout(TASK_SECONDS_MAX):
            while (await handle.describe()).schedule.spec.intervals[0].every != timedelta(hours=2):
                await asyncio.sleep(0.1)
        await handle.unpause(note="on")
        async with asyncio.timeout(TASK_SECONDS_MAX):
            while (described := await handle.describe()).schedule.state.paused:
                await asyncio.sleep(0.1)
        env.note("note", described.schedule.state.note)
        await handle.delete()
        try:
            await handle.describe()
        except Exception as error:  # noqa: BLE001
            env.note("deleted", type(error).__name__)
