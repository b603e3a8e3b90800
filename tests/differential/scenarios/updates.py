"""Updates in their plain forms: accepted, completed, failed, rejected; the stages that a caller waits for; ids; polls."""

import asyncio

from differential.env import UNKNOWN_RUN, Env, complete_run, schedule, timer
from differential.registry import scenario
from differential.updates import (
    accept,
    admitted,
    answer,
    asked_when_idle,
    begin_poll,
    begin_update,
    carry,
    ended,
    fail,
    ref,
    reject,
    request_fields,
    show_poll,
    succeed,
    wait_for,
)
from harness.wire import Refusal, payload, payloads


@scenario
async def update_completed_in_one_task(env: Env) -> None:
    """An update to an idle run, accepted and completed by one workflow task: the message, the answer, the history."""
    task, waiting = await asked_when_idle(env, "u1", "in", 2)
    env.response("task with the update", "PollWorkflowTaskQueue", task)
    await answer(env, task, accept(task, "u1"), succeed("u1", "out"))
    await ended(env, "update", waiting)
    await env.history("after the update")
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())
    await env.signal("s")
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def update_accepted_then_completed(env: Env) -> None:
    """An update accepted by one task and completed by a later one, after an activity; one caller waits for each stage."""
    await env.start()
    await env.step()
    first = begin_update(env, "u1", wait="ACCEPTED")
    task = await env.poll()
    await answer(env, task, accept(task, "u1"), then=[schedule(env)])
    await ended(env, "waits for accepted", first)
    await show_poll(env, "poll, no stage", "u1")
    await show_poll(env, "poll for accepted", "u1", "ACCEPTED")
    second = begin_update(env, "u1", wait="COMPLETED")
    third = begin_poll(env, "u1", "COMPLETED")
    activity = await env.poll_activity()
    await env.rpc("RespondActivityTaskCompleted", task_token=activity.task_token, result=payloads("r"))
    task = await env.poll()
    env.response("task after the activity", "PollWorkflowTaskQueue", task)
    await answer(env, task, succeed("u1", 7))
    await ended(env, "waits for completed", second)
    await env.ended("poll for completed", "PollWorkflowExecutionUpdate", third)
    await show_poll(env, "poll afterwards", "u1")
    await env.history("after the update")


@scenario
async def update_failed(env: Env) -> None:
    """An update that is accepted and then fails: the failure is its outcome, not an error of the call."""
    task, waiting = await asked_when_idle(env, "u1")
    await answer(env, task, accept(task, "u1"), fail("u1"))
    await ended(env, "update", waiting)
    await show_poll(env, "poll", "u1", "COMPLETED")
    await env.history("after the update")


@scenario
async def update_rejected_on_idle_run(env: Env) -> None:
    """A rejected update on an idle run leaves nothing in the history; the next events take the ids of its task."""
    task, waiting = await asked_when_idle(env, "u1")
    env.response("task with the update", "PollWorkflowTaskQueue", task)
    await env.history("while the task is started")
    await answer(env, task, reject(task, "u1"))
    await ended(env, "update", waiting)
    await env.history("after the rejection")
    await show_poll(env, "poll afterwards", "u1")
    await env.signal("s")
    task = await env.poll()
    env.response("next task", "PollWorkflowTaskQueue", task)
    await env.complete(task, complete_run())
    await env.history("closed run")


@scenario
async def update_rejected_discarding_events(env: Env) -> None:
    """The same by a worker that says it can discard speculative tasks with events."""
    await env.start()
    await env.step()
    for number in range(2):
        waiting = begin_update(env, f"u{number}")
        task = await env.poll()
        await answer(
            env, task, reject(task, f"u{number}"), capabilities={"discard_speculative_workflow_task_with_events": True}
        )
        await ended(env, f"update {number}", waiting)
    await env.history("after two rejections")
    await env.signal("s")
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def update_rejected_twelve_times(env: Env) -> None:
    """Rejections in a row on a sticky run: which of their tasks the server writes into the history all the same."""
    sticky, attributes = env.sticky_queue(), env.sticky("30s")
    await env.start()
    poller = await env.start_polling(sticky)
    await env.step(**attributes)
    for number in range(12):
        waiting = begin_update(env, f"u{number}")
        task = await poller
        if number < 11:
            poller = await env.start_polling(sticky)
        env.note(f"task {number}", [task.previous_started_event_id, task.started_event_id, len(task.history.events)])
        await answer(env, task, reject(task, f"u{number}"), **attributes)
        await waiting
    env.note("events", len(await env.events()))
    await env.history("after twelve rejections")


