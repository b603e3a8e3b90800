"""Children and external signals by the published Python SDK: whole conversations, and the histories they leave."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, ChildWorkflowError

from differential.env import Env
from differential.registry import scenario


@workflow.defn
class Small:
    """The child: does what it is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @workflow.run
    async def run(self, what: str) -> str:
        if what == "fail":
            raise ApplicationError("child fails", "detail", type="Small")
        if what == "fail once" and workflow.info().attempt == 1:
            raise ApplicationError("child fails once", type="Small")
        if what == "sleep":
            await asyncio.sleep(1000)
        if what == "wait for a signal":
            await workflow.wait_condition(lambda: bool(self.seen))
            return ", ".join(self.seen)
        if what == "again":
            workflow.continue_as_new("nothing")
        return f"child did {what} of {workflow.info().parent.workflow_id.partition('~')[0]}"  # type: ignore[union-attr]

    @workflow.signal
    def tell(self, text: str) -> None:
        self.seen.append(text)


@workflow.defn
class Big:
    @workflow.run
    async def run(self, what: str, policy: int, retry: bool) -> str:
        try:
            return await workflow.execute_child_workflow(
                Small.run,
                what,
                id=workflow.info().workflow_id + "-child",
                parent_close_policy=workflow.ParentClosePolicy(policy),
                retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=2) if retry else None,
            )
        except ChildWorkflowError as error:
            return f"{type(error.cause).__name__}: {error.cause} ({error.retry_state})"


@workflow.defn
class Canceller:
    @workflow.run
    async def run(self, how: str) -> str:
        handle = await workflow.start_child_workflow(
            Small.run,
            "sleep",
            id=workflow.info().workflow_id + "-child",
            cancellation_type=workflow.ChildWorkflowCancellationType[how],
        )
        await asyncio.sleep(1)
        handle.cancel()
        try:
            await handle
        except ChildWorkflowError as error:
            return type(error.cause).__name__
        return "no error"


@workflow.defn
class Talker:
    @workflow.run
    async def run(self, other: str) -> list[str]:
        out = []
        handle = await workflow.start_child_workflow(Small.run, "wait for a signal", id=workflow.info().workflow_id + "-child")
        await handle.signal(Small.tell, "to my child")
        out.append(await handle)
        stranger = workflow.get_external_workflow_handle_for(Small.run, other)
        await stranger.signal(Small.tell, "to a stranger")
        out.append("signalled")
        nobody = workflow.get_external_workflow_handle("nobody-has-this-id")
        for act in (nobody.signal("tell", "x"), nobody.cancel()):
            try:
                await act
            except ApplicationError as error:
                out.append(f"{error.type}: {error.message}")
        return out


@workflow.defn
class StrangerCanceller:
    @workflow.run
    async def run(self, other: str) -> str:
        await workflow.get_external_workflow_handle(other).cancel()
        return "asked"


async def _run(env: Env, what: str, retry: bool = False) -> None:
    async with await env.worker([Big, Small]):
        client = await env.client()
        handle = await client.start_workflow(Big.run, args=[what, 1, retry], id=env.wid, task_queue=env.tq)
        env.note("result", await handle.result())
    await env.history("parent")
    await env.history("child", env.wid + "-child")


@scenario
async def sdk_child_completes(env: Env) -> None:
    """A child that completes."""
    await _run(env, "nothing")


@scenario
async def sdk_child_fails(env: Env) -> None:
    """A child that fails: the error that the parent's code sees."""
    await _run(env, "fail")


@scenario
async def sdk_child_retries(env: Env) -> None:
    """A child that fails once under a retry policy, then completes."""
    await _run(env, "fail once", retry=True)


@scenario
async def sdk_child_continues_as_new(env: Env) -> None:
    """A child that continues as new once."""
    await _run(env, "again")


@scenario
async def sdk_child_cancellation_types(env: Env) -> None:
    """A child cancelled with each cancellation type of the SDK."""
    async with await env.worker([Canceller, Small]):
        client = await env.client()
        for how in ("TRY_CANCEL", "WAIT_CANCELLATION_COMPLETED", "WAIT_CANCELLATION_REQUESTED", "ABANDON"):
            wid = env.name(how.lower())
            env.note(how, await client.execute_workflow(Canceller.run, how, id=wid, task_queue=env.tq))


@scenario
async def sdk_cancel_reaches_the_child(env: Env) -> None:
    """A parent cancelled from outside cancels its child and is cancelled itself."""
    async with await env.worker([Big, Small]):
        client = await env.client()
        handle = await client.start_workflow(Big.run, args=["sleep", 1, False], id=env.wid, task_queue=env.tq)
        await env.until_event("CHILD_WORKFLOW_EXECUTION_STARTED")
        await env.until_event("TIMER_STARTED", workflow_id=env.wid + "-child")
        await handle.cancel()
        try:
            env.note("result", await handle.result())
        except WorkflowFailureError as error:
            env.note("failure", type(error.cause).__name__)
    await env.history("parent")
    await env.history("child", env.wid + "-child")


@scenario
async def sdk_external_signals(env: Env) -> None:
    """Signals to a child, to a stranger, to nobody, and a cancel request to nobody."""
    async with await env.worker([Talker, Small]):
        client = await env.client()
        other = await client.start_workflow(Small.run, "wait for a signal", id=env.name("other"), task_queue=env.tq)
        env.note("talker", await client.execute_workflow(Talker.run, env.name("other"), id=env.wid, task_queue=env.tq))
        env.note("other", await other.result())


@scenario
async def sdk_external_cancel(env: Env) -> None:
    """A run cancelled by another one."""
    async with await env.worker([StrangerCanceller, Small]):
        client = await env.client()
        other = await client.start_workflow(Small.run, "sleep", id=env.name("other"), task_queue=env.tq)
        await env.until_event("TIMER_STARTED", workflow_id=env.name("other"))
        env.note("canceller", await client.execute_workflow(StrangerCanceller.run, env.name("other"), id=env.wid, task_queue=env.tq))
        try:
            await other.result()
        except WorkflowFailureError as error:
            env.note("other", type(error.cause).__name__)
    await env.history("cancelled run", env.name("other"))
