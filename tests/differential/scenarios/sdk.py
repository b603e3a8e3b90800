"""The published Python SDK, worker and client: whole workflows, and the histories they leave.

Raw calls show single answers; these show that a real worker's conversation with the server comes out the same.
"""

import asyncio
from datetime import timedelta

from temporalio import activity, exceptions, workflow
from temporalio.client import WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

from differential.env import Env
from differential.registry import scenario

SOON = timedelta(seconds=30)


@activity.defn
async def greet(name: str) -> str:
    return f"hello {name}"


@activity.defn
async def fail_twice(text: str) -> str:
    if activity.info().attempt < 3:
        raise ApplicationError(f"attempt {activity.info().attempt}", type="Flaky")
    return f"{text} at attempt {activity.info().attempt}"


@activity.defn
async def fail_for_good() -> None:
    raise ApplicationError("never", "detail", type="Fatal", non_retryable=True)


@activity.defn
async def until_cancelled() -> str:
    try:
        while True:
            activity.heartbeat("alive")
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        if activity.info().activity_type == "until_cancelled_then_result":
            return "cancelled, with a result"
        raise


@activity.defn
async def wait_for_completion_from_outside() -> str:
    activity.raise_complete_async()


@workflow.defn
class Greeter:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(greet, name, start_to_close_timeout=SOON)


@workflow.defn
class Flaky:
    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_activity(
            fail_twice,
            "done",
            start_to_close_timeout=SOON,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=100)),
        )


@workflow.defn
class Doomed:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(fail_for_good, start_to_close_timeout=SOON)


@workflow.defn
class Waiter:
    """Collects signals until told to finish; answers queries; sleeps when told to."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.done = False

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: self.done)
        return self.seen

    @workflow.signal
    def add(self, text: str) -> None:
        self.seen.append(text)

    @workflow.signal
    def finish(self) -> None:
        self.done = True

    @workflow.query
    def so_far(self) -> list[str]:
        return self.seen

    @workflow.query
    def broken(self) -> str:
        raise ValueError("query fails")


@workflow.defn
class Canceller:
    @workflow.run
    async def run(self, how: str) -> str:
        handle = workflow.start_activity(
            until_cancelled,
            start_to_close_timeout=SOON,
            heartbeat_timeout=timedelta(seconds=5),
            cancellation_type=workflow.ActivityCancellationType[how],
        )
        await asyncio.sleep(1)
        handle.cancel()
        try:
            await handle
        except exceptions.ActivityError as error:
            return type(error.cause).__name__
        return "no error"


@workflow.defn
class CleansUp:
    @workflow.run
    async def run(self) -> str:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await workflow.execute_activity(greet, "cleaner", start_to_close_timeout=SOON)
            raise
        return "slept"


@workflow.defn
class Countdown:
    @workflow.run
    async def run(self, left: int) -> str:
        if left > 0:
            workflow.continue_as_new(left - 1)
        return "zero"


@workflow.defn
class Sleeper:
    @workflow.run
    async def run(self) -> str:
        await asyncio.gather(asyncio.sleep(0.5), asyncio.sleep(2.5))
        await workflow.wait([asyncio.create_task(asyncio.sleep(0.2)), asyncio.create_task(asyncio.sleep(500))],
                           return_when=asyncio.FIRST_COMPLETED)
        return "awake"


@workflow.defn
class Local:
    @workflow.run
    async def run(self) -> str:
        first = await workflow.execute_local_activity(greet, "local", start_to_close_timeout=SOON)
        if workflow.patched("patch-1"):
            second = await workflow.execute_local_activity(greet, "patched", start_to_close_timeout=SOON)
        else:
            second = "old"
        return first + ", " + second


@workflow.defn(failure_exception_types=[])
class Buggy:
    @workflow.run
    async def run(self) -> str:
        if workflow.info().get_current_history_length() < 5:
            raise RuntimeError("a bug in the workflow")
        return "mended"


@workflow.defn
class AsyncCompletion:
    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_activity(
            wait_for_completion_from_outside, activity_id="outside", start_to_close_timeout=SOON
        )


async def run_and_show(env: Env, kind: type, *args: object, activities: list[object] | None = None, **options: object) -> None:
    """Runs one workflow to its end and shows its result or failure and its history."""
    async with await env.worker([kind], activities):
        client = await env.client()
        handle = await client.start_workflow(kind.run, args=list(args), id=env.wid, task_queue=env.tq, **options)
        try:
            env.note("result", await handle.result())
        except WorkflowFailureError as error:
            env.note("failure", f"{type(error.cause).__name__}: {error.cause}")
    await env.history("run", run_id=handle.first_execution_run_id)


@scenario
async def sdk_one_activity(env: Env) -> None:
    """One activity, run by a real worker."""
    await run_and_show(env, Greeter, "world", activities=[greet])


@scenario
async def sdk_retries(env: Env) -> None:
    """An activity that fails twice with a type, then succeeds."""
    await run_and_show(env, Flaky, activities=[fail_twice])


@scenario
async def sdk_failure(env: Env) -> None:
    """A non-retryable activity failure that fails the workflow."""
    await run_and_show(env, Doomed, activities=[fail_for_good])


@scenario
async def sdk_timers(env: Env) -> None:
    """Timers side by side, and one that loses a race and is left."""
    await run_and_show(env, Sleeper)


@scenario
async def sdk_continue_as_new(env: Env) -> None:
    """Three runs in a row; the result is the last one's."""
    await run_and_show(env, Countdown, 1)