@scenario
async def update_rejected_with_other_events(env: Env) -> None:
    """A rejected update in a task that a signal had scheduled: the task stays in the history, the update does not."""
    await env.start()
    await env.step()
    await env.signal("s")
    waiting = await admitted(env, "u1")
    task = await env.poll()
    env.response("task", "PollWorkflowTaskQueue", task)
    await answer(env, task, reject(task, "u1"))
    await ended(env, "update", waiting)
    await env.history("after the rejection")


@scenario
async def update_rejected_with_commands(env: Env) -> None:
    """A rejected update whose speculative task also starts a timer: then the task is real."""
    task, waiting = await asked_when_idle(env, "u1")
    await answer(env, task, reject(task, "u1"), then=[timer("t", "100s")])
    await ended(env, "update", waiting)
    await env.history("after the rejection")


@scenario
async def update_before_first_task(env: Env) -> None:
    """An update to a run whose first workflow task nobody polled yet rides on that task."""
    await env.start()
    waiting = await admitted(env, "u1", "early")
    await show_poll(env, "poll while admitted", "u1")
    await env.history("while admitted")
    task = await env.poll()
    env.response("first task", "PollWorkflowTaskQueue", task)
    await answer(env, task, accept(task, "u1"), succeed("u1"))
    await ended(env, "update", waiting)
    await env.history("after the update")


@scenario
async def update_rejected_by_first_task(env: Env) -> None:
    """A rejected update in the first workflow task: the task is in the history, the update is not."""
    await env.start()
    waiting = await admitted(env, "u1")
    task = await env.poll()
    await answer(env, task, reject(task, "u1"))
    await ended(env, "update", waiting)
    await env.history("after the rejection")


@scenario
async def update_while_task_started(env: Env) -> None:
    """An update that arrives while a workflow task is started comes with the next task."""
    await env.start()
    task = await env.poll()
    waiting = await admitted(env, "u1")
    await env.history("while started")
    await env.complete(task)
    task = await env.poll()
    env.response("second task", "PollWorkflowTaskQueue", task)
    await answer(env, task, accept(task, "u1"), succeed("u1", 1))
    await ended(env, "update", waiting)
    await env.history("after the update")


@scenario
async def updates_side_by_side(env: Env) -> None:
    """Three updates in one task: the first completed, the second rejected, the third accepted; order of messages and events."""
    await env.start()
    await env.step()
    waiting = {each: await admitted(env, each, each, name=f"name {each}") for each in ("a", "b", "c")}
    task = await env.poll()
    env.response("task", "PollWorkflowTaskQueue", task)
    await answer(env, task, accept(task, "c"), accept(task, "a"), reject(task, "b"), succeed("a", "A"), then=[timer("t", "100s")])
    await ended(env, "a", waiting["a"])
    await ended(env, "b", waiting["b"])
    await show_poll(env, "c", "c")
    await env.history("after the task")
    await env.signal("s")
    task = await env.poll()
    env.response("next task", "PollWorkflowTaskQueue", task)
    await answer(env, task, succeed("c", "C"))
    await ended(env, "c completed", waiting["c"])
    await env.history("after both tasks")


