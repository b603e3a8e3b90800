"""Resets of runs with updates: what the new run knows of them by its history, what it is asked again, and where a run can be cut."""

import asyncio

from differential.env import Env, complete_run, schedule, timer
from differential.registry import scenario
from differential.scenarios.resets import reset
from differential.updates import accept, accept_readmitted, answer, begin_update, show_poll, succeed
from harness.wire import failure, payloads


async def updated(env: Env, update_id: str, *, done: bool = True) -> None:
    """An update is accepted, and completed with its task if it is to be."""
    waiting = begin_update(env, update_id, update_id, wait="ACCEPTED")
    task = await env.poll()
    await answer(env, task, accept(task, update_id), *([succeed(update_id, "out")] if done else []))
    await waiting


async def kinds(env: Env, label: str, run_id: str | None = None) -> None:
    """The types of a run's events."""
    from temporalio.api.enums.v1 import EventType

    env.note(label, [EventType.Name(each.event_type).removeprefix("EVENT_TYPE_") for each in await env.events(run_id=run_id)])


@scenario
async def reset_behind_updates(env: Env) -> None:
    """Updates in front of the point: a completed one keeps its outcome, an accepted one is completed in the new run."""
    await env.start()
    await env.step()
    await updated(env, "done")
    await updated(env, "accepted", done=False)
    await env.signal("s")
    await env.step()
    last = (await env.events())[-1].event_id
    await reset(env, "last task", last)
    await env.history("new run")
    await show_poll(env, "done", "done")
    await show_poll(env, "accepted", "accepted")
    waiting = begin_update(env, "done", "again")
    await env.ended("the same id again", "UpdateWorkflowExecution", waiting)
    task = await env.poll()
    await answer(env, task, succeed("accepted", "late"))
    await show_poll(env, "accepted, completed", "accepted")
    await env.history("new run, completed")


@scenario
async def reset_between_acceptance_and_outcome(env: Env) -> None:
    """The point lies between an update's acceptance and its outcome: it is accepted in the new run, without the outcome."""
    await env.start()
    await env.step()
    await updated(env, "u", done=False)
    await env.signal("s")
    task = await env.poll()
    await answer(env, task, succeed("u", "out"))
    events = await env.events()
    point = next(each.event_id for each in events if each.event_id > 9 and each.event_type == 7)
    await reset(env, "task of the outcome", point)
    await show_poll(env, "poll", "u")
    await env.history("new run")


@scenario
async def reset_readmitted_updates_again(env: Env) -> None:
    """Updates that one reset admitted again are behind, or around, the point of another."""
    await env.start()
    await env.step()
    await updated(env, "one")
    await updated(env, "two", done=False)
    await reset(env, "first", 4)
    task = await env.poll()
    await answer(env, task, accept_readmitted("one", 7, "up", "one"), succeed("one", "again"))
    await kinds(env, "first reset")
    await env.signal("s")
    await env.step()
    await reset(env, "behind their admission", 9)
    await env.history("second reset")
    await show_poll(env, "one", "one")
    await show_poll(env, "two", "two")
    await reset(env, "in front of their admission", 4)
    await env.history("third reset")


@scenario
async def reset_reapplies_in_order(env: Env) -> None:
    """Signals, updates and changed options behind the point, one after another."""
    await env.start()
    await env.step()
    await env.signal("one")
    await env.step()
    await updated(env, "u")
    await env.signal("two")
    await env.step()
    await reset(env, "all", 4)
    await kinds(env, "all")
    await env.step()
    types = {"signals left out": "SIGNAL", "updates left out": "UPDATE"}
    for label, kind in types.items():
        await env.signal("s")
        await env.step()
        await reset(env, label, 4, reset_reapply_exclude_types=[f"RESET_REAPPLY_EXCLUDE_TYPE_{kind}"])
        await kinds(env, label)
        await env.step()


@scenario
async def reset_updates_by_type(env: Env) -> None:
    """Updates behind the point under each reapply type."""
    first = await env.start()
    await env.step()
    await updated(env, "u")
    await env.signal("s")
    await env.step()
    for kind in ("UNSPECIFIED", "SIGNAL", "NONE", "ALL_ELIGIBLE"):
        await reset(env, kind, 4, run_id=first, reset_reapply_type=f"RESET_REAPPLY_TYPE_{kind}")
        await kinds(env, kind)


@scenario
async def reset_to_every_event(env: Env) -> None:
    """Each event of a run as the point: tasks that carried updates only, failed and timed-out tasks, activities, timers."""
    first = await env.start(workflow_task_timeout="2s")
    await env.step(schedule(env), timer("t", "1000s"))
    activity = await env.poll_activity()
    await env.rpc("RespondActivityTaskCompleted", task_token=activity.task_token, result=payloads("r"))
    await env.step()
    await updated(env, "u")
    await env.signal("s")
    task = await env.poll()
    await env.rpc(
        "RespondWorkflowTaskFailed",
        task_token=task.task_token,
        cause="WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE",
        failure=failure("bug"),
    )
    await env.step(force_create_new_workflow_task=True)
    await env.poll()
    await env.until_event("WORKFLOW_TASK_TIMED_OUT")
    await env.step(complete_run())
    await kinds(env, "first run", run_id=first)
    for each in await env.events(run_id=first):
        if each.event_id > 1:
            await reset(env, f"event {each.event_id}", each.event_id, run_id=first)
    await kinds(env, "the last new run")


@scenario
async def reset_to_every_event_of_a_reset(env: Env) -> None:
    """Each event of a run that a reset made, with a signal and an update applied again, as the point of another."""
    await env.start()
    await env.step()
    await updated(env, "u")
    await env.signal("s")
    await env.step()
    await reset(env, "first", 4)
    task = await env.step()
    run = task.workflow_execution.run_id
    await kinds(env, "new run", run_id=run)
    for each in await env.events(run_id=run):
        if each.event_id > 1:
            await reset(env, f"event {each.event_id}", each.event_id, run_id=run)


@scenario
async def reset_keeps_the_time_of_timers(env: Env) -> None:
    """A timer that was started in front of the point fires when it would have fired, not its duration after the reset."""
    await env.start()
    await env.step(timer("t", "4s"))
    await env.signal("s")
    await env.step()
    await asyncio.sleep(2)
    await reset(env, "second task", 8)
    started = (await env.events())[4]
    fired = await env.until_event("TIMER_FIRED")
    seconds = fired.event_time.ToNanoseconds() / 1e9 - started.event_time.ToNanoseconds() / 1e9
    env.note("whole seconds from start to fire", int(seconds))
