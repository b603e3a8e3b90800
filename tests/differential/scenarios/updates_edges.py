"""Updates at the edges of a run: its end, continue-as-new, failing and timed-out tasks, wrong messages, limits."""

import asyncio

from differential.env import Env, command, complete_run, link_to_another_run, timer
from differential.registry import scenario
from differential.updates import (
    accept,
    admitted,
    answer,
    asked_when_idle,
    begin_update,
    body,
    carry,
    ended,
    fail,
    message,
    reject,
    request_fields,
    show_poll,
    succeed,
    until_admitted,
)
from harness.wire import failure, payload, payloads


@scenario
async def update_completes_with_the_run(env: Env) -> None:
    """An update accepted and completed by the task that also completes the run."""
    task, waiting = await asked_when_idle(env, "u1")
    await answer(env, task, accept(task, "u1"), succeed("u1", "last"), then=[complete_run("bye")])
    await ended(env, "update", waiting)
    await env.history("closed run")
    await env.show("same id on the closed run", "UpdateWorkflowExecution", **request_fields(env, "u1"))
    await show_poll(env, "poll on the closed run", "u1", "COMPLETED")


@scenario
async def update_failed_on_closed_run(env: Env) -> None:
    """The failure of an update is still told after the run closed."""
    task, waiting = await asked_when_idle(env, "u1")
    await answer(env, task, accept(task, "u1"), fail("u1"), then=[complete_run()])
    await ended(env, "update", waiting)
    await show_poll(env, "poll on the closed run", "u1")


@scenario
async def update_accepted_when_the_run_completes(env: Env) -> None:
    """An accepted update whose run completes without completing it: what its caller and later polls are told."""
    task, waiting = await asked_when_idle(env, "u1")
    await answer(env, task, accept(task, "u1"), then=[complete_run("bye")])
    await ended(env, "update", waiting)
    await env.history("closed run")
    await show_poll(env, "poll on the closed run", "u1", "COMPLETED")
    await env.show("same id on the closed run", "UpdateWorkflowExecution", **request_fields(env, "u1"))


@scenario
async def update_accepted_when_the_run_ends_otherwise(env: Env) -> None:
    """Accepted updates of runs that fail, are cancelled, terminated, timed out."""
    ways = {
        "fails": [command("FAIL_WORKFLOW_EXECUTION", failure=failure("f"))],
        "is cancelled": [command("CANCEL_WORKFLOW_EXECUTION")],
    }
    for way in ("fails", "is cancelled", "is terminated", "times out"):
        wid = env.name(way)
        limits = {"workflow_run_timeout": "2s"} if way == "times out" else {}
        await env.start(workflow_id=wid, **limits)
        await env.step()
        waiting = begin_update(env, "u1", workflow_execution=env.execution(wid))
        task = await env.poll()
        await answer(env, task, accept(task, "u1"))
        if way in ways:
            await env.rpc("RequestCancelWorkflowExecution", workflow_execution=env.execution(wid))
            await env.step(*ways[way])
        elif way == "is terminated":
            await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(wid), reason="r")
        else:
            await env.until_closed(workflow_id=wid)
        await ended(env, f"run {way}", waiting)


@scenario
async def update_admitted_when_the_run_ends(env: Env) -> None:
    """Updates that no worker has seen when their run completes, is terminated, times out."""
    for way in ("completes", "is terminated", "times out"):
        wid = env.name(way)
        limits = {"workflow_run_timeout": "2s"} if way == "times out" else {}
        await env.start(workflow_id=wid, **limits)
        task = await env.poll()
        waiting = begin_update(env, "u1", workflow_execution=env.execution(wid))
        await until_admitted(env, "u1", wid)
        if way == "completes":
            await env.show(
                "completion", "RespondWorkflowTaskCompleted", task_token=task.task_token, commands=[complete_run()]
            )
        elif way == "is terminated":
            await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(wid), reason="r")
        await env.until_closed(workflow_id=wid)
        await ended(env, f"run {way}", waiting)
        await env.history(f"run {way}", wid)