@scenario
async def update_messages_among_commands(env: Env) -> None:
    """Commands before, between and behind the messages of an update: the order of events is the commands'."""
    task, waiting = await asked_when_idle(env, "u1")
    messages = [accept(task, "u1"), succeed("u1", "out")]
    carried = carry(*messages)
    await env.complete(
        task, timer("before", "100s"), carried[0], schedule(env, "between"), carried[1], timer("behind", "100s"), messages=messages
    )
    await ended(env, "update", waiting)
    await env.history("after the update")


@scenario
async def update_messages_without_commands(env: Env) -> None:
    """Messages that no command carries: they come after the commands, and the update is answered all the same."""
    task, waiting = await asked_when_idle(env, "u1")
    await env.complete(task, timer("t", "100s"), messages=[accept(task, "u1"), succeed("u1", "out")])
    await ended(env, "update", waiting)
    await env.history("after the update")


@scenario
async def update_same_id_while_admitted(env: Env) -> None:
    """Two callers with the same update id before it is accepted: one message, one execution, the same answer for both."""
    await env.start()
    await env.step()
    one = await admitted(env, "u1", "first")
    two = begin_update(env, "u1", "second", name="other")
    three = begin_update(env, "u1", wait="ACCEPTED")
    await asyncio.sleep(0.3)
    task = await env.poll()
    env.note("messages", [each.protocol_instance_id for each in task.messages])
    await answer(env, task, accept(task, "u1"), succeed("u1", "once"))
    await ended(env, "one", one)
    await ended(env, "two", two)
    await ended(env, "three", three)
    await env.show("after completion", "UpdateWorkflowExecution", **request_fields(env, "u1", "third", wait="ACCEPTED"))
    await env.history("one update")


@scenario
async def update_same_id_after_rejection(env: Env) -> None:
    """The id of a rejected update can be used again: nothing is remembered of the rejection."""
    task, waiting = await asked_when_idle(env, "u1", 1)
    await answer(env, task, reject(task, "u1"))
    await ended(env, "rejected", waiting)
    waiting = begin_update(env, "u1", 2)
    task = await env.poll()
    await answer(env, task, accept(task, "u1"), succeed("u1", "second"))
    await ended(env, "accepted", waiting)
    await env.history("after both")


@scenario
async def update_id_is_made_up(env: Env) -> None:
    """An update without an id gets one from the server."""
    await env.start()
    await env.step()
    waiting = env.begin(
        "UpdateWorkflowExecution",
        **request_fields(env, "", request={"meta": {"identity": "asker"}, "input": {"name": "up"}}),
    )
    task = await env.poll()
    made = task.messages[0].protocol_instance_id
    env.note("made up", [bool(made), task.messages[0].id == f"{made}/request"])
    await answer(env, task, accept(task, made), succeed(made, "out"))
    await ended(env, "update", waiting)


@scenario
async def update_request_carries_everything(env: Env) -> None:
    """Header, identity, several arguments and names with odd letters travel to the worker and into the history."""
    await env.start()
    await env.step()
    request = {
        "meta": {"update_id": "ü/1 x", "identity": "somebody"},
        "input": {"header": {"fields": {"h": payload("v")}}, "name": "Grüße/…", "args": payloads(1, "two", None)},
    }
    waiting = env.begin("UpdateWorkflowExecution", **request_fields(env, "", request=request))
    task = await env.poll()
    env.response("task", "PollWorkflowTaskQueue", task)
    await answer(env, task, accept(task, "ü/1 x"), succeed("ü/1 x"))
    await ended(env, "update", waiting)
    await env.history("after the update")


@scenario
async def update_on_sticky_queue(env: Env) -> None:
    """An update to a sticky run: the task is on the sticky queue with only its own speculative events."""
    sticky, attributes = env.sticky_queue(), env.sticky("30s")
    await env.start()
    poller = await env.start_polling(sticky)
    await env.step(**attributes)
    waiting = begin_update(env, "u1")
    task = await poller
    env.response("task", "PollWorkflowTaskQueue", task)
    poller = await env.start_polling(sticky)
    await answer(env, task, reject(task, "u1"), **attributes)
    await ended(env, "rejected", waiting)
    waiting = begin_update(env, "u2")
    task = await poller
    env.response("task after the rejection", "PollWorkflowTaskQueue", task)
    await answer(env, task, accept(task, "u2"), succeed("u2", "out"), **attributes)
    await ended(env, "completed", waiting)
    await env.history("after both")


