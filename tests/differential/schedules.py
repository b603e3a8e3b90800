"""Schedules on the wire: making one, waiting for what the server does with it in its own time.

The real server takes updates of a schedule in the background: `until` waits for a condition on its description. Never compares.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from differential.env import TASK_SECONDS_MAX, Env
from harness.wire import payloads

HOURLY = {"interval": [{"interval": "3600s"}]}
OFTEN = {"interval": [{"interval": "1s"}]}


def action(env: Env, **fields: Any) -> dict[str, Any]:
    base = {
        "workflow_id": env.name("run"),
        "workflow_type": {"name": "Demo"},
        "task_queue": {"name": env.tq},
        "input": payloads("in"),
    }
    return {"start_workflow": {key: value for key, value in {**base, **fields}.items() if value is not None}}


def schedule_fields(env: Env, spec: Any = None, **fields: Any) -> dict[str, Any]:
    """A CreateSchedule request that is valid: an hourly one, paused unless `state` is given."""
    schedule = {
        "spec": HOURLY if spec is None else spec,
        "action": fields.pop("action", None) or action(env),
        "policies": fields.pop("policies", None),
        "state": fields.pop("state", {"paused": True}),
    }
    base = {
        "schedule_id": env.name("schedule"),
        "schedule": {key: value for key, value in schedule.items() if value is not None},
        "request_id": str(uuid.uuid4()),
    }
    return {key: value for key, value in {**base, **fields}.items() if value is not None}


async def create(env: Env, spec: Any = None, **fields: Any) -> Any:
    return await env.rpc("CreateSchedule", **schedule_fields(env, spec, **fields))


async def describe(env: Env, schedule_id: str | None = None) -> Any:
    return await env.rpc("DescribeSchedule", schedule_id=schedule_id or env.name("schedule"))


async def show(env: Env, label: str, schedule_id: str | None = None) -> Any:
    return await env.show(label, "DescribeSchedule", schedule_id=schedule_id or env.name("schedule"))


async def patch(env: Env, schedule_id: str | None = None, **what: Any) -> Any:
    return await env.rpc(
        "PatchSchedule", schedule_id=schedule_id or env.name("schedule"), patch=what, request_id=str(uuid.uuid4())
    )


async def until(env: Env, condition: Callable[[Any], bool], schedule_id: str | None = None) -> Any:
    """The description once the condition holds."""
    async with asyncio.timeout(TASK_SECONDS_MAX):
        while True:
            found = await describe(env, schedule_id)
            if condition(found):
                return found
            await asyncio.sleep(0.05)


async def acted(env: Env, count: int, schedule_id: str | None = None) -> Any:
    return await until(env, lambda found: found.info.action_count >= count, schedule_id)


async def trigger(env: Env, overlap: str = "UNSPECIFIED") -> None:
    await patch(env, trigger_immediately={"overlap_policy": f"SCHEDULE_OVERLAP_POLICY_{overlap}"})


def counters(found: Any) -> list[Any]:
    info = found.info
    return [
        info.action_count,
        info.missed_catchup_window,
        info.overlap_skipped,
        info.buffer_dropped,
        info.buffer_size,
        len(info.running_workflows),
        len(info.recent_actions),
    ]


COUNTED = "actions, missed, skipped, dropped, buffered, running, recent"


def at(text: str) -> str:
    """A time for a request, from `2024-03-10 06:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def times(env: Env, start: str, end: str, schedule_id: str | None = None, most: int = 40) -> list[str]:
    """The matching times of a schedule in a range, as text that the comparison sees."""
    answer = await env.rpc(
        "ListScheduleMatchingTimes", schedule_id=schedule_id or env.name("schedule"), start_time=at(start), end_time=at(end)
    )
    found = [each.ToDatetime().isoformat(" ") for each in answer.start_time]
    return found if len(found) <= most else [*found[:most], f"and {len(found) - most} more"]
