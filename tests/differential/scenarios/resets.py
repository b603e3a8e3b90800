"""ResetWorkflowExecution: to which events, of which runs, what is applied again to the new run, what is refused."""

import asyncio

from differential.env import UNKNOWN_RUN, Env, command, complete_run, schedule, timer
from differential.registry import scenario
from differential.scenarios.children import child, with_child
from differential.updates import accept, accept_readmitted, admitted, answer, begin_update, reject, show_poll, succeed
from harness.wire import failure, payload, payloads


async def reset(env: Env, label: str, event_id: int, run_id: str | None = None, **fields: object) -> str | None:
    """Resets and shows the answer; the new run's id."""
    base = {
        "workflow_execution": env.execution(run_id=run_id),
        "reason": "because",
        "workflow_task_finish_event_id": event_id,
        "request_id": f"reset-{label}",
    }
    response = await env.show(label, "ResetWorkflowExecution", **{**base, **fields})
    return response.run_id if response else None


async def two_tasks(env: Env, **start: object) -> str:
    """A run with two completed tasks (events 4 and 8), a signal between them, and a timer that waits."""
    run = await env.start(input=payloads("in"), **start)
    await env.step()
    await env.signal("between")
    await env.step(timer("t", "1000s"))
    return run


@scenario
async def reset_closed_run(env: Env) -> None:
    """A completed run reset to its first task: the new run's history, the next task, both descriptions."""
    run = await two_tasks(env)
    await env.signal("last")
    await env.step(complete_run("done"))
    await reset(env, "first task", 4)
    await env.history("new run")
    await env.history("old run", run_id=run)
    task = await env.poll()
    env.response("next task", "PollWorkflowTaskQueue", task)
    await env.complete(task, complete_run("again"))
    await env.history("new run, closed")
    await env.show("describe new", "DescribeWorkflowExecution", execution=env.execution())
    await env.show("describe old", "DescribeWorkflowExecution", execution=env.execution(run_id=run))


@scenario
async def reset_open_run(env: Env) -> None:
    """An open run reset to its first task: the old one is terminated; the signal after that task is applied again."""
    run = await two_tasks(env)
    await reset(env, "first task", 4)
    await env.history("old run", run_id=run)
    await env.history("new run")
    await env.step(complete_run())
    await env.history("new run, closed")


@scenario
async def reset_to_later_task(env: Env) -> None:
    """A reset to the second task keeps what happened until then; a timer of that task's completion is not there."""
    await two_tasks(env)
    await env.signal("after")
    await reset(env, "second task", 8)
    await env.history("new run")


@scenario
async def reset_reapply_types(env: Env) -> None:
    """Signals after the reset point under each reapply type and exclusion."""
    variants = {
        "unspecified": {},
        "signal": {"reset_reapply_type": "RESET_REAPPLY_TYPE_SIGNAL"},
        "none": {"reset_reapply_type": "RESET_REAPPLY_TYPE_NONE"},
        "all eligible": {"reset_reapply_type": "RESET_REAPPLY_TYPE_ALL_ELIGIBLE"},
        "signals excluded": {"reset_reapply_exclude_types": ["RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL"]},
        "all, signals excluded": {
            "reset_reapply_type": "RESET_REAPPLY_TYPE_ALL_ELIGIBLE",
            "reset_reapply_exclude_types": ["RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL"],
        },
        "signals, updates excluded": {
            "reset_reapply_type": "RESET_REAPPLY_TYPE_SIGNAL",
            "reset_reapply_exclude_types": ["RESET_REAPPLY_EXCLUDE_TYPE_UPDATE"],
        },
    }
    await two_tasks(env)
    for label, fields in variants.items():
        await reset(env, label, 4, **fields)
        events = await env.events()
        env.note(label, [each.event_type for each in events])
        await env.step()
        if label in ("none", "signals excluded", "all, signals excluded"):
            await env.signal("between")
            await env.step()
        env.note(f"{label}: then", [each.event_type for each in await env.events()])