@scenario
async def update_seen_but_not_answered(env: Env) -> None:
    """A worker that completes a task with an update in it and says nothing of the update."""
    task, waiting = await asked_when_idle(env, "u1")
    await env.complete(task)
    await ended(env, "update", waiting)
    await env.history("after the task")
    waiting = begin_update(env, "u2")
    task = await env.poll()
    await env.complete(task, timer("t", "100s"))
    await ended(env, "with a command", waiting)
    await env.history("after both tasks")


@scenario
async def update_seen_when_the_run_completes(env: Env) -> None:
    """A task with an update that completes the run and says nothing of the update."""
    task, waiting = await asked_when_idle(env, "u1")
    await env.complete(task, complete_run())
    await ended(env, "update", waiting)
    await env.history("closed run")


@scenario
async def update_closed_and_unknown(env: Env) -> None:
    """A new update to a closed run, by workflow id and by run id; a poll of an unknown one there."""
    run = await env.start()
    await env.step(complete_run())
    await env.show("by workflow id", "UpdateWorkflowExecution", **request_fields(env, "u1"))
    await env.show(
        "by run id", "UpdateWorkflowExecution", **request_fields(env, "u1", workflow_execution=env.execution(run_id=run))
    )
    await env.show(
        "by first run", "UpdateWorkflowExecution", **request_fields(env, "u1", first_execution_run_id=run)
    )
    await show_poll(env, "poll of an unknown one", "u1", "COMPLETED")


