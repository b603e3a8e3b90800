"""Resets of runs with children: which run hears of a child, which children end, what a child's second start does."""

import asyncio

from differential.env import Env, command, complete_run
from differential.registry import scenario
from differential.scenarios.children import child, child_step, children_queue, with_child
from differential.scenarios.resets import reset


async def before_and_after(env: Env, **attributes: object) -> str:
    """A run whose child runs, with a task completed since; resets to 4 are before the child, to 9 after its start."""
    run = await with_child(env, **attributes)
    await env.step()
    await env.signal("s")
    await env.step()
    return run


async def child_state(env: Env, label: str, name: str = "child") -> None:
    """Status of the child, and whose it is."""
    described = await env.rpc("DescribeWorkflowExecution", execution=env.execution(env.name(name)))
    info = described.workflow_execution_info
    env.note(label, [info.status, info.parent_execution.run_id])


@scenario
async def reset_child_then_completes(env: Env) -> None:
    """A child that runs over its parent's reset completes: the new run hears of it, and the child's parent stays what it was."""
    first = await before_and_after(env)
    await reset(env, "after the child's start", 9)
    await env.step()
    await child_state(env, "child, after the reset")
    await child_step(env, complete_run("from child"))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_COMPLETED")
    await env.step(complete_run())
    await env.history("new run")
    await env.history("first run", run_id=first)


@scenario
async def reset_and_close_with_child(env: Env) -> None:
    """The new run closes while a child runs that its base had started: the child goes on, whatever its parent close policy."""
    await before_and_after(env)
    await reset(env, "after the child's start", 9)
    await env.step(complete_run())
    await asyncio.sleep(1)
    await child_state(env, "child, its parent's new run closed")


@scenario
async def reset_and_cancel_child(env: Env) -> None:
    """The new run asks a child that its base had started to cancel, and signals it, as its child and as any other run."""
    await before_and_after(env)
    await reset(env, "after the child's start", 9)
    for only in (True, False):
        await env.step(
            command("REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION", workflow_id=env.name("child"), child_workflow_only=only)
        )
        await asyncio.sleep(1)
        await env.step(
            command(
                "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION",
                execution={"workflow_id": env.name("child")},
                signal_name="hello",
                child_workflow_only=only,
            )
        )
        await asyncio.sleep(1)
    await env.history("new run")
    await env.history("child", env.name("child"))


@scenario
async def reset_of_an_earlier_run_with_children(env: Env) -> None:
    """A run is reset twice while the run of the first reset has a child of its own, and one that it took over."""
    first = await before_and_after(env)
    await reset(env, "once", 9)
    await env.step(child(env, "own"))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED", 2)
    await reset(env, "the first run again", 9, run_id=first)
    await asyncio.sleep(1)
    await child_state(env, "taken over")
    await child_state(env, "own", "own")
    await env.history("last run")
    described = await env.rpc("DescribeWorkflowExecution", execution=env.execution())
    env.note("pending", sorted(env.text(each.workflow_id) for each in described.pending_children))
    await env.step()
    await child_step(env, complete_run("from child"))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_COMPLETED")
    await env.history("last run, child completed")


@scenario
async def reset_of_a_child(env: Env) -> None:
    """A child is reset, and then an earlier run of it once more: its parent hears of its last run's end alone."""
    await with_child(env)
    await env.step()
    child_id = env.name("child")
    first = (await child_step(env)).workflow_execution.run_id
    await env.signal("s", workflow_execution=env.execution(child_id))
    await child_step(env)
    await reset(env, "the child", 4, workflow_execution=env.execution(child_id))
    await asyncio.sleep(1)
    await child_step(env)
    env.note("parent's events", len(await env.events()))
    await reset(env, "its first run again", 4, workflow_execution=env.execution(child_id, first))
    await asyncio.sleep(1)
    await env.history("parent")
    await env.history("child, last run", child_id)
    await env.show("describe child", "DescribeWorkflowExecution", execution=env.execution(child_id))
    await child_step(env, complete_run("from child"))
    await asyncio.sleep(1)
    await env.history("parent, child completed")