@scenario
async def sdk_local_activities_and_patch(env: Env) -> None:
    """Local activities and a patch: markers and the search attribute that the SDK upserts for a patch."""
    await run_and_show(env, Local, activities=[greet])


@scenario
async def sdk_signals_and_queries(env: Env) -> None:
    """Signals, queries between them, a query that fails, one that does not exist, and a query after the end."""
    async with await env.worker([Waiter]):
        client = await env.client()
        handle = await client.start_workflow(Waiter.run, id=env.wid, task_queue=env.tq)
        env.note("first query", await handle.query(Waiter.so_far))
        for text in ("a", "b"):
            await handle.signal(Waiter.add, text)
            env.note(f"query after {text}", await handle.query(Waiter.so_far))
        for name in ("broken", "nonsense"):
            try:
                await handle.query(name)
            except Exception as error:  # noqa: BLE001
                env.note(f"query {name}", f"{type(error).__name__}: {error}")
        await handle.signal(Waiter.finish)
        env.note("result", await handle.result())
        env.note("query afterwards", await handle.query(Waiter.so_far))
    description = await handle.describe()
    env.note("status", description.status.name if description.status else None)


@scenario
async def sdk_signal_with_start(env: Env) -> None:
    """signal_with_start twice through the SDK."""
    async with await env.worker([Waiter]):
        client = await env.client()
        for text in ("one", "two"):
            handle = await client.start_workflow(
                Waiter.run, id=env.wid, task_queue=env.tq, start_signal="add", start_signal_args=[text]
            )
        await handle.signal(Waiter.finish)
        env.note("result", await handle.result())


@scenario
async def sdk_cancel_activity_try(env: Env) -> None:
    """An activity cancelled with TRY_CANCEL: the workflow does not wait."""
    await _cancel(env, "TRY_CANCEL")


@scenario
async def sdk_cancel_activity_wait(env: Env) -> None:
    """An activity cancelled with WAIT_CANCELLATION_COMPLETED: the workflow waits for the activity to confirm."""
    await _cancel(env, "WAIT_CANCELLATION_COMPLETED")


@scenario
async def sdk_cancel_activity_abandon(env: Env) -> None:
    """An activity cancelled with ABANDON: the server never hears of it."""
    await _cancel(env, "ABANDON")


async def _cancel(env: Env, how: str) -> None:
    async with await env.worker([Canceller], [until_cancelled]):
        client = await env.client()
        env.note(how, await client.execute_workflow(Canceller.run, how, id=env.wid, task_queue=env.tq))
    await env.history("run")


@scenario
async def sdk_cancel_workflow(env: Env) -> None:
    """A workflow cancelled from outside that cleans up with an activity."""
    async with await env.worker([CleansUp], [greet]):
        client = await env.client()
        handle = await client.start_workflow(CleansUp.run, id=env.wid, task_queue=env.tq)
        await env.until_event("TIMER_STARTED")
        await handle.cancel()
        try:
            await handle.result()
        except WorkflowFailureError as error:
            env.note("failure", type(error.cause).__name__)
    await env.history("run")


@scenario
async def sdk_terminate(env: Env) -> None:
    """A workflow terminated from outside; what the waiting client is told."""
    async with await env.worker([Waiter]):
        client = await env.client()
        handle = await client.start_workflow(Waiter.run, id=env.wid, task_queue=env.tq)
        await env.until_event("WORKFLOW_TASK_COMPLETED")
        await handle.terminate("detail", reason="enough")
        try:
            await handle.result()
        except WorkflowFailureError as error:
            env.note("failure", f"{type(error.cause).__name__}: {error.cause}")
    await env.history("run")


@scenario
async def sdk_workflow_bug(env: Env) -> None:
    """A workflow whose first task fails with a bug, and which goes on once the code is mended."""
    async with await env.worker([Buggy]):
        client = await env.client()
        handle = await client.start_workflow(Buggy.run, id=env.wid, task_queue=env.tq)
        env.note("result", await handle.result())
    events = await env.events()
    env.note("event types", [each.event_type for each in events])
    failed = [each for each in events if each.HasField("workflow_task_failed_event_attributes")]
    env.note("failures recorded", len(failed))
    env.note("cause", failed[0].workflow_task_failed_event_attributes.cause)


@scenario
async def sdk_async_completion_by_id(env: Env) -> None:
    """An activity completed from outside by its id, after a heartbeat."""
    async with await env.worker([AsyncCompletion], [wait_for_completion_from_outside]):
        client = await env.client()
        handle = await client.start_workflow(AsyncCompletion.run, id=env.wid, task_queue=env.tq)
        outside = client.get_async_activity_handle(
            workflow_id=env.wid, run_id=handle.first_execution_run_id, activity_id="outside"
        )
        while True:
            description = await env.rpc("DescribeWorkflowExecution", execution=env.execution())
            if any(each.state == 2 for each in description.pending_activities):
                break
            await asyncio.sleep(0.02)
        await outside.heartbeat("halfway")
        await outside.complete("from outside")
        env.note("result", await handle.result())
    await env.history("run")
