"""Every checker must bite: each is shown evidence that is good, and the same evidence with one thing wrong.

A checker that passes bad evidence is worse than none, so a new checker comes with its bad history here.
"""

import json

import pytest
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from stanchion_jepsen import checkers
from stanchion_jepsen.checkers import Observation
from stanchion_jepsen.history import RunHistory
from stanchion_jepsen.journal import Op
from stanchion_jepsen.ledger import Attempt

# --- evidence ---------------------------------------------------------------------------------------------------------


def attempt(step=1, number=1, worker="w1", start=10.0, end=11.0, deadline=18.0, acked=None, wf="wf", run="r") -> Attempt:
    return Attempt(wf, run, step, number, worker, start, deadline, end, "returned", acked)


def payloads(value) -> Payloads:
    return Payloads(payloads=[Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(value).encode())])


class Script:
    """Builds a history event by event."""

    def __init__(self) -> None:
        self.events: list[HistoryEvent] = []

    def add(self, name: str, **attributes) -> int:
        event = HistoryEvent(event_id=len(self.events) + 1, event_type=EventType.Value(f"EVENT_TYPE_{name}"))
        field = getattr(event, f"{name.lower()}_event_attributes")
        field.SetInParent()
        for key, value in attributes.items():
            if isinstance(value, Payloads):
                getattr(field, key).CopyFrom(value)
            else:
                setattr(field, key, value)
        self.events.append(event)
        return event.event_id

    def workflow_task(self) -> None:
        scheduled = self.add("WORKFLOW_TASK_SCHEDULED")
        started = self.add("WORKFLOW_TASK_STARTED", scheduled_event_id=scheduled)
        self.add("WORKFLOW_TASK_COMPLETED", scheduled_event_id=scheduled, started_event_id=started)

    def step(self, step: int, number: int = 1) -> None:
        scheduled = self.add("ACTIVITY_TASK_SCHEDULED", input=payloads({"step": step}))
        started = self.add("ACTIVITY_TASK_STARTED", scheduled_event_id=scheduled, attempt=number)
        self.add("ACTIVITY_TASK_COMPLETED", scheduled_event_id=scheduled, started_event_id=started, result=payloads("x"))

    def signal(self, value: int) -> None:
        self.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="add", input=payloads(value))

    def history(self, wf="wf", run="r") -> RunHistory:
        return RunHistory(wf, run, tuple(event.SerializeToString() for event in self.events))


def good(result="done", signals=()) -> Script:
    script = Script()
    script.add("WORKFLOW_EXECUTION_STARTED")
    script.workflow_task()
    for value in signals:
        script.signal(value)
    script.step(1)
    script.workflow_task()
    script.add("WORKFLOW_EXECUTION_COMPLETED", result=payloads(result))
    return script


def ops(*lines) -> list[Op]:
    """(type, f, process, value[, error]) -> operations."""
    return [Op(index, line[0], line[1], line[3], line[2], index, line[4] if len(line) > 4 else None) for index, line in enumerate(lines)]


def bites(check: checkers.Check, *words: str) -> None:
    assert not check.passed, f"{check.name} passed bad evidence"
    for word in words:
        assert any(word in line for line in check.violations), check.violations


def holds(check: checkers.Check) -> None:
    assert check.passed, check.violations
    assert not check.vacuous, f"{check.name} looked at nothing"


# --- the ledger -------------------------------------------------------------------------------------------------------


def test_acknowledged_step_that_runs_again():
    holds(checkers.acknowledged_steps_stay_done([attempt(number=1, acked=None), attempt(number=2, start=20, end=21, acked=21.1)]))
    bites(checkers.acknowledged_steps_stay_done([attempt(acked=11.1), attempt(number=2, start=20, end=21)]), "though attempt 1")


def test_second_attempt_is_wrong_even_if_it_started_before_the_first_was_acknowledged():
    bites(checkers.acknowledged_steps_stay_done([attempt(end=11, acked=30.0), attempt(number=2, start=19, end=21)]), "though attempt 1")


def test_two_acknowledged_attempts_of_one_step():
    bites(checkers.acknowledged_steps_stay_done([attempt(acked=11.1), attempt(number=1, worker="w2", start=12, end=13, acked=13.1)]), "2 attempts were acknowledged")


def test_step_that_runs_again_after_the_run_went_on():
    steps = [attempt(step=1), attempt(step=2, start=12, end=13)]
    holds(checkers.acknowledged_steps_stay_done(steps))
    bites(checkers.acknowledged_steps_stay_done([*steps, attempt(step=1, number=2, start=14, end=15)]), "a later step began")