@scenario
async def reset_reapplies_updates(env: Env) -> None:
    """Updates after the reset point: a completed one, an accepted one, a rejected one; applied again as admitted updates."""
    run = await env.start()
    await env.step()
    for update_id in ("done", "accepted", "rejected"):
        waiting = begin_update(env, update_id, update_id, wait="ACCEPTED")
        task = await env.poll()
        if update_id == "rejected":
            await answer(env, task, reject(task, update_id))
        elif update_id == "accepted":
            await answer(env, task, accept(task, update_id))
        else:
            await answer(env, task, accept(task, update_id), succeed(update_id, "out"))
        await waiting
    await reset(env, "first task", 4)
    await env.history("new run")
    task = await env.poll()
    env.response("next task", "PollWorkflowTaskQueue", task)
    await show_poll(env, "done, before any answer", "done")
    await answer(
        env,
        task,
        accept_readmitted("done", 7, "up", "done"),
        succeed("done", "again"),
        accept_readmitted("accepted", 7, "up", "accepted"),
    )
    await show_poll(env, "done", "done")
    await show_poll(env, "accepted", "accepted")
    await env.history("new run, answered")
    await env.history("old run", run_id=run)


@scenario
async def reset_without_updates(env: Env) -> None:
    """Updates excluded from what is applied again."""
    await env.start()
    await env.step()
    waiting = begin_update(env, "u1", wait="ACCEPTED")
    task = await env.poll()
    await answer(env, task, accept(task, "u1"), succeed("u1", "out"))
    await waiting
    await env.signal("s")
    await env.step()
    await reset(env, "updates excluded", 4, reset_reapply_exclude_types=["RESET_REAPPLY_EXCLUDE_TYPE_UPDATE"])
    await env.history("new run")
    await env.step()
    await show_poll(env, "poll", "u1")


@scenario
async def reset_with_an_admitted_update(env: Env) -> None:
    """An update that no worker has seen when its run is reset: what its caller is told, and the new run's task."""
    await env.start()
    await env.step()
    await env.signal("s")
    task = await env.poll()
    waiting = await admitted(env, "u1", timeout=8.0)
    await reset(env, "first task", 4)
    task = await env.poll()
    env.note("messages", [each.protocol_instance_id for each in task.messages])
    if task.messages:
        await answer(env, task, accept(task, "u1"), succeed("u1"))
    await env.ended("update", "UpdateWorkflowExecution", waiting)


@scenario
async def reset_with_pending_activities(env: Env) -> None:
    """Activities scheduled before the reset point: one waiting, one started, one completed after it; as the new run has them."""
    await env.start()
    await env.step(schedule(env, "waits", task_queue={"name": env.name("nobody")}), schedule(env, "starts"), schedule(env, "done"))
    tasks = [await env.poll_activity() for _ in range(2)]
    await env.signal("s")
    await env.step()
    done = next(each for each in tasks if each.activity_id == "done")
    started = next(each for each in tasks if each.activity_id == "starts")
    await env.rpc("RespondActivityTaskCompleted", task_token=done.task_token, result=payloads("r"))
    run = (await env.step()).workflow_execution.run_id
    await reset(env, "second task", 10, run_id=run)
    events = await env.events()
    env.note("new run", [each.event_type for each in events])
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())
    await env.show("late completion of the old run's attempt", "RespondActivityTaskCompleted", task_token=started.task_token)


@scenario
async def reset_with_a_retrying_activity(env: Env) -> None:
    """An activity in back-off when its run is reset begins with attempt 1 in the new run."""
    await env.start()
    await env.step(schedule(env, "a", retry_policy={"initial_interval": "100s"}))
    activity = await env.poll_activity()
    await env.rpc("RespondActivityTaskFailed", task_token=activity.task_token, failure=failure("once"))
    await env.signal("s")
    await env.step()
    await reset(env, "second task", 8)
    again = await env.poll_activity()
    env.note("attempt", again.attempt)
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def reset_with_timers(env: Env) -> None:
    """Timers before the reset point fire again in the new run at their time; fired ones after it do not count."""
    await env.start()
    await env.step(timer("short", "2s"), timer("long", "1000s"))
    await env.signal("s")
    await env.step()
    await env.until_event("TIMER_FIRED")
    await reset(env, "second task", 9)
    await env.until_event("TIMER_FIRED")
    await env.step(complete_run())
    await env.history("new run, closed")


