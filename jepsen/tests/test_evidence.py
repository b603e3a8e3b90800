"""The parts that collect evidence: wire cutting, EDN, journal, ledger, processes."""

import asyncio
import json
import os
import signal
import sys

import pytest
from temporalio.api.history.v1 import History, HistoryEvent
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryResponse

from stanchion_jepsen import edn, ledger, wire
from stanchion_jepsen.journal import Journal
from stanchion_jepsen.processes import Process
from stanchion_jepsen.workflows import expected_chain, step_result


def test_events_are_cut_out_of_the_response_byte_for_byte():
    events = [HistoryEvent(event_id=n, version=n * 1000) for n in range(1, 200)]
    response = GetWorkflowExecutionHistoryResponse(history=History(events=events), next_page_token=b"token", archived=True)
    assert wire.history_events(response.SerializeToString()) == [event.SerializeToString() for event in events]
    assert wire.history_events(b"") == []


def test_a_history_in_two_parts_is_the_concatenation():
    parts = [GetWorkflowExecutionHistoryResponse(history=History(events=[HistoryEvent(event_id=n)])).SerializeToString() for n in (1, 2)]
    assert len(wire.history_events(parts[0] + parts[1])) == 2


def test_torn_message_is_an_error():
    data = GetWorkflowExecutionHistoryResponse(history=History(events=[HistoryEvent(event_id=300)])).SerializeToString()
    with pytest.raises(ValueError):
        wire.history_events(data[:-1])


def test_edn():
    line = {"type": "ok", "f": "start", "value": {"wf": 'a"b', "n": [1, None, True]}, "process": 3, "time": 5}
    assert edn.dumps(line) == '{:type :ok, :f :start, :value {:wf "a\\"b", :n [1 nil true]}, :process 3, :time 5}'
    assert edn.dumps({"process": "nemesis", "value": "n1"}) == '{:process :nemesis, :value "n1"}'


def test_journal_is_on_disk_in_both_forms(tmp_path):
    journal = Journal(tmp_path)
    op = journal.invoke(journal.new_process(), "start", {"wf": "x"})
    journal.finish(op, "info", error="DEADLINE_EXCEEDED")
    journal.fault("kill", {"node": "n1"})
    journal.close()
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["type"] for line in lines] == ["invoke", "info", "info"]
    assert lines[1]["process"] == lines[0]["process"] and lines[2]["process"] == "nemesis"
    assert (tmp_path / "history.edn").read_text().count("\n") == 3


def test_ledger_round_trip_with_a_torn_last_line(tmp_path):
    book = ledger.Ledger(tmp_path / "ledger-w1.jsonl")
    key = {"wf": "a", "run": "r", "step": 1, "attempt": 1, "worker": "w1"}
    book.note("start", key, deadline=99.0)
    book.note("end", key, outcome="returned")
    book.note("ack", key, status="unknown", why="UNAVAILABLE")
    book.note("ack", key, status="acked")
    with open(tmp_path / "ledger-w1.jsonl", "a") as file:
        file.write('{"e":"start","wf":"a"')
    (attempt,) = ledger.load(tmp_path)
    assert attempt.statuses == ["unknown", "acked"] and attempt.acked >= attempt.end >= attempt.start
    assert attempt.outcome == "returned" and attempt.deadline == 99.0


def sleeper(tmp_path, code="import time; time.sleep(60)") -> Process:
    return Process("p", [sys.executable, "-c", code], tmp_path / "p.log")


def test_a_process_that_ends_by_itself_is_found_out(tmp_path):
    process = sleeper(tmp_path, "print('last words'); raise SystemExit(3)")
    process.start()
    process.child.wait()
    process.notice_death()
    process.notice_death()
    assert len(process.deaths) == 1 and "ended by itself with 3" in process.deaths[0] and "last words" in process.deaths[0]


def test_a_process_killed_by_somebody_else_is_found_out_at_the_next_kill(tmp_path):
    process = sleeper(tmp_path)
    process.start()
    os.kill(process.child.pid, signal.SIGKILL)
    process.child.wait()
    process.kill()
    assert len(process.deaths) == 1


def test_killing_and_terminating_what_we_started_is_no_death(tmp_path):
    process = sleeper(tmp_path)
    process.start()
    process.kill()
    process.start()
    asyncio.run(process.terminate(5.0))
    process.notice_death()
    assert process.deaths == [] and process.starts == 2 and not process.running


def test_a_process_that_ignores_sigterm_is_a_finding(tmp_path):
    process = sleeper(tmp_path, "import signal,time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)")
    process.start()
    while b"up" not in process.log.read_bytes():
        assert process.running
    asyncio.run(process.terminate(0.3))
    assert len(process.deaths) == 1 and "SIGTERM" in process.deaths[0]


def test_the_model_of_a_chain():
    assert expected_chain("wf", 2) == step_result("wf", 2, step_result("wf", 1, "begin"))
    assert expected_chain("wf", 2) != expected_chain("other", 2)