def test_overlapping_attempts():
    first = attempt(start=10, end=15, deadline=18)
    holds(checkers.attempts_do_not_overlap([first, attempt(number=2, start=15.1, end=16)]))
    bites(checkers.attempts_do_not_overlap([first, attempt(number=2, start=14.9, end=16)]), "overlaps")


def test_an_attempt_may_begin_once_the_earlier_deadline_has_passed_but_not_before():
    stuck = attempt(start=10, end=None, deadline=18)
    holds(checkers.attempts_do_not_overlap([stuck, attempt(number=2, start=18.01)]))
    bites(checkers.attempts_do_not_overlap([stuck, attempt(number=2, start=17.9)]), "overlaps", "never ended")


def test_overlap_with_an_attempt_that_is_not_the_direct_predecessor():
    bites(checkers.attempts_do_not_overlap([attempt(start=10, end=30, deadline=40), attempt(number=2, start=41, end=42), attempt(number=3, start=20, end=21)]))


def test_one_attempt_handed_to_two_workers():
    holds(checkers.attempts_are_handed_out_once([attempt(), attempt(number=2, start=20)]))
    bites(checkers.attempts_are_handed_out_once([attempt(), attempt(worker="w2", start=30)]), "and again")


def test_acknowledged_completion_that_the_history_lost():
    histories = {"wf": good().history()}
    holds(checkers.ledger_matches_histories([attempt(acked=11.1)], histories))
    bites(checkers.ledger_matches_histories([attempt(acked=11.1), attempt(step=2, acked=12.0)], histories), "has no result of it")
    bites(checkers.ledger_matches_histories([attempt(number=2, acked=11.1), attempt()], histories), "a result of attempt 1")
    bites(checkers.ledger_matches_histories([attempt(acked=11.1)], {}), "could not be read")


def test_recorded_result_that_nobody_computed():
    bites(checkers.ledger_matches_histories([attempt(step=2, acked=11.1)], {"wf": good().history()}), "which no worker noted")


# --- histories --------------------------------------------------------------------------------------------------------


def test_runs_that_do_not_complete():
    holds(checkers.runs_complete({"wf": "done"}, {"wf": good().history()}))
    bites(checkers.runs_complete({"wf": "other"}, {"wf": good().history()}), "result 'done', expected 'other'")
    bites(checkers.runs_complete({"wf": "done"}, {}), "no history")
    open_ = good()
    open_.events.pop()
    bites(checkers.runs_complete({"wf": "done"}, {"wf": open_.history()}), "still open")
    open_.add("WORKFLOW_EXECUTION_TERMINATED")
    bites(checkers.runs_complete({"wf": "done"}, {"wf": open_.history()}), "TERMINATED")


@pytest.mark.parametrize("spoil", ["gap", "double", "order"])
def test_event_ids(spoil):
    holds(checkers.event_ids_are_dense({"wf": good().history()}))
    script = good()
    if spoil == "gap":
        del script.events[3]
    elif spoil == "double":
        script.events.insert(3, script.events[3])
    else:
        script.events[3], script.events[4] = script.events[4], script.events[3]
    bites(checkers.event_ids_are_dense({"wf": script.history()}), "position 4" if spoil != "double" else "position 5")


def test_events_after_the_close():
    holds(checkers.histories_are_well_formed({"wf": good().history()}))
    script = good()
    script.signal(1)
    bites(checkers.histories_are_well_formed({"wf": script.history()}), "after WORKFLOW_EXECUTION_COMPLETED")


def test_activity_that_ends_twice():
    script = Script()
    script.add("WORKFLOW_EXECUTION_STARTED")
    script.step(1)
    script.add("ACTIVITY_TASK_TIMED_OUT", scheduled_event_id=2, started_event_id=3)
    bites(checkers.histories_are_well_formed({"wf": script.history()}), "is the second for activity 2")


def test_activity_that_starts_twice_or_was_never_scheduled():
    script = Script()
    script.add("WORKFLOW_EXECUTION_STARTED")
    script.step(1)
    script.add("ACTIVITY_TASK_STARTED", scheduled_event_id=2)
    bites(checkers.histories_are_well_formed({"wf": script.history()}), "is the second for")
    script.add("ACTIVITY_TASK_STARTED", scheduled_event_id=99)
    bites(checkers.histories_are_well_formed({"wf": script.history()}), "scheduled nothing before it")


def test_two_outstanding_workflow_tasks():
    script = Script()
    script.add("WORKFLOW_EXECUTION_STARTED")
    script.add("WORKFLOW_TASK_SCHEDULED")
    script.add("WORKFLOW_TASK_SCHEDULED")
    bites(checkers.histories_are_well_formed({"wf": script.history()}), "is outstanding")