@scenario
async def update_falls_back_from_sticky_queue(env: Env) -> None:
    """An update to a sticky run whose worker is gone: the task comes on the normal queue; what the history says of it."""
    sticky, attributes = env.sticky_queue(), env.sticky("1s")
    await env.start()
    poller = await env.start_polling(sticky)
    await env.step(timer("t", "100s"), **attributes)
    await env.signal("uses up the poller")
    await env.complete(await poller, **attributes)
    waiting = begin_update(env, "u1")
    task = await env.poll()
    env.response("task", "PollWorkflowTaskQueue", task)
    await answer(env, task, accept(task, "u1"), succeed("u1"))
    await ended(env, "update", waiting)
    await env.history("after the update")


@scenario
async def update_with_forced_new_task(env: Env) -> None:
    """An update that waits while the worker forces new tasks, and a new task returned with the completion."""
    await env.start()
    task = await env.poll()
    waiting = await admitted(env, "u1")
    response = await env.complete(task, return_new_workflow_task=True, force_create_new_workflow_task=True)
    env.response("returned task", "PollWorkflowTaskQueue", response.workflow_task)
    task = response.workflow_task
    await answer(env, task, accept(task, "u1"), succeed("u1"))
    await ended(env, "update", waiting)
    await env.history("after the update")


@scenario
async def update_is_validated(env: Env) -> None:
    """UpdateWorkflowExecution with one thing wrong at a time."""
    run = await env.start()

    async def case(label: str, update_id: str = "u", **fields: object) -> None:
        await env.show(label, "UpdateWorkflowExecution", **request_fields(env, update_id, **fields))

    def asks(**fields: object) -> dict[str, object]:
        return {"meta": {"update_id": "u"}, "input": {"name": "up"}, **fields}

    await case("no execution", workflow_execution={})
    await case("no workflow id", workflow_execution={"run_id": run})
    await case("run id is no UUID", workflow_execution=env.execution(run_id="nope"))
    await case("unknown workflow", workflow_execution=env.execution(env.name("nobody")))
    await case("unknown run", workflow_execution=env.execution(run_id=UNKNOWN_RUN))
    await case("unknown namespace", namespace="nowhere")
    await case("no namespace", namespace="")
    await case("no request", request={})
    await case("no meta", request={"input": {"name": "up"}})
    await case("no input", request={"meta": {"update_id": "u"}})
    await case("no name", request={"meta": {"update_id": "u"}, "input": {"args": payloads(1)}})
    await case("id of 1001", request=asks(meta={"update_id": "x" * 1001}))
    await case("first run is another", first_execution_run_id=UNKNOWN_RUN)
    await case("wait for admitted", wait="ADMITTED")
    await env.history("nothing of it")


@scenario
async def update_wait_stage_unspecified(env: Env) -> None:
    """An update with no wait policy, and with an unspecified stage: both wait for completion."""
    await env.start()
    await env.step()
    for update_id, policy in (("u1", None), ("u2", "UNSPECIFIED")):
        waiting = begin_update(env, update_id, wait=policy)
        task = await env.poll()
        await answer(env, task, accept(task, update_id))
        await show_poll(env, f"{update_id}: accepted", update_id)
        await asyncio.sleep(0.3)
        env.note(f"{update_id}: answered", waiting.done())
        await env.signal("s")
        await answer(env, await env.poll(), succeed(update_id, "out"))
        await ended(env, update_id, waiting)


