"""Updates and update-with-start by the published Python SDK: handlers, validators, failures, and the histories they leave."""

import asyncio
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import (
    WithStartWorkflowOperation,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateStage,
)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from differential.env import Env
from differential.registry import scenario
from differential.updates import until_admitted

SOON = timedelta(seconds=30)


@activity.defn
async def double(number: int) -> int:
    return number * 2


@workflow.defn
class Counter:
    """Adds what updates bring, until told to finish."""

    def __init__(self) -> None:
        self.total = 0
        self.done = False

    @workflow.run
    async def run(self, begin: int) -> int:
        self.total += begin
        await workflow.wait_condition(lambda: self.done and workflow.all_handlers_finished())
        return self.total

    @workflow.update
    def add(self, number: int) -> int:
        self.total += number
        return self.total

    @add.validator
    def check(self, number: int) -> None:
        if number < 0:
            raise ApplicationError("less than zero", type="Negative")

    @workflow.update
    async def add_double(self, number: int) -> int:
        self.total += await workflow.execute_activity(double, number, start_to_close_timeout=SOON)
        return self.total

    @workflow.update
    async def break_down(self) -> None:
        raise ApplicationError("broken", "detail", type="Broken")

    @workflow.update
    async def wait_then_add(self, number: int) -> int:
        await workflow.sleep(0.5)
        self.total += number
        return self.total

    @workflow.signal
    def finish(self) -> None:
        self.done = True


async def _started(env: Env, **options: object) -> WorkflowHandle[Counter, int]:
    client = await env.client()
    return await client.start_workflow(Counter.run, 0, id=env.wid, task_queue=env.tq, **options)  # type: ignore[arg-type]


@scenario
async def sdk_update_completes(env: Env) -> None:
    """Updates one after the other, one with an activity, and the run's result."""
    async with await env.worker([Counter], [double]):
        handle = await _started(env)
        await env.until_event("WORKFLOW_TASK_COMPLETED")
        env.note("add", await handle.execute_update(Counter.add, 1, id="u1"))
        env.note("add with an activity", await handle.execute_update(Counter.add_double, 2, id="u2"))
        await handle.signal(Counter.finish)
        env.note("result", await handle.result())
    await env.history("run")


@scenario
async def sdk_update_rejected(env: Env) -> None:
    """A validator's rejection reaches the caller and leaves no event."""
    async with await env.worker([Counter], [double]):
        handle = await _started(env)
        await env.until_event("WORKFLOW_TASK_COMPLETED")
        try:
            await handle.execute_update(Counter.add, -1, id="u1")
        except WorkflowUpdateFailedError as error:
            env.note("rejected", f"{type(error.cause).__name__}: {error.cause}")
        await env.history("after the rejection")
        env.note("add", await handle.execute_update(Counter.add, 1, id="u2"))
        await handle.signal(Counter.finish)
        env.note("result", await handle.result())
    await env.history("run")


@scenario
async def sdk_update_fails(env: Env) -> None:
    """A handler's failure is the update's; an unknown update is rejected; the run goes on."""
    async with await env.worker([Counter], [double]):
        handle = await _started(env)
        await env.until_event("WORKFLOW_TASK_COMPLETED")
        for number, name in enumerate(("break_down", "nonsense")):
            try:
                await handle.execute_update(name, id=f"u{number}")
            except WorkflowUpdateFailedError as error:
                env.note(name, f"{type(error.cause).__name__}: {error.cause}")
        await handle.signal(Counter.finish)
        env.note("result", await handle.result())
    await env.history("run")


@scenario
async def sdk_update_stages(env: Env) -> None:
    """start_update that waits for acceptance, a handle made from its id, and the result of both."""
    async with await env.worker([Counter], [double]):
        handle = await _started(env)
        await env.until_event("WORKFLOW_TASK_COMPLETED")
        update = await handle.start_update(
            Counter.wait_then_add, 5, id="u1", wait_for_stage=WorkflowUpdateStage.ACCEPTED
        )
        other = handle.get_update_handle("u1", result_type=int)
        env.note("results", await asyncio.gather(update.result(), other.result()))
        env.note("same id again", await handle.execute_update(Counter.wait_then_add, 500, id="u1"))
        await handle.signal(Counter.finish)
        env.note("result", await handle.result())
    await env.history("run")


@scenario
async def sdk_update_before_the_worker(env: Env) -> None:
    """An update asked for before any worker is there waits for it."""
    handle = await _started(env)
    waiting = asyncio.ensure_future(handle.execute_update(Counter.add, 3, id="u1"))
    await until_admitted(env, "u1")
    async with await env.worker([Counter], [double]):
        env.note("add", await waiting)
        await handle.signal(Counter.finish)
        env.note("result", await handle.result())
    await env.history("run")


@scenario
async def sdk_updates_without_a_cache(env: Env) -> None:
    """Updates to a worker that keeps no run in its cache: each task replays the history."""
    async with await env.worker([Counter], [double], max_cached_workflows=0):
        handle = await _started(env)
        await env.until_event("WORKFLOW_TASK_COMPLETED")
        for number in range(3):
            env.note(f"add {number}", await handle.execute_update(Counter.add, number, id=f"u{number}"))
            try:
                await handle.execute_update(Counter.add, -1, id=f"r{number}")
            except WorkflowUpdateFailedError as error:
                env.note(f"rejected {number}", str(error.cause))
        await handle.signal(Counter.finish)
        env.note("result", await handle.result())
    await env.history("run")


@scenario
async def sdk_update_to_closed_run(env: Env) -> None:
    """Updates to a run that completed, and to none: the SDK's errors."""
    async with await env.worker([Counter], [double]):
        handle = await _started(env)
        await handle.signal(Counter.finish)
        await handle.result()
        client = await env.client()
        for label, target in (("closed", handle), ("unknown", client.get_workflow_handle(env.name("nobody")))):
            try:
                await target.execute_update("add", 1, id="u1")
            except RPCError as error:
                env.note(label, [error.status.name, error.message])


@scenario
async def sdk_update_with_start(env: Env) -> None:
    """Update-with-start twice over the same id: the first starts the run, the second uses it."""
    async with await env.worker([Counter], [double]):
        client = await env.client()
        runs = []
        for number in (1, 2):
            operation = WithStartWorkflowOperation(
                Counter.run, 10, id=env.wid, task_queue=env.tq, id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING
            )
            result = await client.execute_update_with_start_workflow(
                Counter.add, number, id=f"u{number}", start_workflow_operation=operation
            )
            handle = await operation.workflow_handle()
            runs.append(handle.first_execution_run_id)
            env.note(f"update {number}", result)
        env.note("one run", len(set(runs)))
        await handle.signal(Counter.finish)
        env.note("result", await handle.result())
    await env.history("run")