def test_history_that_does_not_begin_with_its_start_or_is_empty():
    script = good()
    del script.events[0]
    bites(checkers.histories_are_well_formed({"wf": script.history()}), "begins with")
    bites(checkers.histories_are_well_formed({"wf": RunHistory("wf", "r", ())}), "empty")


def test_copies_that_differ_between_nodes():
    whole = good().history()
    nodes = ["n1", "n2", "n3"]
    holds(checkers.histories_equal_on_all_nodes({"wf": {n: whole for n in nodes}}, nodes))
    shorter = RunHistory("wf", "r", whole.raw[:-1])
    bites(checkers.histories_equal_on_all_nodes({"wf": {"n1": whole, "n2": whole, "n3": shorter}}, nodes), "n1 and n3 differ")
    # The same message, other bytes: a field written with its default value.
    odd = RunHistory("wf", "r", (*whole.raw[:-1], whole.raw[-1] + b"\x28\x00"))
    assert odd.events == whole.events or odd.events[-1].event_id == whole.events[-1].event_id
    bites(checkers.histories_equal_on_all_nodes({"wf": {"n1": whole, "n2": odd, "n3": whole}}, nodes), "n1 and n2 differ: event")
    bites(checkers.histories_equal_on_all_nodes({"wf": {"n1": whole, "n2": whole}}, nodes), "could not be read from n3")
    other_run = RunHistory("wf", "r2", whole.raw)
    bites(checkers.histories_equal_on_all_nodes({"wf": {"n1": whole, "n2": other_run, "n3": whole}}, nodes), "against run r2")


def seen(history: RunHistory, length: int, node="n1", known_before=0) -> Observation:
    return Observation(history.wf, node, tuple(history.digests[:length]), known_before)


def test_prefix_that_was_rewritten():
    final = good().history()
    holds(checkers.prefixes_stay_prefixes([seen(final, n) for n in range(len(final.raw) + 1)], {"wf": final}))
    changed = good()
    changed.events[2].event_time.seconds = 7
    bites(checkers.prefixes_stay_prefixes([seen(changed.history(), 5)], {"wf": final}), "event 3, as observed on n1")


def test_prefix_longer_than_the_final_history_or_of_a_lost_run():
    final = good().history()
    shorter = RunHistory("wf", "r", final.raw[:-2])
    bites(checkers.prefixes_stay_prefixes([seen(final, len(final.raw))], {"wf": shorter}), "the final history has")
    bites(checkers.prefixes_stay_prefixes([seen(final, 3)], {}), "no final history exists")


def test_reads_that_go_backwards():
    final = good().history()
    holds(checkers.reads_never_go_backwards([seen(final, 5), seen(final, 5, "n2", known_before=5)]))
    bites(checkers.reads_never_go_backwards([seen(final, 4, "n2", known_before=5)]), "after a read had returned 5")


@pytest.mark.parametrize("attempt,started,hidden", [(1, True, 0), (1, False, 0), (2, False, 1), (2, True, 2)])
def test_only_the_unstored_attempt_at_the_end_is_left_out_of_observations(attempt, started, hidden):
    script = Script()
    script.add("WORKFLOW_EXECUTION_STARTED")
    script.workflow_task()
    scheduled = script.add("WORKFLOW_TASK_SCHEDULED", attempt=attempt)
    if started:
        script.add("WORKFLOW_TASK_STARTED", scheduled_event_id=scheduled)
    assert script.history().stored == len(script.events) - hidden
    script.signal(1)
    assert script.history().stored == len(script.events), "behind it stands another event: it is stored"


# --- the journal ------------------------------------------------------------------------------------------------------


def test_acknowledged_start_that_is_lost():
    evidence = ops(("invoke", "start", 0, {"wf": "wf"}), ("ok", "start", 0, {"wf": "wf", "run": "r"}))
    holds(checkers.acknowledged_starts_exist(evidence, {"wf": good().history()}))
    bites(checkers.acknowledged_starts_exist(evidence, {}), "has no history")
    bites(checkers.acknowledged_starts_exist(evidence, {"wf": good().history(run="r2")}), "the history is of run r2")


def test_start_that_was_refused_and_happened_or_lost_its_request_id():
    refused = ops(("invoke", "start", 0, {"wf": "wf"}), ("fail", "start", 0, {"wf": "wf"}, "INVALID_ARGUMENT"))
    bites(checkers.acknowledged_starts_exist(refused, {"wf": good().history()}), "refused")
    doubled = ops(("invoke", "start", 0, {"wf": "wf"}), ("info", "start", 0, {"wf": "wf"}, "AlreadyStarted: ALREADY_EXISTS from n2"))
    bites(checkers.acknowledged_starts_exist(doubled, {"wf": good().history()}), "was not recognised")


