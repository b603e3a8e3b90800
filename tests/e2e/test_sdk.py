"""Ordinary programs over the published Python SDK: each must end as its author expects."""

import asyncio
import contextlib
from datetime import timedelta

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import CancelledError, TerminatedError, WorkflowAlreadyStartedError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from e2e import programs


@contextlib.asynccontextmanager
async def working(client: Client, queue: str):
    async with Worker(
        client,
        task_queue=queue,
        workflows=programs.WORKFLOWS,
        activities=programs.ACTIVITIES,
        workflow_runner=UnsandboxedWorkflowRunner(),
        graceful_shutdown_timeout=timedelta(seconds=1),
    ):
        yield


async def test_one_activity(client, unique):
    async with working(client, unique):
        result = await client.execute_workflow(programs.Greeting.run, "you", id=unique, task_queue=unique)
    assert result == "Hello, you!"


async def test_twenty_steps(client, unique):
    async with working(client, unique):
        assert await client.execute_workflow(programs.Steps.run, 20, id=unique, task_queue=unique) == 20


async def test_fifty_runs_side_by_side(client, unique):
    async with working(client, unique):
        runs = [
            client.execute_workflow(programs.Steps.run, 3, id=f"{unique}-{each}", task_queue=unique)
            for each in range(50)
        ]
        assert await asyncio.gather(*runs) == [3] * 50


async def test_messages_and_histories_of_megabytes(client, unique):
    """Completions of 3 MB each; the history is more than gRPC's usual message limit and is read whole."""
    async with working(client, unique):
        handle = await client.start_workflow(programs.BigInputs.run, args=[2, 1_500_000], id=unique, task_queue=unique)
        assert await handle.result() == 6_000_000
    history = await handle.fetch_history()
    assert sum(each.ByteSize() for each in history.events) > 6_000_000


async def test_activity_is_retried(client, unique):
    async with working(client, unique):
        assert await client.execute_workflow(programs.Retried.run, id=unique, task_queue=unique) == 3


async def test_heartbeat_details_reach_the_retry(client, unique):
    async with working(client, unique):
        assert await client.execute_workflow(programs.Beating.run, id=unique, task_queue=unique) == ["half way"]


async def test_timer(client, unique):
    async with working(client, unique):
        assert await client.execute_workflow(programs.Napping.run, 0.5, id=unique, task_queue=unique) == "awake"


async def test_signals_and_queries(client, unique):
    async with working(client, unique):
        handle = await client.start_workflow(programs.Mailbox.run, id=unique, task_queue=unique)
        for number in range(5):
            await handle.signal(programs.Mailbox.post, f"letter {number}")
            # Strongly consistent: a query sees every signal that was acknowledged before it.
            assert await handle.query(programs.Mailbox.count) == number + 1
        await handle.signal(programs.Mailbox.finish)
        assert await handle.result() == [f"letter {each}" for each in range(5)]
        assert await handle.query(programs.Mailbox.count) == 5


async def test_cancellation_reaches_a_running_activity(client, unique):
    async with working(client, unique):
        handle = await client.start_workflow(programs.Cancellable.run, id=unique, task_queue=unique)
        await _until_an_activity_is_started(handle)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()
    assert isinstance(caught.value.cause, CancelledError)


async def _until_an_activity_is_started(handle: WorkflowHandle) -> None:
    async with asyncio.timeout(30):
        while True:
            description = await handle.describe()
            if any(each.state == 2 for each in description.raw_description.pending_activities):
                return
            await asyncio.sleep(0.02)


async def test_termination(client, unique):
    handle = await client.start_workflow(programs.Napping.run, 1000, id=unique, task_queue=unique)
    await handle.terminate(reason="enough")
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, TerminatedError)
    assert str(caught.value.cause) == "enough"


async def test_continue_as_new(client, unique):
    async with working(client, unique):
        handle = await client.start_workflow(programs.Countdown.run, 2, id=unique, task_queue=unique)
        assert await handle.result() == "zero"
    assert (await handle.describe()).run_id != handle.first_execution_run_id


async def test_a_second_start_is_refused_while_the_first_is_open(client, unique):
    await client.start_workflow(programs.Napping.run, 1000, id=unique, task_queue=unique)
    with pytest.raises(WorkflowAlreadyStartedError):
        await client.start_workflow(programs.Napping.run, 1000, id=unique, task_queue=unique)
    again = await client.start_workflow(
        programs.Napping.run,
        1000,
        id=unique,
        task_queue=unique,
        id_conflict_policy=WorkflowIDConflictPolicy.TERMINATE_EXISTING,
    )
    await again.terminate()
    with pytest.raises(WorkflowAlreadyStartedError):
        await client.start_workflow(
            programs.Napping.run,
            1000,
            id=unique,
            task_queue=unique,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        )


async def test_a_worker_that_comes_late_finds_the_work(client, unique):
    handle = await client.start_workflow(programs.Greeting.run, "late", id=unique, task_queue=unique)
    async with working(client, unique):
        assert await handle.result() == "Hello, late!"


async def test_a_second_worker_takes_over_from_the_first(client, unique):
    handle = await client.start_workflow(programs.Mailbox.run, id=unique, task_queue=unique)
    async with working(client, unique):
        await handle.signal(programs.Mailbox.post, "first")
        assert await handle.query(programs.Mailbox.count) == 1
    async with working(client, unique):
        await handle.signal(programs.Mailbox.post, "second")
        assert await handle.query(programs.Mailbox.count) == 2
        await handle.signal(programs.Mailbox.finish)
        assert await handle.result() == ["first", "second"]


async def test_memo_and_summary_are_kept(client, unique):
    handle = await client.start_workflow(
        programs.Napping.run, 1000, id=unique, task_queue=unique, memo={"team": "blue"}, static_summary="nap"
    )
    description = await handle.describe()
    assert await description.memo() == {"team": "blue"}
    assert await description.static_summary() == "nap"
    await handle.terminate()


async def test_history_replays(client, unique):
    """What the server keeps is enough for the SDK's own replayer."""
    from temporalio.worker import Replayer

    async with working(client, unique):
        handle = await client.start_workflow(programs.Steps.run, 5, id=unique, task_queue=unique)
        await handle.result()
    history = await handle.fetch_history()
    await Replayer(workflows=[programs.Steps], workflow_runner=UnsandboxedWorkflowRunner()).replay_workflow(history)
