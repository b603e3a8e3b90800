"""Judges children, messages between runs, updates and schedules. Pure, like `checkers`: evidence in, a `Check` out.

Never talks to a node. Called by the workload `together`; shown to bite in `tests/test_checkers_together.py`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass

from temporalio.api.enums.v1 import EventType

from .checkers import Check
from .history import RunHistory, event_name
from .journal import Op

_CHILD_ENDS = {
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED: "child_workflow_execution_completed_event_attributes",
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED: "child_workflow_execution_failed_event_attributes",
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT: "child_workflow_execution_timed_out_event_attributes",
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED: "child_workflow_execution_canceled_event_attributes",
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED: "child_workflow_execution_terminated_event_attributes",
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED: "start_child_workflow_execution_failed_event_attributes",
}


def children_once(parents: dict[str, RunHistory], children: dict[str, RunHistory], runs_of: dict[str, list[str]]) -> Check:
    """G1: each initiated child is started once and its end is recorded once; the run the parent names is the only one of its id."""
    check = Check("each child is started once, its result recorded once", "G1")
    for wf, history in parents.items():
        initiated: dict[int, str] = {}
        started: dict[int, list[str]] = defaultdict(list)
        ended: Counter[int] = Counter()
        for event in history.events:
            kind = event.event_type
            if kind == EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                initiated[event.event_id] = event.start_child_workflow_execution_initiated_event_attributes.workflow_id
            elif kind == EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
                attributes = event.child_workflow_execution_started_event_attributes
                started[attributes.initiated_event_id].append(attributes.workflow_execution.run_id)
            elif kind in _CHILD_ENDS:
                ended[getattr(event, _CHILD_ENDS[kind]).initiated_event_id] += 1
                if kind != EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED:
                    check.violations.append(f"{wf}: {event_name(event)} (id {event.event_id}), and nothing should fail a child")
        for at, child in initiated.items():
            check.counted += 1
            if len(started[at]) != 1:
                check.violations.append(f"{wf}: child {child} is recorded as started {len(started[at])} times")
                continue
            if ended[at] != 1:
                check.violations.append(f"{wf}: the end of child {child} is recorded {ended[at]} times")
            if runs_of.get(child) != started[at]:
                check.violations.append(f"{wf}: child {child} has runs {runs_of.get(child)}, its parent started {started[at]}")
            own = children.get(child)
            if own is None or not own.raw:
                check.violations.append(f"{wf}: child {child} has no history")
                continue
            begun = own.events[0].workflow_execution_started_event_attributes
            if (begun.parent_workflow_execution.workflow_id, begun.parent_initiated_event_id) != (wf, at):
                check.violations.append(f"{wf}: child {child} says that {begun.parent_workflow_execution.workflow_id} started it at {begun.parent_initiated_event_id}")
    return check


def messages_once(senders: dict[str, RunHistory], collector: RunHistory | None, expected: list[str]) -> Check:
    """G3, E1: each signal to another run is recorded as delivered once, and the collector has each token exactly once."""
    check = Check("signals between runs arrive exactly once", "G3 E1")
    for wf, history in senders.items():
        sent = [e.event_id for e in history.events if e.event_type == EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED]
        heard = Counter(
            e.external_workflow_execution_signaled_event_attributes.initiated_event_id
            for e in history.events
            if e.event_type == EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED
        )
        for at in sent:
            check.counted += 1
            if heard[at] != 1:
                check.violations.append(f"{wf}: the signal initiated at {at} is recorded as delivered {heard[at]} times")
    if collector is None or not collector.raw:
        check.violations.append("the collector has no history")
        return check
    arrived = Counter(
        json.loads(e.workflow_execution_signaled_event_attributes.input.payloads[0].data)
        for e in collector.events
        if e.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
        and e.workflow_execution_signaled_event_attributes.signal_name == "add"
    )
    for token in expected:
        check.counted += 1
        if arrived[token] != 1:
            check.violations.append(f"{token}: its signal arrived {arrived[token]} times")
    check.violations.extend(f"{token}: a signal of nobody arrived" for token in arrived if token not in set(expected))
    return check


def updates_once(ops: list[Op], parents: dict[str, RunHistory], asked_again: dict[str, object]) -> Check:
    """E3: an acknowledged update was carried out exactly once, one of unknown outcome at most once, a refused or rejected one never;
    its outcome is the same when it is asked for again. `asked_again` is update id -> outcome, read at the end."""
    check = Check("each update is carried out once, its outcome stays", "E3")
    lists = {wf: (history.result() or {}).get("updates", []) for wf, history in parents.items() if isinstance(history.result(), dict)}
    for op in ops:
        if op.f != "update" or op.type == "invoke":
            continue
        wf, value = op.value["wf"], op.value["n"]
        if wf not in lists:
            continue
        times = lists[wf].count(value)
        if op.type == "ok":
            check.counted += 1
            if op.value.get("rejected"):
                if times:
                    check.violations.append(f"{wf}: rejected update {value} was carried out {times} times")
                continue
            if times != 1:
                check.violations.append(f"{wf}: acknowledged update {value} was carried out {times} times")
            elif lists[wf][op.value["place"] - 1] != value:
                check.violations.append(f"{wf}: update {value} was told place {op.value['place']}, the result has {lists[wf]}")
            again = asked_again.get(op.value["id"])
            if again is not None and again != op.value["place"]:
                check.violations.append(f"{wf}: update {value} was told {op.value['place']}, and later {again}")
        elif op.type == "fail" and times:
            check.violations.append(f"{wf}: refused update {value} was carried out {times} times ({op.error})")
        elif times > 1:
            check.violations.append(f"{wf}: update {value}, whose outcome is unknown, was carried out {times} times")
    for wf, history in parents.items():
        accepted = Counter(
            e.workflow_execution_update_accepted_event_attributes.protocol_instance_id
            for e in history.events
            if e.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
        )
        check.violations.extend(f"{wf}: update {each} was accepted {times} times" for each, times in accepted.items() if times > 1)
    return check


@dataclass(frozen=True)
class ScheduleEvidence:
    """What is known of one schedule. All times are seconds since 1970; `nominal` holds one entry a run, doubles and all."""

    name: str
    every_s: int
    asked_at: float
    acknowledged_at: float
    pause_asked_at: float
    pause_acknowledged_at: float
    nominal: tuple[int, ...]
    action_count: int


def schedules_exact(evidence: list[ScheduleEvidence]) -> Check:
    """F3: the runs that a schedule started are one for each of its times between its creation and its pause, none missing, none
    twice. A time that lies within the call that created or paused it may go either way."""
    check = Check("a schedule's actions are exactly its nominal times", "F3")
    for each in evidence:
        counts = Counter(each.nominal)
        for time, times in sorted(counts.items()):
            check.counted += 1
            if times > 1:
                check.violations.append(f"{each.name}: {times} runs for {time}")
            if time % each.every_s:
                check.violations.append(f"{each.name}: a run for {time}, which is none of its times")
            if not each.asked_at - each.every_s < time <= each.pause_acknowledged_at:
                check.violations.append(f"{each.name}: a run for {time}, outside of {each.asked_at:.1f} to {each.pause_acknowledged_at:.1f}")
        first = int(each.acknowledged_at // each.every_s + 1) * each.every_s
        # The last time must have been over for a moment when the pause was asked for: acting takes a little.
        last = int((each.pause_asked_at - 2.0) // each.every_s) * each.every_s
        missing = [time for time in range(first, last + 1, each.every_s) if time not in counts]
        check.violations.extend(f"{each.name}: no run for {time}" for time in missing)
        if each.action_count != len(each.nominal):
            check.violations.append(f"{each.name}: says that it acted {each.action_count} times, and there are {len(each.nominal)} runs")
    return check