@scenario
async def reset_with_children(env: Env) -> None:
    """A reset to before the start of a child, and to after it, while the child runs."""
    await with_child(env)
    await env.step()
    await env.signal("s")
    await env.step()
    await reset(env, "after the child's start", 9)
    await env.history("new run, with the child")
    await env.show("describe, with the child", "DescribeWorkflowExecution", execution=env.execution())
    await env.step()
    await reset(env, "before the child's start", 4)
    await env.history("new run, without the child")
    await env.show("describe, without the child", "DescribeWorkflowExecution", execution=env.execution())
    await env.step(child(env))
    await asyncio.sleep(1)
    await env.history("the child is started again")


@scenario
async def reset_with_cancel_request(env: Env) -> None:
    """A cancel request after the reset point: applied again, or excluded."""
    await env.start()
    await env.step()
    await env.rpc("RequestCancelWorkflowExecution", workflow_execution=env.execution(), reason="r")
    await env.step()
    await reset(env, "excluded", 4, reset_reapply_exclude_types=["RESET_REAPPLY_EXCLUDE_TYPE_CANCEL_REQUEST"])
    await env.history("without the request")
    await env.step()
    await env.rpc("RequestCancelWorkflowExecution", workflow_execution=env.execution(), reason="r")
    await env.step()
    await reset(env, "applied again", 4)
    await env.history("with the request")


@scenario
async def reset_to_a_failed_task(env: Env) -> None:
    """A reset to a task that failed, and to one that timed out, and to a task's scheduled and started events."""
    await env.start(workflow_task_timeout="1s")
    task = await env.poll()
    await env.rpc(
        "RespondWorkflowTaskFailed",
        task_token=task.task_token,
        cause="WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE",
        failure=failure("bug"),
    )
    await env.signal("s")
    await env.step()
    await reset(env, "failed task", 4)
    await env.history("new run")
    await reset(env, "scheduled event", 2)
    await reset(env, "started event", 3)
    await env.history("new run of the started event")


@scenario
async def reset_while_task_started(env: Env) -> None:
    """A run is reset while its task is started with a signal buffered: the signal is applied again, the answer refused."""
    run = await env.start()
    await env.step()
    await env.signal("one")
    task = await env.poll()
    await env.signal("buffered")
    await reset(env, "first task", 4)
    await env.history("old run", run_id=run)
    await env.history("new run")
    await env.show("late completion", "RespondWorkflowTaskCompleted", task_token=task.task_token, commands=[complete_run()])


@scenario
async def reset_request_id(env: Env) -> None:
    """A reset under another request id is another reset, also to the same event."""
    await two_tasks(env)
    first = await reset(env, "once", 4)
    other = await reset(env, "another request", 4)
    env.note("another run", other != first)


@scenario
async def reset_of_a_reset(env: Env) -> None:
    """A run that came from a reset is reset itself; and an earlier run of the chain is reset while a later one is open."""
    run = await two_tasks(env)
    await reset(env, "first", 4)
    await env.step()
    await env.signal("in the new run")
    await env.step()
    await reset(env, "of the reset", 4)
    await env.history("reset twice")
    await reset(env, "of the first run", 8, run_id=run)
    await env.history("of the first run")


