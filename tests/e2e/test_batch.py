"""Batch operations over kill -9 of the server, and through the `temporal` CLI."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from e2e.test_temporal_cli import Cli
from harness import servers
from harness.wire import Refusal, Wire, payloads

RUNS = 300
SIGNALED = 26
RUNNING, COMPLETED, FAILED = 1, 2, 3


async def start_runs(wire: Wire, count: int, queue: str, kind: str = "Idle") -> None:
    """Runs that nobody works on."""
    room = asyncio.Semaphore(32)

    async def start(number: int) -> None:
        async with room:
            await wire.call(
                "StartWorkflowExecution",
                workflow_id=f"{queue}-{number}",
                workflow_type={"name": kind},
                task_queue={"name": queue},
                request_id=f"{queue}-{number}",
            )

    await asyncio.gather(*(start(number) for number in range(count)))


async def until(what: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool], seconds: float = 60.0) -> Any:
    """What `what` returns once it is as wanted; a server that is down is asked again."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                if wanted(found := await what()):
                    return found
            except Refusal as error:
                if error.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                    raise
            await asyncio.sleep(0.05)


async def signals(wire: Wire, queue: str, count: int) -> AsyncIterator[list[tuple[str, str]]]:
    """Of each run, the names and request ids of the signals in its history."""
    for number in range(count):
        page = await wire.call("GetWorkflowExecutionHistory", execution={"workflow_id": f"{queue}-{number}"})
        found = [event for event in page.history.events if event.event_type == SIGNALED]
        attributes = [event.workflow_execution_signaled_event_attributes for event in found]
        yield [(each.signal_name, each.request_id) for each in attributes]


async def test_a_batch_goes_on_to_its_exact_end_over_kill_9(start_server, tmp_path, unique):
    """The server is killed twice in the middle of a batch of signals: each run gets one, the other runs none, and the counts are exact."""
    data, ports = tmp_path / "data", tuple(servers.free_ports(2))
    server = start_server(data, ports=ports)
    wire = Wire(server.grpc)
    await start_runs(wire, RUNS, unique)
    await start_runs(wire, 5, f"{unique}-other", kind="Other")
    job = f"{unique}-job"
    await wire.call(
        "StartBatchOperation",
        job_id=job,
        reason="over kill -9",
        visibility_query="WorkflowType = 'Idle'",
        signal_operation={"signal": "once", "input": payloads("in"), "identity": "operator"},
    )

    async def described() -> Any:
        return await wire.call("DescribeBatchOperation", job_id=job)

    for part in (1, 2):
        before = await until(described, lambda it, part=part: it.complete_operation_count >= part * RUNS // 4)
        assert before.state == RUNNING, before
        # In the middle of a page: some of it is done, and nobody has recorded which.
        await asyncio.sleep(0.3)
        server.kill()
        server = start_server(data, ports=ports)

    done = await until(described, lambda it: it.state != RUNNING)
    counts = (done.total_operation_count, done.complete_operation_count, done.failure_operation_count)
    assert (done.state, counts) == (COMPLETED, (RUNS, RUNS, 0)), done
    found = [each async for each in signals(wire, unique, RUNS)]
    assert Counter(len(each) for each in found) == {1: RUNS}
    assert len({request_id for [(_, request_id)] in found}) == RUNS
    assert [each async for each in signals(wire, f"{unique}-other", 5)] == [[]] * 5
    listed = await wire.call("ListBatchOperations")
    assert [(each.job_id, each.state) for each in listed.operation_info] == [(job, COMPLETED)]
    await wire.close()


async def test_a_stopped_batch_leaves_the_rest_alone(wire, unique):
    await start_runs(wire, 30, unique, kind=unique)
    job = f"{unique}-job"
    await wire.call(
        "StartBatchOperation",
        job_id=job,
        reason="slow",
        visibility_query=f"WorkflowType = '{unique}'",
        max_operations_per_second=2,
        signal_operation={"signal": "once"},
    )

    async def described() -> Any:
        return await wire.call("DescribeBatchOperation", job_id=job)

    running = await until(described, lambda it: it.complete_operation_count >= 2)
    assert (running.state, running.total_operation_count) == (RUNNING, 30)
    await wire.call("StopBatchOperation", job_id=job, reason="enough")
    stopped = await described()
    assert (stopped.state, stopped.total_operation_count) == (FAILED, 30)
    found = [len(each) async for each in signals(wire, unique, 30)]
    assert stopped.complete_operation_count <= sum(found) < 30
    assert max(found) == 1


async def test_a_batch_through_the_cli(stanchion, wire, unique):
    await start_runs(wire, 3, unique, kind=unique)
    temporal = Cli(stanchion.grpc)
    await temporal("workflow", "terminate", "--query", f"WorkflowType = '{unique}'", "--reason", "enough", "--yes")

    async def open_runs() -> int:
        query = f"WorkflowType = '{unique}' AND ExecutionStatus = 'Running'"
        return int((await wire.call("CountWorkflowExecutions", query=query)).count)

    await until(open_runs, lambda count: count == 0)
    jobs = [each.job_id for each in (await wire.call("ListBatchOperations")).operation_info]
    described = await temporal.read("batch", "describe", "--job-id", jobs[0])
    assert described["state"] in ("Completed", "BATCH_OPERATION_STATE_COMPLETED", "Running")
    assert jobs[0] in await temporal("batch", "list")
