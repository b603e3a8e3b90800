"""Resets: an SDK's program goes on from where it is set back to, and a history of nearly 50 MiB is reset whole."""

import asyncio
import contextlib
from datetime import timedelta

import pytest
from temporalio import workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from harness import servers
from harness.wire import Refusal, Wire, payload

RUN = {"workflow_id": "w"}
MEBIBYTE = 1 << 20


@workflow.defn
class Echo:
    def __init__(self) -> None:
        self.said = ""

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: bool(self.said))
        return f"child heard {self.said}"

    @workflow.signal
    def say(self, word: str) -> None:
        self.said = word


@workflow.defn
class Ledger:
    """Books what it is told by updates and signals, and waits for a child."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.closed = False

    @workflow.run
    async def run(self, child_id: str) -> list[str]:
        child = await workflow.start_child_workflow(Echo.run, id=child_id)
        await workflow.wait_condition(lambda: self.closed)
        return [*self.entries, await child]

    @workflow.update
    async def book(self, entry: str) -> int:
        self.entries.append(entry)
        return len(self.entries)

    @workflow.signal
    def note(self, entry: str) -> None:
        self.entries.append(entry)

    @workflow.signal
    def close(self) -> None:
        self.closed = True


async def reset(client: Client, handle: WorkflowHandle, event_id: int) -> str:
    response = await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id),
            reason="test",
            workflow_task_finish_event_id=event_id,
            request_id=f"{handle.id}-{event_id}",
        )
    )
    return response.run_id


async def completed_tasks(handle: WorkflowHandle) -> list[int]:
    wanted = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    return [event.event_id async for event in handle.fetch_history_events() if event.event_type == wanted]


@contextlib.asynccontextmanager
async def working(client: Client, queue: str):
    async with Worker(
        client,
        task_queue=queue,
        workflows=[Ledger, Echo],
        workflow_runner=UnsandboxedWorkflowRunner(),
        graceful_shutdown_timeout=timedelta(seconds=1),
    ):
        yield


async def test_updates_signals_and_a_child_reach_the_new_run(client, unique):
    child_id = f"{unique}-child"
    async with working(client, unique):
        handle = await client.start_workflow(Ledger.run, child_id, id=unique, task_queue=unique)
        assert await handle.execute_update(Ledger.book, "one") == 1
        await handle.signal(Ledger.note, "two")
        assert await handle.execute_update(Ledger.book, "three") == 3
        # To where the child runs and nothing is booked yet.
        tasks = await completed_tasks(handle)
        run_id = await reset(client, handle, tasks[1])
        again = client.get_workflow_handle(unique, run_id=run_id)
        assert await again.execute_update(Ledger.book, "four") == 4
        # A child keeps running over its parent's reset, and its result comes to the new run.
        await client.get_workflow_handle(child_id).signal(Echo.say, "hello")
        await again.signal(Ledger.close)
        assert await again.result() == ["one", "two", "three", "four", "child heard hello"]


async def poll_and_complete(wire: Wire) -> int:
    """The next task is completed without commands; the id of its completed event."""
    async with asyncio.timeout(60):
        while True:
            task = await wire.call("PollWorkflowTaskQueue", timeout=60, task_queue={"name": "q"})
            if task.task_token:
                await wire.call("RespondWorkflowTaskCompleted", task_token=task.task_token)
                return task.started_event_id + 1


async def told(wire: Wire, run_id: str) -> tuple[int, int, list[str]]:
    """How many events a run has, their bytes, and the names of its signals in their order."""
    events, bytes_, signals, token = 0, 0, [], b""
    while True:
        page = await wire.call(
            "GetWorkflowExecutionHistory", timeout=60, execution={**RUN, "run_id": run_id}, next_page_token=token
        )
        for event in page.history.events:
            events += 1
            assert event.event_id == events
            bytes_ += event.ByteSize()
            if event.HasField("workflow_execution_signaled_event_attributes"):
                signals.append(event.workflow_execution_signaled_event_attributes.signal_name)
        token = page.next_page_token
        if not token:
            return events, bytes_, signals


async def test_a_history_of_nearly_50_mebibytes(start_server, tmp_path):
    """Reset to its last task (all is copied) and to its first (all is told again), and read again after a kill -9."""
    data, ports = tmp_path / "data", tuple(servers.free_ports(2))
    server = start_server(data, ports=ports)
    wire = Wire(server.grpc)
    start = await wire.call(
        "StartWorkflowExecution", workflow_type={"name": "W"}, task_queue={"name": "q"}, request_id="r", **RUN
    )
    first_task = await poll_and_complete(wire)
    large = payload("x" * (MEBIBYTE * 19 // 10))
    names = [f"signal {number}" for number in range(25)]
    for name in names:
        await wire.call(
            "SignalWorkflowExecution", timeout=60, workflow_execution=RUN, signal_name=name, input={"payloads": [large]}
        )
    last_task = await poll_and_complete(wire)

    async def reset_to(event_id: int) -> str:
        response = await wire.call(
            "ResetWorkflowExecution",
            timeout=60,
            workflow_execution={**RUN, "run_id": start.run_id},
            reason="test",
            workflow_task_finish_event_id=event_id,
            request_id=str(event_id),
        )
        return response.run_id

    runs = [await reset_to(last_task), await reset_to(first_task)]
    before = [await told(wire, run) for run in runs]
    for _, bytes_, signals in before:
        assert signals == names
        assert bytes_ > 45 * MEBIBYTE
    # The copy is the base's history up to the point, the reset's failure, and the end by the second reset.
    assert [events for events, _, _ in before] == [last_task + 2, first_task + len(names) + 1]
    # A caller that repeats a reset gets the run that it made, whatever was made since.
    assert await reset_to(first_task) == runs[1]
    server.kill()
    await wire.close()

    server = start_server(data, ports=ports)
    wire = Wire(server.grpc)
    assert [await told(wire, run) for run in runs] == before
    await poll_and_complete(wire)
    # Two more of that size are more than a history may have: the run is ended. A run that would begin so is not made.
    for name in ("one more", "too much"):
        await wire.call(
            "SignalWorkflowExecution", timeout=60, workflow_execution=RUN, signal_name=name, input={"payloads": [large]}
        )
    fields = {"workflow_execution": RUN, "reason": "test", "workflow_task_finish_event_id": first_task, "timeout": 60}
    with pytest.raises(Refusal, match="the limit is 52428800") as refused:
        await wire.call("ResetWorkflowExecution", request_id="all", **fields)
    assert refused.value.code == "INVALID_ARGUMENT"
    left_out = {"reset_reapply_exclude_types": ["RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL"]}
    small = await wire.call("ResetWorkflowExecution", request_id="none", **fields, **left_out)
    assert (await told(wire, small.run_id))[0] == first_task + 1
    await wire.close()