def signals(*lines) -> list[Op]:
    """(end, value, sender) -> invoke and end of each signal, one process each."""
    flat = []
    for process, (end, value, sender) in enumerate(lines):
        flat.append(("invoke", "signal", process, {"wf": "wf", "n": value, "sender": sender}))
        if end:
            flat.append((end, "signal", process, {"wf": "wf", "n": value, "sender": sender}))
    return ops(*flat)


def test_signals_lost_doubled_refused():
    histories = {"wf": good(signals=[1, 2]).history()}
    holds(checkers.acknowledged_signals_exist_once(signals(("ok", 1, "a"), ("ok", 2, "a")), histories))
    bites(checkers.acknowledged_signals_exist_once(signals(("ok", 3, "a")), histories), "is there 0 times")
    bites(checkers.acknowledged_signals_exist_once(signals(("ok", 1, "a")), {"wf": good(signals=[1, 1]).history()}), "is there 2 times")
    bites(checkers.acknowledged_signals_exist_once(signals(("fail", 1, "a")), histories), "refused signal 1")
    bites(checkers.acknowledged_signals_exist_once(signals(("info", 1, "a")), {"wf": good(signals=[1, 1]).history()}), "is unknown")
    bites(checkers.acknowledged_signals_exist_once(signals((None, 1, "a")), {"wf": good(signals=[1, 1]).history()}), "is unknown")
    assert checkers.acknowledged_signals_exist_once(signals(("info", 9, "a")), histories).passed


def test_signals_of_one_sender_out_of_order():
    histories = {"wf": good(signals=[2, 1]).history()}
    holds(checkers.acknowledged_signals_exist_once(signals(("ok", 1, "a"), ("ok", 2, "b")), histories))
    bites(checkers.acknowledged_signals_exist_once(signals(("ok", 1, "a"), ("ok", 2, "a")), histories), "the other way")


def test_workflow_that_collected_something_else_than_its_history_says():
    holds(checkers.results_match_signals({"wf": good({"values": [1, 2]}, signals=[1, 2]).history()}))
    bites(checkers.results_match_signals({"wf": good({"values": [2, 1]}, signals=[1, 2]).history()}))
    assert checkers.results_match_signals({}).vacuous


def test_query_that_misses_an_acknowledged_signal():
    before = signals(("ok", 1, "a"))
    asked = [("invoke", "query", 9, {"wf": "wf"}), ("ok", "query", 9, {"wf": "wf", "seen": [1]})]
    holds(checkers.queries_see_own_writes(before + ops(*asked)))
    asked[1] = ("ok", "query", 9, {"wf": "wf", "seen": []})
    bites(checkers.queries_see_own_writes(before + ops(*asked)), "did not see acknowledged [1]")
    # A signal that was acknowledged after the query went out need not be seen.
    assert checkers.queries_see_own_writes(ops(asked[0]) + before + ops(asked[1])).passed


# --- processes and stalls ---------------------------------------------------------------------------------------------


def test_processes_that_end_by_themselves():
    holds(checkers.nodes_ended_only_when_told([], 3))
    bites(checkers.nodes_ended_only_when_told(["n1 ended"], 3), "n1 ended")
    holds(checkers.workers_lived([], 3))
    bites(checkers.workers_lived(["w1 ended"], 3))


def test_longest_gap():
    steady = [0.1 * n for n in range(100)]
    assert checkers.longest_gap(steady, 5.0, 9.0) == pytest.approx(0.1)
    stalled = [t for t in steady if not 5.0 < t < 7.45]
    assert checkers.longest_gap(stalled, 5.0, 9.0) == pytest.approx(2.5, abs=0.01)
    assert checkers.longest_gap([t for t in steady if t < 5.0], 5.0, 9.0) == pytest.approx(4.1, abs=0.01), "it never came back"
    assert checkers.longest_gap([], 5.0, 9.0) == 4.0
    # An answer that was on its way at the kill does not hide the stall after it.
    assert checkers.longest_gap(stalled + [5.02], 5.0, 9.0) == pytest.approx(2.48, abs=0.01)


def test_stalls():
    holds(checkers.stalls_within([1.0, 1.2, 2.9], 1.5, 3.0))
    bites(checkers.stalls_within([1.6, 1.7, 1.0], 1.5, 3.0), "median")
    bites(checkers.stalls_within([1.0, 1.0, 3.1], 1.5, 3.0), "kill 3")
    assert checkers.stalls_within([], 1.5, 3.0).vacuous


def test_evidence_that_is_missing_is_no_pass():
    assert checkers.acknowledged_steps_stay_done([]).vacuous
    assert checkers.attempts_do_not_overlap([]).vacuous
    assert checkers.prefixes_stay_prefixes([], {}).vacuous
    assert checkers.histories_equal_on_all_nodes({}, ["n1"]).vacuous