@scenario
async def reset_after_continue_as_new(env: Env) -> None:
    """The first run of a chain is reset after it continued as new: signals of the next run are applied again."""
    first = await env.start()
    await env.step()
    await env.signal("to the first")
    await env.step(command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Demo"}))
    await env.step()
    await env.signal("to the second")
    await env.step()
    await reset(env, "first run", 4, run_id=first)
    await env.history("new run")


@scenario
async def reset_carries_everything(env: Env) -> None:
    """Memo, search attributes, header, retry policy, time-outs and metadata of the run are the new run's, as they were then."""
    await env.start(
        memo={"fields": {"m": payload(1)}},
        header={"fields": {"h": payload("v")}},
        search_attributes={"indexed_fields": {"CustomKeyword": payload("k")}},
        workflow_run_timeout="100s",
        workflow_execution_timeout="1000s",
        retry_policy={"initial_interval": "1s", "maximum_attempts": 3},
        user_metadata={"summary": payload("sum")},
        priority={"priority_key": 2},
    )
    await env.step(
        command("UPSERT_WORKFLOW_SEARCH_ATTRIBUTES", search_attributes={"indexed_fields": {"CustomInt": payload(7)}}),
        command("MODIFY_WORKFLOW_PROPERTIES", upserted_memo={"fields": {"m2": payload(2)}}),
    )
    await env.signal("s")
    await env.step()
    await reset(env, "second task", 9)
    await env.show("describe, second task", "DescribeWorkflowExecution", execution=env.execution())
    await reset(env, "first task", 4)
    await env.show("describe, first task", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def reset_and_then_signal(env: Env) -> None:
    """Operations after the reset: a signal sent to the new run by the reset itself."""
    await two_tasks(env)
    operation = {"signal_workflow": {"signal_name": "after", "input": payloads("x"), "header": {}}}
    await reset(env, "with a signal", 4, post_reset_operations=[operation])
    await env.history("new run")
    options = {
        "update_workflow_options": {
            "workflow_execution_options": {"versioning_override": {"auto_upgrade": True}},
            "update_mask": "versioningOverride",
        }
    }
    await reset(env, "with options", 4, post_reset_operations=[options])
    await env.history("new run with options")


@scenario
async def reset_is_validated(env: Env) -> None:
    """ResetWorkflowExecution with one thing wrong at a time."""
    run = await two_tasks(env)

    async def case(label: str, event_id: int = 4, **fields: object) -> None:
        await reset(env, label, event_id, **fields)

    await case("no execution", workflow_execution=None)
    await case("no workflow id", workflow_execution={"run_id": run})
    await case("run id is no UUID", workflow_execution=env.execution(run_id="nope"))
    await case("unknown workflow", workflow_execution=env.execution(env.name("nobody")))
    await case("unknown run", workflow_execution=env.execution(run_id=UNKNOWN_RUN))
    await case("unknown namespace", namespace="nowhere")
    await case("event zero", 0)
    await case("event one", 1)
    await case("event two", 2)
    await case("event below zero", -1)
    await case("the signal's event", 5)
    await case("the timer's event", 9)
    await case("an event that is not there", 1000)
    await case("both ways to say what is applied again", reset_reapply_type="RESET_REAPPLY_TYPE_NONE",
               reset_reapply_exclude_types=["RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL"])
    await case("no reason", reason="", request_id="r-no-reason")
    await case("no request id", request_id="")


@scenario
async def reset_before_any_completed_task(env: Env) -> None:
    """A run whose first task nobody has completed."""
    await env.start()
    await reset(env, "scheduled only", 2)
    await reset(env, "next event", 3)
    await env.poll()
    await reset(env, "started", 3)
    await reset(env, "the event that would be next", 4)
    await env.history("current run")


@scenario
async def reset_terminated_and_timed_out(env: Env) -> None:
    """Runs that were terminated, timed out, failed and cancelled are reset like completed ones."""
    for label, closing in {
        "terminated": None,
        "failed": command("FAIL_WORKFLOW_EXECUTION", failure=failure("f")),
    }.items():
        wid = env.name(label)
        await env.start(workflow_id=wid)
        await env.step()
        await env.signal("s", workflow_execution=env.execution(wid))
        if closing:
            await env.step(closing)
        else:
            await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(wid))
        await reset(env, label, 4, workflow_execution=env.execution(wid))
        await env.history(label, wid)
        await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution(wid))


@scenario
async def reset_with_cron(env: Env) -> None:
    """A run of a cron workflow is reset while the next one waits: the new run replaces the one that waits."""
    first = await env.start(cron_schedule="@every 1s")
    await env.step(complete_run("one"))
    await reset(env, "first run", 4, run_id=first)
    await env.history("new run")
    await env.rpc("TerminateWorkflowExecution", workflow_execution=env.execution())