@scenario
async def reset_before_child_and_start_again(env: Env) -> None:
    """A reset to before the start of a child that runs: the new run starts the same child once more."""
    await before_and_after(env)
    await reset(env, "before the child's start", 4)
    await asyncio.sleep(1)
    await child_state(env, "child, after the reset")
    await env.step(child(env))
    await env.until_event("WORKFLOW_TASK_SCHEDULED", 3)
    await env.history("new run")
    await child_state(env, "child, after its second start")
    await env.history("child", env.name("child"))


@scenario
async def reset_before_child_and_start_another(env: Env) -> None:
    """A reset to before the start of a child; the new run closes without it: what becomes of the child."""
    await before_and_after(env)
    await reset(env, "before the child's start", 4)
    await env.step(complete_run())
    await asyncio.sleep(1)
    await child_state(env, "child")


@scenario
async def reset_before_child_that_completes(env: Env) -> None:
    """A reset to before the start of a child; the child then completes: the new run has never heard of it."""
    await before_and_after(env)
    await reset(env, "before the child's start", 4)
    await env.step()
    await child_step(env, complete_run("from child"))
    await asyncio.sleep(1)
    await env.history("new run")


@scenario
async def reset_child_completed_behind_point(env: Env) -> None:
    """A child that was running at the point and has completed since: its result is told the new run again."""
    await before_and_after(env)
    await child_step(env, complete_run("from child"))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_COMPLETED")
    await env.step()
    await reset(env, "after the child's start", 9)
    await asyncio.sleep(0.5)
    await env.history("new run")
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())


@scenario
async def reset_child_completed_behind_point_left_out(env: Env) -> None:
    """As before, and nothing is to be applied again."""
    await before_and_after(env)
    await child_step(env, complete_run("from child"))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_COMPLETED")
    await env.step()
    await reset(env, "after the child's start", 9, reset_reapply_type="RESET_REAPPLY_TYPE_NONE")
    await asyncio.sleep(0.5)
    await env.history("new run")


@scenario
async def reset_child_started_behind_point(env: Env) -> None:
    """A child that was initiated in front of the point and started behind it."""
    await env.start()
    await env.step(child(env), force_create_new_workflow_task=True)
    await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED")
    await env.step()
    events = await env.events()
    env.note("events", [each.event_type for each in events])
    await reset(env, "between", 7)
    await asyncio.sleep(0.5)
    await env.history("new run")
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())
    await child_step(env, complete_run("from child"))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_COMPLETED")
    await env.history("new run, child completed")


@scenario
async def reset_twice_with_a_child(env: Env) -> None:
    """A reset of a reset, both behind the child's start: the last run hears of the child."""
    await before_and_after(env)
    await reset(env, "once", 9)
    await env.step()
    await env.signal("t")
    await env.step()
    await reset(env, "twice", 12)
    await env.step()
    await child_step(env, complete_run("from child"))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_COMPLETED")
    await env.history("last run")


@scenario
async def reset_closed_parent_of_abandoned_child(env: Env) -> None:
    """A closed parent is reset while a child goes on that it had abandoned: the new run hears of it."""
    await before_and_after(env, parent_close_policy="PARENT_CLOSE_POLICY_ABANDON")
    await env.signal("t")
    await env.step(complete_run())
    await reset(env, "after the child's start", 9)
    await env.step()
    await child_step(env, complete_run("from child"))
    await asyncio.sleep(1)
    await env.history("new run")


@scenario
async def reset_closed_parent_of_ended_child(env: Env) -> None:
    """A closed parent is reset whose end has ended its child: what the new run knows of the child."""
    await before_and_after(env)
    await env.signal("t")
    await env.step(complete_run())
    await env.until_closed(workflow_id=env.name("child"))
    await reset(env, "after the child's start", 9)
    await asyncio.sleep(1)
    await env.history("new run")
    await env.show("describe", "DescribeWorkflowExecution", execution=env.execution())
    await reset(env, "before the child's start", 4)
    await env.step(child(env))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED")
    await env.history("new run, before the child")


@scenario
async def reset_child_start_failed_behind_point(env: Env) -> None:
    """A child that could not be started, heard of behind the point."""
    other = env.name("child")
    await env.start(workflow_id=other, task_queue={"name": children_queue(env)})
    await env.start()
    await env.step(child(env), force_create_new_workflow_task=True)
    await env.until_event("START_CHILD_WORKFLOW_EXECUTION_FAILED")
    await env.step()
    await reset(env, "between", 7)
    await asyncio.sleep(0.5)
    await env.history("new run")