@scenario
async def poll_update_is_validated(env: Env) -> None:
    """PollWorkflowExecutionUpdate with one thing wrong at a time."""
    run = await env.start()
    good = ref(env, "u")

    async def case(label: str, **fields: object) -> None:
        await env.show(label, "PollWorkflowExecutionUpdate", **{"update_ref": good, **fields})

    await case("unknown update")
    await case("unknown update, waiting", wait_policy=wait_for("COMPLETED"))
    await case("no reference", update_ref=None)
    await case("no execution", update_ref={"update_id": "u"})
    await case("no workflow id", update_ref={"workflow_execution": {"run_id": run}, "update_id": "u"})
    await case("no update id", update_ref=ref(env, ""))
    await case("unknown workflow", update_ref=ref(env, "u", env.name("nobody")))
    await case("unknown run", update_ref=ref(env, "u", run_id=UNKNOWN_RUN))
    await case("run id is no UUID", update_ref=ref(env, "u", run_id="nope"))
    await case("unknown namespace", namespace="nowhere")


@scenario
async def poll_update_of_admitted(env: Env) -> None:
    """A poll of an update that no worker has seen: at once without a stage, waiting with one."""
    await env.start()
    waiting = await admitted(env, "u1")
    await show_poll(env, "no stage", "u1")
    await show_poll(env, "admitted", "u1", "ADMITTED")
    polled = begin_poll(env, "u1", "ACCEPTED")
    task = await env.poll()
    await answer(env, task, accept(task, "u1"))
    await env.ended("accepted", "PollWorkflowExecutionUpdate", polled)
    waiting.cancel()


@scenario
async def update_wait_ends_with_the_deadline(env: Env) -> None:
    """Callers whose deadline comes before the stage that they wait for; the update itself goes on."""

    async def code(label: str, waiting: asyncio.Task[object]) -> None:
        try:
            await waiting
            env.note(label, "answered")
        except Refusal as error:
            env.note(label, error.code)

    task, waiting = await asked_when_idle(env, "u1", timeout=2.0)
    await answer(env, task, accept(task, "u1"))
    await code("completion awaited", waiting)
    polled = begin_poll(env, "u1", "COMPLETED", timeout=2.0)
    await code("completion polled", polled)
    await code("nobody takes the task", begin_update(env, "u2", timeout=2.0))
    await show_poll(env, "the update that nobody took", "u2")
    task = await env.poll()
    await answer(env, task, accept(task, "u2"), succeed("u2"), succeed("u1"))
    await show_poll(env, "first update", "u1")
    await show_poll(env, "second update", "u2")
    await env.history("after both")


@scenario
async def update_wait_ends_with_the_servers_patience(env: Env) -> None:
    """A caller with a long deadline is answered after twenty seconds with the stage that was reached, to ask again."""
    task, waiting = await asked_when_idle(env, "u1")
    await answer(env, task, accept(task, "u1"))
    unseen = begin_update(env, "u2")
    polled = begin_poll(env, "u1", "COMPLETED")
    await ended(env, "accepted", waiting)
    await ended(env, "admitted", unseen)
    await env.ended("polled", "PollWorkflowExecutionUpdate", polled)


@scenario
async def update_rides_with_a_query(env: Env) -> None:
    """A query and an update that wait for the same task: both come with it."""
    await env.start()
    asked = env.begin("QueryWorkflow", execution=env.execution(), query={"query_type": "q"})
    waiting = await admitted(env, "u1")
    await asyncio.sleep(0.3)
    task = await env.poll()
    env.note("messages", [each.protocol_instance_id for each in task.messages])
    env.note("queries with it", len(task.queries))
    results = {
        key: {"result_type": "QUERY_RESULT_TYPE_ANSWERED", "answer": payloads("answer")} for key in task.queries
    }
    await answer(env, task, accept(task, "u1"), succeed("u1"), query_results=results)
    await ended(env, "update", waiting)
    if not results:
        question = await env.poll()
        await env.rpc(
            "RespondQueryTaskCompleted",
            task_token=question.task_token,
            completed_type="QUERY_RESULT_TYPE_ANSWERED",
            query_result=payloads("answer"),
        )
    await env.ended("query", "QueryWorkflow", asked)
    await env.history("after both")