@scenario
async def update_by_first_run_id(env: Env) -> None:
    """first_execution_run_id follows the chain over continue-as-new; the run id does not."""
    first = await env.start()
    await env.step(command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Demo"}))
    waiting = await admitted(env, "u1", first_execution_run_id=first)
    task = await env.poll()
    await answer(env, task, accept(task, "u1"), succeed("u1"))
    await ended(env, "by first run", waiting)
    await env.show(
        "by the closed run", "UpdateWorkflowExecution", **request_fields(env, "u2", workflow_execution=env.execution(run_id=first))
    )


@scenario
async def update_and_continue_as_new_together(env: Env) -> None:
    """A task that accepts and completes an update and continues as new; the id is unknown to the next run."""
    first = await env.start()
    await env.step()
    waiting = begin_update(env, "u1")
    task = await env.poll()
    again = command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Demo"})
    await answer(env, task, accept(task, "u1"), succeed("u1", "out"), then=[again])
    await ended(env, "update", waiting)
    await env.history("first run", run_id=first)
    await show_poll(env, "poll by workflow id", "u1")
    await show_poll(env, "poll by run id", "u1", run_id=first)


@scenario
async def update_admitted_when_the_run_continues_as_new(env: Env) -> None:
    """An update that arrives while the task that continues as new is started: the caller's answer, and the next run's task."""
    first = await env.start()
    task = await env.poll()
    waiting = await admitted(env, "u1", "carried")
    await env.show(
        "continue as new",
        "RespondWorkflowTaskCompleted",
        task_token=task.task_token,
        commands=[command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Demo"})],
    )
    await ended(env, "update", waiting)
    task = await env.poll()
    env.note("same run", task.workflow_execution.run_id == first)
    env.note("messages of the next run's task", len(task.messages))
    await env.history("first run", run_id=first)
    await env.history("second run")


@scenario
async def update_accepted_when_the_run_continues_as_new(env: Env) -> None:
    """An accepted update whose run continues as new without completing it."""
    task, waiting = await asked_when_idle(env, "u1")
    await answer(
        env, task, accept(task, "u1"), then=[command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Demo"})]
    )
    await ended(env, "update", waiting)
    await show_poll(env, "poll by workflow id", "u1")


@scenario
async def update_after_a_failed_task(env: Env) -> None:
    """A task with an update that fails: the update comes again with the next attempt; a signal then makes it a real task."""
    task, waiting = await asked_when_idle(env, "u1")
    await env.fail_task(task)
    await env.history("after the failure")
    task = await env.poll()
    env.response("second attempt", "PollWorkflowTaskQueue", task)
    await answer(env, task, accept(task, "u1"), succeed("u1"))
    await ended(env, "update", waiting)
    await env.history("after the update")


@scenario
async def update_rejected_after_a_failed_task(env: Env) -> None:
    """A rejection by the second attempt of a task that began as speculative."""
    task, waiting = await asked_when_idle(env, "u1")
    await env.fail_task(task)
    task = await env.poll()
    await answer(env, task, reject(task, "u1"))
    await ended(env, "update", waiting)
    await env.history("after the rejection")


@scenario
async def update_to_a_run_whose_task_keeps_failing(env: Env) -> None:
    """An update to a run whose workflow task has failed several times is refused rather than left waiting."""
    await env.start()
    for attempt in range(4):
        task = await env.poll()
        await env.fail_task(task)
        if attempt in (1, 3):
            waiting = begin_update(env, f"u{attempt}", timeout=2.0)
            try:
                await ended(env, f"after {attempt + 1} failures", waiting)
            finally:
                waiting.cancel()


@scenario
async def update_task_times_out(env: Env) -> None:
    """A speculative task that a worker takes and does not answer: the event of its time-out, and the update's next task."""
    await env.start(workflow_task_timeout="1s")
    await env.step()
    waiting = begin_update(env, "u1")
    late = await env.poll()
    task = await env.poll()
    env.response("second attempt", "PollWorkflowTaskQueue", task)
    await env.show(
        "late answer",
        "RespondWorkflowTaskCompleted",
        task_token=late.task_token,
        messages=[accept(late, "u1"), succeed("u1")],
    )
    await answer(env, task, accept(task, "u1"), succeed("u1"))
    await ended(env, "update", waiting)
    await env.history("after the update")


@scenario
async def update_task_and_a_signal_before_it_starts(env: Env) -> None:
    """A signal that comes while a speculative task is scheduled and not started: the task becomes a real one."""
    await env.start()
    await env.step()
    waiting = await admitted(env, "u1")
    await env.history("update admitted")
    await env.signal("s")
    await env.history("after the signal")
    task = await env.poll()
    env.response("task", "PollWorkflowTaskQueue", task)
    await answer(env, task, reject(task, "u1"))
    await ended(env, "update", waiting)
    await env.history("after the rejection")


@scenario
async def update_task_and_a_signal_while_it_is_started(env: Env) -> None:
    """A signal that comes while a speculative task is started: buffered; the task's events whether it accepts or rejects."""
    for verdict in ("accepts", "rejects"):
        wid = env.name(verdict)
        # A queue of its own: the first run's next task must not come in between.
        env.tq = env.name(f"tq-{verdict}")
        await env.start(workflow_id=wid)
        await env.step()
        waiting = begin_update(env, "u1", workflow_execution=env.execution(wid))
        task = await env.poll()
        await env.signal("s", workflow_execution=env.execution(wid))
        await env.history(f"{verdict}: after the signal", wid)
        if verdict == "accepts":
            await answer(env, task, accept(task, "u1"), succeed("u1"))
        else:
            await answer(env, task, reject(task, "u1"))
        await ended(env, verdict, waiting)
        await env.history(f"{verdict}: after the task", wid)


@scenario
async def update_task_and_a_timer(env: Env) -> None:
    """A timer that fires while a speculative task is started, and a rejection: the timer's event follows the task's."""
    await env.start()
    await env.step(timer("t", "1s"))
    waiting = begin_update(env, "u1")
    task = await env.poll()
    await asyncio.sleep(1.5)
    await answer(env, task, reject(task, "u1"))
    await ended(env, "update", waiting)
    await env.step(complete_run())
    await env.history("closed run")


@scenario
async def update_task_and_a_reset_of_stickiness(env: Env) -> None:
    """Describing a run while a speculative task is scheduled and while it is started."""
    await env.start()
    await env.step()
    waiting = await admitted(env, "u1")
    await env.show("describe while scheduled", "DescribeWorkflowExecution", execution=env.execution())
    task = await env.poll()
    await env.show("describe while started", "DescribeWorkflowExecution", execution=env.execution())
    await answer(env, task, accept(task, "u1"))
    await env.show("describe while accepted", "DescribeWorkflowExecution", execution=env.execution())
    waiting.cancel()


@scenario
async def update_task_and_termination(env: Env) -> None:
    """A run terminated while a speculative task is started: what of the task is in the history, and the late answer."""
    task, waiting = await asked_when_idle(env, "u1")
    await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(), reason="r")
    await ended(env, "update", waiting)
    await env.history("terminated run")
    await env.show(
        "late answer", "RespondWorkflowTaskCompleted", task_token=task.task_token, messages=[accept(task, "u1"), succeed("u1")]
    )


@scenario
async def update_messages_are_validated(env: Env) -> None:
    """A worker's protocol messages with one thing wrong at a time: the completion is refused and the task failed."""

    async def case(label: str, make: object, commands: object = None, answered_before: bool = False) -> None:
        wid = env.name(label)
        await env.start(workflow_id=wid)
        await env.step()
        waiting = begin_update(env, "u", workflow_execution=env.execution(wid), wait="ACCEPTED")
        task = await env.poll()
        if answered_before:
            await answer(env, task, accept(task, "u"))
            await env.signal("s", workflow_execution=env.execution(wid))
            before, task = task, await env.poll()
        else:
            before = task
        messages = make(before)  # type: ignore[operator]
        await env.show(
            label,
            "RespondWorkflowTaskCompleted",
            task_token=task.task_token,
            messages=messages,
            commands=carry(*messages) if commands is None else commands,
        )
        events = await env.events(wid)
        failed = [each for each in events if each.HasField("workflow_task_failed_event_attributes")]
        if failed:
            recorded = failed[-1].workflow_task_failed_event_attributes
            env.note(f"{label}: task failed", [recorded.cause, recorded.failure.message])
        waiting.cancel()
        await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(wid))

    def changed(base: dict[str, object], **fields: object) -> dict[str, object]:
        return {**base, **fields}

    await case("unknown update", lambda task: [changed(accept(task, "u"), protocol_instance_id="other")])
    await case("completed before accepted", lambda task: [succeed("u")])
    await case("accepted twice", lambda task: [accept(task, "u"), changed(accept(task, "u"), id="again")])
    await case("accepted and rejected", lambda task: [accept(task, "u"), reject(task, "u")])
    await case("accepted again by a later task", lambda task: [accept(task, "u")], answered_before=True)
    await case("rejected after it was accepted", lambda task: [reject(task, "u")], answered_before=True)
    await case("completed twice", lambda task: [accept(task, "u"), succeed("u"), changed(succeed("u"), id="again")])
    await case("no message id", lambda task: [changed(accept(task, "u"), id="")])
    await case("no instance id", lambda task: [changed(accept(task, "u"), protocol_instance_id="")])
    await case("no body", lambda task: [{"id": "m", "protocol_instance_id": "u"}])
    await case("a request as answer", lambda task: [message("u", "x", body("Request", meta={"update_id": "u"}))])
    await case("body of another protocol", lambda task: [message("u", "x", {"@type": "type.googleapis.com/temporal.api.common.v1.Payloads"})])
    await case("two messages with one id", lambda task: [accept(task, "u"), changed(succeed("u"), id="u/accept")])
    await case("acceptance without its request", lambda task: [message("u", "x", body("Acceptance"))])
    await case("rejection without a failure", lambda task: [message("u", "x", body("Rejection"))])
    await case("response without an outcome", lambda task: [accept(task, "u"), message("u", "x", body("Response", meta={"update_id": "u"}))])
    await case("response without meta", lambda task: [accept(task, "u"), message("u", "x", body("Response", outcome={"success": {}}))])
    await case("command of an unknown message", lambda task: [accept(task, "u")], commands=[command("PROTOCOL_MESSAGE", message_id="nope")])
    await case("command without a message id", lambda task: [accept(task, "u")], commands=[command("PROTOCOL_MESSAGE")])
    await case("command twice", lambda task: [accept(task, "u")], commands=carry(message("u", "accept", {}), message("u", "accept", {})))


@scenario
async def update_limits_in_flight(env: Env) -> None:
    """More updates at once than a run takes: the eleventh is refused, and is taken once one of the ten is done."""
    await env.start()
    await env.step()
    waiting = [await admitted(env, f"u{number:02}") for number in range(10)]
    await env.show("the eleventh", "UpdateWorkflowExecution", **request_fields(env, "u10"))
    # The real server forgets and takes anew what no worker has seen once it refused one: the order is nobody's promise.
    for number in range(10):
        await until_admitted(env, f"u{number:02}")
    task = await env.poll()
    env.note("messages", sorted(each.protocol_instance_id for each in task.messages))
    await answer(env, task, accept(task, "u00"), succeed("u00"), accept(task, "u01"))
    await ended(env, "the first", waiting[0])
    await ended(env, "the third, not answered by the task", waiting[2])
    for each in waiting:
        each.cancel()


@scenario
async def update_payloads_over_the_limit(env: Env) -> None:
    """Results and failures over the payload limit in an update's answer."""
    big = "y" * (2 * 1024 * 1024 + 10)
    task, waiting = await asked_when_idle(env, "u1")
    messages = [accept(task, "u1"), succeed("u1", big)]
    await env.show(
        "result over the limit",
        "RespondWorkflowTaskCompleted",
        task_token=task.task_token,
        messages=messages,
        commands=carry(*messages),
    )
    events = await env.events()
    env.note("events", [each.event_type for each in events])
    waiting.cancel()


@scenario
async def update_with_links_and_request_id(env: Env) -> None:
    """An update whose request has an id, links and a completion callback: what is kept of them."""
    await env.start()
    await env.step()
    request = {
        "meta": {"update_id": "u1", "identity": "asker"},
        "input": {"name": "up", "args": payloads(1)},
        "request_id": "r1",
        "links": [link_to_another_run()],
    }
    waiting = env.begin("UpdateWorkflowExecution", **request_fields(env, "", request=request))
    task = await env.poll()
    env.response("task", "PollWorkflowTaskQueue", task)
    await answer(env, task, accept(task, "u1"), succeed("u1"))
    await ended(env, "update", waiting)
    await env.history("after the update")


@scenario
async def update_cancel_request_meanwhile(env: Env) -> None:
    """A cancel request and an update that wait for the same task."""
    await env.start()
    await env.step()
    await env.rpc("RequestCancelWorkflowExecution", workflow_execution=env.execution(), reason="r")
    waiting = await admitted(env, "u1")
    task = await env.poll()
    await answer(env, task, accept(task, "u1"), succeed("u1"), then=[command("CANCEL_WORKFLOW_EXECUTION")])
    await ended(env, "update", waiting)
    await env.history("cancelled run")


@scenario
async def update_while_start_is_delayed(env: Env) -> None:
    """An update to a run whose start is delayed, as any update: it makes the first task come at once or not."""
    await env.start(workflow_start_delay="2s")
    waiting = begin_update(env, "u1", "early")
    task = await env.poll()
    env.response("first task", "PollWorkflowTaskQueue", task)
    if task.messages:
        await answer(env, task, accept(task, "u1"), succeed("u1"))
    await ended(env, "update", waiting)
    await env.history("after the update")


@scenario
async def update_after_many_events(env: Env) -> None:
    """Completed updates are remembered by id: polls of the first of twenty, and the same id again."""
    await env.start()
    await env.step()
    for number in range(20):
        waiting = begin_update(env, f"u{number}", number)
        task = await env.poll()
        await answer(env, task, accept(task, f"u{number}"), succeed(f"u{number}", {"n": payload(number)["data"].decode()}))
        await waiting
    await show_poll(env, "the first", "u0")
    await env.show("the second again", "UpdateWorkflowExecution", **request_fields(env, "u1"))
    env.note("events", len(await env.events()))
