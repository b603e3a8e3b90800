"""The checkers of `together` must bite: each is shown good evidence, and the same evidence with one thing wrong."""

from dataclasses import replace

from temporalio.api.common.v1 import WorkflowExecution

from stanchion_jepsen import checkers_together
from stanchion_jepsen.checkers_together import ScheduleEvidence
from stanchion_jepsen.history import RunHistory
from stanchion_jepsen.journal import Op

from test_checkers import Script, payloads


def parent_script(started: int = 1, ended: int = 1, delivered: int = 1) -> Script:
    script = Script()
    script.add("WORKFLOW_EXECUTION_STARTED")
    at = script.add("START_CHILD_WORKFLOW_EXECUTION_INITIATED", workflow_id="p-c0")
    for _ in range(started):
        script.add("CHILD_WORKFLOW_EXECUTION_STARTED", initiated_event_id=at)
        script.events[-1].child_workflow_execution_started_event_attributes.workflow_execution.CopyFrom(
            WorkflowExecution(workflow_id="p-c0", run_id="rc")
        )
    for _ in range(ended):
        script.add("CHILD_WORKFLOW_EXECUTION_COMPLETED", initiated_event_id=at)
    sent = script.add("SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED")
    for _ in range(delivered):
        script.add("EXTERNAL_WORKFLOW_EXECUTION_SIGNALED", initiated_event_id=sent)
    return script


def history(script: Script, wf: str = "p", run: str = "r") -> RunHistory:
    return RunHistory(wf, run, tuple(event.SerializeToString() for event in script.events))


def child_history(parent: str = "p", at: int = 2) -> RunHistory:
    script = Script()
    script.add("WORKFLOW_EXECUTION_STARTED", parent_initiated_event_id=at)
    script.events[0].workflow_execution_started_event_attributes.parent_workflow_execution.workflow_id = parent
    return history(script, "p-c0", "rc")


def test_children_once():
    def judge(script=None, child=None, runs=None):
        return checkers_together.children_once(
            {"p": history(script or parent_script())}, {"p-c0": child or child_history()}, {"p-c0": runs or ["rc"]}
        )

    assert judge().passed and not judge().vacuous
    assert not judge(parent_script(started=0)).passed
    assert not judge(parent_script(started=2)).passed
    assert not judge(parent_script(ended=0)).passed
    assert not judge(parent_script(ended=2)).passed
    assert not judge(runs=["rc", "another"]).passed
    assert not judge(runs=["another"]).passed
    assert not judge(child=child_history(parent="other")).passed
    assert not judge(child=child_history(at=9)).passed


def collector(*tokens: str) -> RunHistory:
    script = Script()
    script.add("WORKFLOW_EXECUTION_STARTED")
    for token in tokens:
        script.add("WORKFLOW_EXECUTION_SIGNALED", signal_name="add", input=payloads(token))
    return history(script, "collector")


def test_messages_once():
    def judge(delivered=1, tokens=("p-c0", "p")):
        return checkers_together.messages_once({"p": history(parent_script(delivered=delivered))}, collector(*tokens), ["p", "p-c0"])

    assert judge().passed and not judge().vacuous
    assert not judge(delivered=0).passed
    assert not judge(delivered=2).passed
    assert not judge(tokens=("p",)).passed
    assert not judge(tokens=("p", "p", "p-c0")).passed
    assert not judge(tokens=("p", "p-c0", "stranger")).passed
    assert not checkers_together.messages_once({}, None, []).passed


def updated(*values: int, accepted: tuple[str, ...] = ("u1",)) -> dict[str, RunHistory]:
    script = Script()
    script.add("WORKFLOW_EXECUTION_STARTED")
    for each in accepted:
        script.add("WORKFLOW_EXECUTION_UPDATE_ACCEPTED", protocol_instance_id=each)
    script.add("WORKFLOW_EXECUTION_COMPLETED", result=payloads({"children": [], "updates": list(values)}))
    return {"p": history(script)}


def told(kind: str, value: int = 7, **fields) -> list[Op]:
    return [Op(0, kind, "update", {"wf": "p", "n": value, "id": "u1", **fields}, 1, 0, None)]


def test_updates_once():
    def judge(ops, parents, again=None):
        return checkers_together.updates_once(ops, parents, again or {})

    good = told("ok", place=1)
    assert judge(good, updated(7), {"u1": 1}).passed and not judge(good, updated(7)).vacuous
    assert not judge(good, updated()).passed
    assert not judge(good, updated(7, 7)).passed
    assert not judge(good, updated(8, 7)).passed
    assert not judge(good, updated(7), {"u1": 2}).passed
    assert not judge(good, updated(7, accepted=("u1", "u1"))).passed
    assert judge(told("ok", rejected=True), updated()).passed
    assert not judge(told("ok", rejected=True), updated(7)).passed
    assert judge(told("info"), updated()).passed and judge(told("info"), updated(7)).passed
    assert not judge(told("info"), updated(7, 7)).passed
    assert not judge(told("fail"), updated(7)).passed


def test_schedules_exact():
    good = ScheduleEvidence("s", 2, 99.5, 99.9, 111.0, 111.5, (100, 102, 104, 106, 108, 110), 6)

    def judge(**changed):
        return checkers_together.schedules_exact([replace(good, **changed)])

    assert judge().passed and not judge().vacuous
    # The time that was due just as the pause was asked for may or may not have been acted on.
    assert judge(nominal=(100, 102, 104, 106, 108), action_count=5).passed
    assert not judge(nominal=(100, 102, 106, 108, 110), action_count=5).passed
    assert not judge(nominal=(102, 104, 106, 108, 110), action_count=5).passed
    assert not judge(nominal=(100, 102, 102, 104, 106, 108, 110), action_count=7).passed
    assert not judge(nominal=(100, 102, 104, 105, 106, 108, 110), action_count=7).passed
    assert not judge(nominal=(100, 102, 104, 106, 108, 110, 112), action_count=7).passed
    assert not judge(nominal=(96, 98, 100, 102, 104, 106, 108, 110), action_count=8).passed
    assert not judge(action_count=5).passed
