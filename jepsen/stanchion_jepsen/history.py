"""A run's history as it was read: the raw bytes of its events, and those decoded.

Never changes what it was given: `raw` is what the checkers compare, `events` is what they look into. Built by `api`, used by
`sampler`, `checkers` and the workloads.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

CLOSE_EVENTS = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
}


@dataclass(frozen=True)
class RunHistory:
    wf: str
    run: str
    raw: tuple[bytes, ...]

    @cached_property
    def events(self) -> list[HistoryEvent]:
        return [HistoryEvent.FromString(data) for data in self.raw]

    @cached_property
    def digests(self) -> list[bytes]:
        """One short hash per event: enough to compare prefixes without keeping megabytes."""
        return digests(self.raw)

    @property
    def closed(self) -> bool:
        return bool(self.raw) and self.events[-1].event_type in CLOSE_EVENTS

    @cached_property
    def stored(self) -> int:
        """How many of the events are stored. Of a workflow task that failed before, scheduled and started are shown at the end of an
        open run's history without being stored yet: the next attempt shows others in their place, as on the real server."""
        count = len(self.raw)
        if count and self.events[-1].event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
            count -= 1
        if count:
            last = self.events[count - 1]
            if (
                last.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED
                and last.workflow_task_scheduled_event_attributes.attempt > 1
            ):
                return count - 1
        return len(self.raw)

    @cached_property
    def settled(self) -> int:
        """How many of the events are beyond doubt in a run that gets updates: the workflow task outstanding at the end may be a
        speculative one, which an update brings and its rejection takes away again, as on the real server."""
        count = len(self.raw)
        if count and self.events[-1].event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
            count -= 1
        if count and self.events[count - 1].event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
            return count - 1
        return len(self.raw)

    def result(self) -> object:
        """The decoded JSON result of a completed run; None for any other."""
        if not self.raw:
            return None
        last = self.events[-1]
        if last.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
            return None
        payloads = last.workflow_execution_completed_event_attributes.result.payloads
        return json.loads(payloads[0].data) if payloads and payloads[0].data else None


def digests(raw: tuple[bytes, ...] | list[bytes]) -> list[bytes]:
    return [hashlib.blake2b(data, digest_size=16).digest() for data in raw]


def event_name(event: HistoryEvent) -> str:
    return EventType.Name(event.event_type).removeprefix("EVENT_TYPE_")
