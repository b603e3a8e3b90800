"""Schedules through the published SDK and the `temporal` CLI, and a schedule's actions over kill -9."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleBackfill,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from e2e import programs
from e2e.test_temporal_cli import Cli
from harness import servers


def greeting(unique: str) -> ScheduleActionStartWorkflow:
    return ScheduleActionStartWorkflow(programs.Greeting.run, "you", id=f"{unique}-run", task_queue=unique)


def worker(client: Client, queue: str) -> Worker:
    return Worker(
        client,
        task_queue=queue,
        workflows=programs.WORKFLOWS,
        activities=programs.ACTIVITIES,
        workflow_runner=UnsandboxedWorkflowRunner(),
    )


async def until(condition, seconds: float = 20.0):
    """What `condition` returns once it is true."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):
            await asyncio.sleep(0.05)
    return found


async def test_a_schedule_through_the_sdk(client, unique):
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(days=10))], cron_expressions=["0 12 * * MON-FRI"])
    handle = await client.create_schedule(
        unique, Schedule(action=greeting(unique), spec=spec, state=ScheduleState(note="first")), memo={"who": "me"}
    )
    with pytest.raises(ScheduleAlreadyRunningError):
        await client.create_schedule(unique, Schedule(action=greeting(unique), spec=spec))

    described = await handle.describe()
    assert described.schedule.state.note == "first"
    assert described.schedule.spec.cron_expressions == []
    assert described.schedule.spec.calendars[0].hour[0].start == 12
    assert len(described.info.next_action_times) == 10
    assert await described.memo() == {"who": "me"}

    async with worker(client, unique):
        await handle.trigger()

        async def done():
            actions = (await handle.describe()).info.recent_actions
            return actions if actions and not (await handle.describe()).info.running_actions else None

        [action] = await until(done)
        assert action.action.workflow_id.startswith(f"{unique}-run-")
        run = client.get_workflow_handle(action.action.workflow_id)
        assert await run.result() == "Hello, you!"
        attributes = (await run.describe()).typed_search_attributes
        assert {pair.key.name for pair in attributes} >= {"TemporalScheduledById", "TemporalScheduledStartTime"}

        await handle.backfill(
            ScheduleBackfill(
                start_at=datetime(2024, 1, 1, tzinfo=UTC),
                end_at=datetime(2024, 1, 8, tzinfo=UTC),
                overlap=ScheduleOverlapPolicy.ALLOW_ALL,
            )
        )

        async def six():
            return (await handle.describe()).info.num_actions >= 6

        await until(six)

    await handle.pause(note="resting")
    assert (await handle.describe()).schedule.state.paused
    await handle.unpause(note="back")
    described = await handle.describe()
    assert not described.schedule.state.paused
    assert described.schedule.state.note == "back"

    async def change(was: ScheduleUpdateInput) -> ScheduleUpdate:
        schedule = was.description.schedule
        schedule.policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.BUFFER_ALL)
        schedule.spec = ScheduleSpec(cron_expressions=["@hourly"], time_zone_name="Europe/Berlin")
        return ScheduleUpdate(schedule=schedule)

    await handle.update(change)
    described = await handle.describe()
    assert described.schedule.policy.overlap is ScheduleOverlapPolicy.BUFFER_ALL
    assert described.schedule.spec.time_zone_name == "Europe/Berlin"

    async def listed():
        return unique in [each.id async for each in await client.list_schedules()]

    await until(listed)
    await handle.delete()
    assert unique not in [each.id async for each in await client.list_schedules(page_size=1)]


async def test_a_schedule_through_the_cli(stanchion, client, unique):
    temporal = Cli(stanchion.grpc)
    name = ("--schedule-id", unique)
    await temporal(
        "schedule", "create", *name, "--interval", "5h/30m", "--type", "Greeting", "--task-queue", unique,
        "--workflow-id", unique, "--input", '"cli"', "--overlap-policy", "BufferOne",
    )  # fmt: skip
    described = await temporal.read("schedule", "describe", *name)
    assert described["schedule"]["spec"]["interval"] == [{"interval": "18000s", "phase": "1800s"}]
    assert described["schedule"]["policies"]["overlapPolicy"] == "SCHEDULE_OVERLAP_POLICY_BUFFER_ONE"
    async with worker(client, unique):
        await temporal("schedule", "trigger", *name)

        async def ended():
            info = (await temporal.read("schedule", "describe", *name))["info"]
            return info if info.get("recentActions") and not info.get("runningWorkflows") else None

        info = await until(ended)
        assert info["recentActions"][0]["startWorkflowStatus"] == "WORKFLOW_EXECUTION_STATUS_COMPLETED"
    await temporal("schedule", "toggle", *name, "--pause", "--reason", "enough")
    assert (await temporal.read("schedule", "describe", *name))["schedule"]["state"]["paused"]
    assert unique in await temporal("schedule", "list")
    await temporal("schedule", "delete", *name)
    assert unique not in await temporal("schedule", "list")


async def test_actions_over_kill_9_are_exactly_the_matching_times(start_server, tmp_path):
    """The server is killed again and again while schedules act every second: no time is missed, none is acted on twice."""
    data = tmp_path / "data"
    ports = tuple(servers.free_ports(2))
    server = start_server(data, ports=ports)
    client = await Client.connect(server.grpc)
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=1))])
    names = [f"s{each}" for each in range(5)]
    policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.BUFFER_ALL)
    async with worker(client, "kill"):
        for each in names:
            action = ScheduleActionStartWorkflow(programs.Greeting.run, each, id=each, task_queue="kill")
            await client.create_schedule(each, Schedule(action=action, spec=spec, policy=policy))
        for _ in range(4):
            await asyncio.sleep(2.3)
            server.kill()
            await asyncio.sleep(1.2)
            server = start_server(data, ports=ports)
        await asyncio.sleep(2)
        for each in names:
            handle = client.get_schedule_handle(each)
            await handle.pause()

            async def quiet(handle=handle):
                info = (await handle.describe()).info
                return info if not info.running_actions else None

            # An activity that was handed out in an answer which the kill cut off runs again after its time-out of 30 s.
            info = await until(quiet, 90)
            created = info.created_at
            assert (info.num_actions_missed_catchup_window, info.num_actions_skipped_overlap) == (0, 0)
            last = max(action.scheduled_at for action in info.recent_actions)
            expected = int(last.timestamp()) - int(created.timestamp())
            assert info.num_actions == expected, f"{each}: {info}"
            for second in range(int(created.timestamp()) + 1, int(last.timestamp()) + 1):
                at = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                described = await client.get_workflow_handle(f"{each}-{at}").describe()
                assert re.fullmatch(r"COMPLETED", described.status.name), f"{each} at {at}: {described.status}"
