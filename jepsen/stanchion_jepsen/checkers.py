"""Judges what a run left behind. Every function is pure: evidence in, a `Check` out.

A check says which invariant it stands for (the letters of the project's invariant list), how much evidence it looked at, and what
contradicts it. A check that looked at nothing proves nothing: `vacuous` is reported as a failure of the harness, never as a pass.
Never talks to a node, never waits, never repairs. Called by the workloads; shown to bite in `tests/test_checkers.py`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field

from temporalio.api.enums.v1 import EventType

from .history import CLOSE_EVENTS, RunHistory, event_name
from .journal import Op
from .ledger import Attempt


@dataclass
class Check:
    name: str
    invariant: str
    counted: int = 0
    violations: list[str] = field(default_factory=list)
    note: str = ""

    @property
    def passed(self) -> bool:
        return not self.violations

    @property
    def vacuous(self) -> bool:
        return self.counted == 0 and not self.violations

    def as_dict(self) -> dict:
        return {
            "name": self.name,
            "invariant": self.invariant,
            "counted": self.counted,
            "passed": self.passed,
            "note": self.note,
            "violation_count": len(self.violations),
            "violations": self.violations[:50],
        }


# --- the ledger -------------------------------------------------------------------------------------------------------


def acknowledged_steps_stay_done(attempts: list[Attempt]) -> Check:
    """D1: no step whose completion was acknowledged runs again.

    Two ways to know of the acknowledgement. The worker saw OK for its own completion: then no later attempt may exist at all,
    whenever it started, for it would have made the earlier token stale. Or the run went on to a later step, which it does only
    with the result of this one: then no attempt of this step may start after that.
    """
    check = Check("acknowledged steps never run again", "D1")
    by_step: dict[tuple, list[Attempt]] = defaultdict(list)
    first_start: dict[tuple, dict[int, float]] = defaultdict(dict)
    for a in attempts:
        by_step[a.step_key].append(a)
        steps = first_start[(a.wf, a.run)]
        steps[a.step] = min(a.start, steps.get(a.step, a.start))
    for (wf, run, step), tried in by_step.items():
        acked = [a for a in tried if a.acked is not None]
        went_on = min((t for later, t in first_start[(wf, run)].items() if later > step), default=None)
        if acked or went_on is not None:
            check.counted += 1
        for done in acked:
            for other in tried:
                if other.attempt > done.attempt:
                    check.violations.append(f"{wf} step {step}: {other.describe()} though {done.describe()}")
        if len(acked) > 1:
            check.violations.append(f"{wf} step {step}: {len(acked)} attempts were acknowledged: " + "; ".join(a.describe() for a in acked))
        if went_on is not None:
            for other in tried:
                if other.start > went_on:
                    check.violations.append(f"{wf} step {step}: {other.describe()} though a later step began at {went_on:.3f}")
    return check


def attempts_do_not_overlap(attempts: list[Attempt]) -> Check:
    """D3: attempt n+1 begins only after attempt n ended or its deadline passed. D2: numbers grow by the order of starts."""
    check = Check("no two live attempts of a step", "D3")
    by_step: dict[tuple, list[Attempt]] = defaultdict(list)
    for a in attempts:
        by_step[a.step_key].append(a)
    for (wf, _, step), tried in by_step.items():
        check.counted += 1
        tried = sorted(tried, key=lambda a: (a.attempt, a.start))
        for at, later in enumerate(tried):
            for earlier in tried[:at]:
                over = min(earlier.deadline, earlier.end if earlier.end is not None else earlier.deadline)
                if later.start < over:
                    check.violations.append(f"{wf} step {step}: {later.describe()} overlaps {earlier.describe()}")
    return check


def attempts_are_handed_out_once(attempts: list[Attempt]) -> Check:
    """H1: one attempt goes to one worker, once."""
    check = Check("each attempt is handed out once", "H1")
    seen: dict[tuple, Attempt] = {}
    for a in attempts:
        check.counted += 1
        key = (*a.step_key, a.attempt)
        if key in seen:
            check.violations.append(f"{a.wf} step {a.step}: {a.describe()} and again {seen[key].describe()}")
        seen[key] = a
    return check


def ledger_matches_histories(attempts: list[Attempt], histories: dict[str, RunHistory]) -> Check:
    """A1, D1: an acknowledged completion is in the history, recorded for that very attempt; a recorded one was really made."""
    check = Check("acknowledged completions are in the histories", "D1")
    ledger: dict[tuple[str, int], dict[int, Attempt]] = defaultdict(dict)
    for a in attempts:
        ledger[(a.wf, a.step)][a.attempt] = a
    recorded: dict[str, dict[int, tuple[int, object]]] = {}
    for wf, history in histories.items():
        recorded[wf] = _recorded_steps(history)
        for step, (attempt, _) in recorded[wf].items():
            if attempt not in ledger[(wf, step)]:
                check.violations.append(f"{wf} step {step}: the history has a result of attempt {attempt}, which no worker noted")
    for (wf, step), tried in ledger.items():
        for a in tried.values():
            if a.acked is None:
                continue
            check.counted += 1
            if wf not in histories:
                check.violations.append(f"{wf} step {step}: acknowledged, and the run's history could not be read")
            elif step not in recorded[wf]:
                check.violations.append(f"{wf} step {step}: {a.describe()}, and its history has no result of it")
            elif recorded[wf][step][0] != a.attempt:
                check.violations.append(f"{wf} step {step}: {a.describe()}, and its history has a result of attempt {recorded[wf][step][0]}")
    return check


def _recorded_steps(history: RunHistory) -> dict[int, tuple[int, object]]:
    """Step -> (attempt, result) of the recorded completions. The step's number is the first field of the activity's input."""
    steps: dict[int, int] = {}
    attempts: dict[int, int] = {}
    found: dict[int, tuple[int, object]] = {}
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            data = json.loads(event.activity_task_scheduled_event_attributes.input.payloads[0].data)
            steps[event.event_id] = data["step"]
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            started = event.activity_task_started_event_attributes
            attempts[started.scheduled_event_id] = started.attempt
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            done = event.activity_task_completed_event_attributes
            if done.scheduled_event_id in steps:
                payloads = done.result.payloads
                result = json.loads(payloads[0].data) if payloads else None
                found[steps[done.scheduled_event_id]] = (attempts.get(done.scheduled_event_id, 0), result)
    return found


# --- histories --------------------------------------------------------------------------------------------------------


def runs_complete(expected: dict[str, object], histories: dict[str, RunHistory]) -> Check:
    """C4: every run closes, completed, with the result that a run without faults has."""
    check = Check("all runs complete with the right result", "C4")
    for wf, want in expected.items():
        check.counted += 1
        history = histories.get(wf)
        if history is None or not history.raw:
            check.violations.append(f"{wf}: no history could be read")
        elif not history.closed:
            check.violations.append(f"{wf}: still open after {len(history.raw)} events; the last is {event_name(history.events[-1])}")
        elif history.events[-1].event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
            check.violations.append(f"{wf}: ended with {event_name(history.events[-1])}")
        elif history.result() != want:
            check.violations.append(f"{wf}: result {history.result()!r}, expected {want!r}")
    return check


def event_ids_are_dense(histories: dict[str, RunHistory]) -> Check:
    """B1: event ids are 1..n without a gap."""
    check = Check("event ids are 1..n", "B1")
    for wf, history in histories.items():
        check.counted += 1
        for position, event in enumerate(history.events, start=1):
            if event.event_id != position:
                check.violations.append(f"{wf}: event at position {position} has id {event.event_id} ({event_name(event)})")
                break
    return check


def histories_are_well_formed(histories: dict[str, RunHistory]) -> Check:
    """B4, B5, D1: the first event starts the run, nothing follows a close event, each scheduled task ends at most once."""
    check = Check("histories are well formed", "B4 B5")
    for wf, history in histories.items():
        check.counted += 1
        events = history.events
        if not events:
            check.violations.append(f"{wf}: empty history")
            continue
        if events[0].event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
            check.violations.append(f"{wf}: begins with {event_name(events[0])}")
        for event in events[:-1]:
            if event.event_type in CLOSE_EVENTS:
                check.violations.append(f"{wf}: {len(events) - event.event_id} events after {event_name(event)} (id {event.event_id})")
        check.violations.extend(f"{wf}: {problem}" for problem in _task_problems(history))
    return check


_OPENERS = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: "activity",
    EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED: "workflow task",
}
_STARTS = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED: "activity_task_started_event_attributes",
    EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED: "workflow_task_started_event_attributes",
}
_ENDS = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: "activity_task_completed_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: "activity_task_failed_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: "activity_task_timed_out_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: "activity_task_canceled_event_attributes",
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED: "workflow_task_completed_event_attributes",
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED: "workflow_task_failed_event_attributes",
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT: "workflow_task_timed_out_event_attributes",
}


def _task_problems(history: RunHistory) -> list[str]:
    """Each started or ended task was scheduled before, started at most once, ended at most once; one workflow task at a time."""
    problems: list[str] = []
    scheduled: dict[int, str] = {}
    started: set[int] = set()
    ended: set[int] = set()
    outstanding: int | None = None
    for event in history.events:
        kind = event.event_type
        if kind in _OPENERS:
            scheduled[event.event_id] = _OPENERS[kind]
            if _OPENERS[kind] == "workflow task":
                if outstanding is not None:
                    problems.append(f"workflow task {event.event_id} scheduled while {outstanding} is outstanding")
                outstanding = event.event_id
        elif kind in _STARTS or kind in _ENDS:
            attributes = getattr(event, _STARTS.get(kind) or _ENDS[kind])
            opener = attributes.scheduled_event_id
            if opener not in scheduled:
                problems.append(f"{event_name(event)} (id {event.event_id}) refers to {opener}, which scheduled nothing before it")
                continue
            done = started if kind in _STARTS else ended
            if opener in done:
                problems.append(f"{event_name(event)} (id {event.event_id}) is the second for {scheduled[opener]} {opener}")
            done.add(opener)
            if kind in _ENDS and opener == outstanding:
                outstanding = None
    return problems


def histories_equal_on_all_nodes(copies: dict[str, dict[str, RunHistory]], nodes: list[str]) -> Check:
    """B1, B2: the bytes of a history are the same whichever node is asked. `copies` is workflow id -> node -> history."""
    check = Check("histories are byte-equal on all nodes", "B1 B2")
    for wf, by_node in copies.items():
        missing = [node for node in nodes if node not in by_node]
        if missing:
            check.violations.append(f"{wf}: could not be read from {', '.join(missing)}")
            continue
        check.counted += 1
        first = nodes[0]
        for node in nodes[1:]:
            difference = first_difference(by_node[first], by_node[node])
            if difference:
                check.violations.append(f"{wf}: {first} and {node} differ: {difference}")
    return check


def first_difference(one: RunHistory, other: RunHistory) -> str | None:
    if one.run != other.run:
        return f"run {one.run} against run {other.run}"
    for position, (a, b) in enumerate(zip(one.raw, other.raw), start=1):
        if a != b:
            return f"event {position}: {a[:200].hex()} against {b[:200].hex()}"
    if len(one.raw) != len(other.raw):
        return f"{len(one.raw)} events against {len(other.raw)}"
    return None


@dataclass(frozen=True)
class Observation:
    """A history as one strong read saw it. `known_before` is the greatest length that any read had returned when it began."""

    wf: str
    node: str
    digests: tuple[bytes, ...]
    known_before: int


def prefixes_stay_prefixes(observations: list[Observation], histories: dict[str, RunHistory]) -> Check:
    """B1: everything ever observed of a run is a prefix of its final history."""
    check = Check("all observed prefixes stay prefixes", "B1")
    for seen in observations:
        final = histories.get(seen.wf)
        if final is None:
            check.violations.append(f"{seen.wf}: {len(seen.digests)} events were observed on {seen.node}, and no final history exists")
            continue
        check.counted += 1
        if len(seen.digests) > len(final.digests):
            check.violations.append(f"{seen.wf}: {len(seen.digests)} events were observed on {seen.node}, the final history has {len(final.digests)}")
            continue
        for position, (a, b) in enumerate(zip(seen.digests, final.digests), start=1):
            if a != b:
                check.violations.append(
                    f"{seen.wf}: event {position}, as observed on {seen.node}, is not the final {event_name(final.events[position - 1])}"
                )
                break
    return check


def reads_never_go_backwards(observations: list[Observation]) -> Check:
    """B3: a strong read that began after another had returned sees at least as much."""
    check = Check("reads never go backwards", "B3")
    for seen in observations:
        check.counted += 1
        if len(seen.digests) < seen.known_before:
            check.violations.append(f"{seen.wf}: {seen.node} returned {len(seen.digests)} events after a read had returned {seen.known_before}")
    return check


# --- the journal ------------------------------------------------------------------------------------------------------


def _ended(ops: list[Op], f: str) -> list[Op]:
    """The last word on every operation `f`: its end, or its invocation if the harness never saw an end."""
    last: dict[int | str, Op] = {}
    done: list[Op] = []
    for op in ops:
        if op.f != f or op.process == "nemesis":
            continue
        if op.type == "invoke":
            last[op.process] = op
        else:
            last.pop(op.process, None)
            done.append(op)
    return done + list(last.values())


def acknowledged_starts_exist(ops: list[Op], histories: dict[str, RunHistory]) -> Check:
    """A1, A2, A5: an acknowledged start is there with the run id that was acknowledged; a refused one is not."""
    check = Check("every acknowledged start is there", "A1 A2")
    for op in _ended(ops, "start"):
        wf = op.value["wf"]
        history = histories.get(wf)
        if op.type == "ok":
            check.counted += 1
            if history is None or not history.raw:
                check.violations.append(f"{wf}: acknowledged as run {op.value['run']}, and has no history")
            elif history.run != op.value["run"]:
                check.violations.append(f"{wf}: acknowledged as run {op.value['run']}, the history is of run {history.run}")
        elif op.type == "fail" and history is not None and history.raw and op.error is not None and "AlreadyStarted" not in op.error:
            check.violations.append(f"{wf}: refused ({op.error}), and has a history")
        if op.error is not None and "AlreadyStarted" in op.error:
            check.violations.append(f"{wf}: {op.error}: a retry with the same request id was not recognised")
    return check


def acknowledged_signals_exist_once(ops: list[Op], histories: dict[str, RunHistory]) -> Check:
    """E1, E2: acknowledged signals appear exactly once, unknown ones at most once, refused ones never; senders keep their order."""
    check = Check("every acknowledged signal is there once, in order", "E1 E2")
    recorded = {wf: signal_values(history) for wf, history in histories.items()}
    acked: dict[str, list[tuple[int, object, object]]] = defaultdict(list)
    for op in _ended(ops, "signal"):
        wf, value = op.value["wf"], op.value["n"]
        times = recorded.get(wf, []).count(value)
        if op.type == "ok":
            check.counted += 1
            acked[wf].append((op.index, op.value.get("sender"), value))
            if times != 1:
                check.violations.append(f"{wf}: acknowledged signal {value} is there {times} times")
        elif op.type == "fail" and times:
            check.violations.append(f"{wf}: refused signal {value} is there {times} times ({op.error})")
        elif times > 1:
            check.violations.append(f"{wf}: signal {value}, whose outcome is unknown, is there {times} times")
    for wf, signals in acked.items():
        position = {value: at for at, value in enumerate(recorded.get(wf, []))}
        by_sender: dict[object, list[object]] = defaultdict(list)
        for _, sender, value in sorted(signals, key=lambda signal: signal[0]):
            if value in position:
                by_sender[sender].append(value)
        for sender, values in by_sender.items():
            for earlier, later in zip(values, values[1:]):
                if position[later] < position[earlier]:
                    check.violations.append(f"{wf}: sender {sender} was acknowledged {earlier} before {later}; the history has them the other way")
    return check


def signal_values(history: RunHistory) -> list[object]:
    """The values of the `add` signals of a history, in its order."""
    values = []
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            signal = event.workflow_execution_signaled_event_attributes
            if signal.signal_name == "add":
                values.append(json.loads(signal.input.payloads[0].data))
    return values


def results_match_signals(histories: dict[str, RunHistory]) -> Check:
    """B7, E1: what the workflow code collected is what its history says, in that order."""
    check = Check("collected signals equal recorded signals", "E1 B7")
    for wf, history in histories.items():
        result = history.result()
        if not isinstance(result, dict) or "values" not in result:
            continue
        check.counted += 1
        if result["values"] != signal_values(history):
            check.violations.append(f"{wf}: result {result['values']}, history {signal_values(history)}")
    return check


def queries_see_own_writes(ops: list[Op]) -> Check:
    """E4: a query sees every signal that the same client had acknowledged before it asked."""
    check = Check("queries see acknowledged signals", "E4")
    acked: dict[str, set] = defaultdict(set)
    expected: dict[int | str, set] = {}
    for op in ops:
        if op.f == "signal" and op.type == "ok":
            acked[op.value["wf"]].add(op.value["n"])
        elif op.f == "query" and op.type == "invoke":
            expected[op.process] = set(acked[op.value["wf"]])
        elif op.f == "query" and op.type == "ok":
            check.counted += 1
            missing = expected[op.process] - set(op.value["seen"])
            if missing:
                check.violations.append(f"{op.value['wf']}: a query did not see acknowledged {sorted(missing)}")
    return check


# --- processes --------------------------------------------------------------------------------------------------------


def nodes_ended_only_when_told(deaths: list[str], starts: int) -> Check:
    """No node ends by itself or panics."""
    return Check("no node ended by itself", "L5", counted=starts, violations=list(deaths))


def workers_lived(deaths: list[str], count: int) -> Check:
    """Nobody restarts a worker: the SDK finds its node again by itself."""
    return Check("no worker ended by itself", "C3", counted=count, violations=list(deaths))


# --- fail-over --------------------------------------------------------------------------------------------------------


def longest_gap(acks: list[float], begin: float, end: float) -> float:
    """The longest time without a success that overlaps [begin, end]. The ends count: a series that stops has a gap to `end`."""
    times = sorted(t for t in acks if t <= end)
    before = [t for t in times if t <= begin]
    series = ([before[-1]] if before else [begin]) + [t for t in times if t > begin] + [end]
    return max(b - a for a, b in zip(series, series[1:]))


def median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def stalls_within(stalls: list[float], median_max: float, max_max: float) -> Check:
    """L5: writes resume within the bound after the loss of a leader."""
    check = Check(f"stall: median at most {median_max} s, maximum at most {max_max} s", "L5", counted=len(stalls))
    if stalls:
        if median(stalls) > median_max:
            check.violations.append(f"median {median(stalls):.3f} s is over {median_max} s")
        check.violations.extend(f"kill {n}: {stall:.3f} s is over {max_max} s" for n, stall in enumerate(stalls, start=1) if stall > max_max)
    return check
