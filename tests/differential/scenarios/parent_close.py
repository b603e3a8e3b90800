"""What happens to children when their parent closes: each close policy under each way of closing."""

import asyncio

from differential.env import Env, command, complete_run
from differential.registry import scenario
from differential.scenarios.children import child, child_step
from harness.wire import failure

POLICIES = ("UNSPECIFIED", "TERMINATE", "REQUEST_CANCEL", "ABANDON")


async def close_over_children(env: Env, *commands: dict[str, object], outside: str | None = None, **start: object) -> None:
    """A parent with a child under each policy closes; what each child's history says afterwards."""
    run = await env.start(**start)
    await env.step(*(child(env, policy.lower(), parent_close_policy=f"PARENT_CLOSE_POLICY_{policy}") for policy in POLICIES))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED", len(POLICIES))
    if outside:
        await env.rpc(outside, workflow_execution=env.execution(), reason="from outside")
    if commands:
        await env.step(*commands)
    await env.until_closed(run_id=run)
    for policy in POLICIES:
        wid = env.name(policy.lower())
        if policy == "REQUEST_CANCEL":
            await env.until_event("WORKFLOW_EXECUTION_CANCEL_REQUESTED", workflow_id=wid)
        elif policy != "ABANDON":
            await env.until_closed(workflow_id=wid)
        await env.history(policy, wid)
    await env.show("describe parent", "DescribeWorkflowExecution", execution=env.execution(run_id=run))
    await child_step(env)


@scenario
async def parent_completes(env: Env) -> None:
    """The parent completes."""
    await close_over_children(env, complete_run())


@scenario
async def parent_fails(env: Env) -> None:
    """The parent fails."""
    await close_over_children(env, command("FAIL_WORKFLOW_EXECUTION", failure=failure("f")))


@scenario
async def parent_is_cancelled(env: Env) -> None:
    """The parent is cancelled: on request, it confirms."""
    await close_over_children(env, command("CANCEL_WORKFLOW_EXECUTION"), outside="RequestCancelWorkflowExecution")


@scenario
async def parent_is_terminated(env: Env) -> None:
    """The parent is terminated."""
    await close_over_children(env, outside="TerminateWorkflowExecution")


@scenario
async def parent_times_out(env: Env) -> None:
    """The parent runs into its run time-out."""
    await close_over_children(env, workflow_run_timeout="3s")


@scenario
async def parent_continues_as_new(env: Env) -> None:
    """The parent continues as new: no policy applies, the children go on."""
    run = await env.start()
    await env.step(*(child(env, policy.lower(), parent_close_policy=f"PARENT_CLOSE_POLICY_{policy}") for policy in POLICIES))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED", len(POLICIES))
    await env.step(command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Demo"}))
    await env.until_closed(run_id=run)
    await asyncio.sleep(1)
    for policy in POLICIES:
        description = await env.rpc("DescribeWorkflowExecution", execution=env.execution(env.name(policy.lower())))
        env.note(policy, description.workflow_execution_info.status)


@scenario
async def parent_is_replaced(env: Env) -> None:
    """The parent is terminated by a start that takes its id."""
    first = await env.start()
    await env.step(child(env, "terminate"), child(env, "abandon", parent_close_policy="PARENT_CLOSE_POLICY_ABANDON"))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED", 2)
    await env.start(workflow_id_conflict_policy="WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING")
    await env.until_closed(run_id=first)
    await env.until_closed(workflow_id=env.name("terminate"))
    await env.history("child under TERMINATE", env.name("terminate"))
    await env.history("child under ABANDON", env.name("abandon"))


@scenario
async def parent_retries(env: Env) -> None:
    """The parent fails under a retry policy: what its children see, and the next attempt."""
    first = await env.start(retry_policy={"initial_interval": "1s", "maximum_attempts": 2})
    await env.step(child(env, "terminate"), child(env, "abandon", parent_close_policy="PARENT_CLOSE_POLICY_ABANDON"))
    await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED", 2)
    await env.step(command("FAIL_WORKFLOW_EXECUTION", failure=failure("f")))
    await env.until_closed(run_id=first)
    task = await env.poll()
    env.note("attempt", task.history.events[0].workflow_execution_started_event_attributes.attempt)
    await asyncio.sleep(0.5)
    for name in ("terminate", "abandon"):
        description = await env.rpc("DescribeWorkflowExecution", execution=env.execution(env.name(name)))
        env.note(name, description.workflow_execution_info.status)
