"""`stanchion dev` as an operator meets it: ready line, HTTP endpoints, health, reflection, shutdown, restart, kill -9."""

import asyncio
import json
import re
import urllib.error
import urllib.request

import grpc
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from e2e import programs
from harness import servers
from harness.wire import Wire, payloads


def get(server: servers.Server, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{server.http}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_it_says_where_it_listens(stanchion):
    pattern = rf"^stanchion dev ready: gRPC {stanchion.grpc}, HTTP http://{stanchion.http}, data "
    assert re.search(pattern, stanchion.words(), re.M), stanchion.words()


def test_http_endpoints(stanchion):
    assert get(stanchion, "/health")[0] == 200
    assert get(stanchion, "/ready")[0] == 200
    assert get(stanchion, "/nonsense")[0] == 404
    status, metrics = get(stanchion, "/metrics")
    assert status == 200
    assert "# TYPE" in metrics


async def test_metrics_count_calls_and_errors(stanchion, wire, unique):
    await wire.call("StartWorkflowExecution", **start(unique))
    _, metrics = get(stanchion, "/metrics")
    assert re.search(r"StartWorkflowExecution", metrics), "per-RPC figures"
    for word in ("fsync", "propos", "apply", "queue", "workflow_failure_recovery_rate"):
        assert word in metrics, f"no metric about {word}"


def start(workflow_id: str, queue: str = "nobody", **fields: object) -> dict[str, object]:
    return {
        "workflow_id": workflow_id,
        "workflow_type": {"name": "Demo"},
        "task_queue": {"name": queue},
        "request_id": f"request of {workflow_id}",
        **fields,
    }


async def test_grpc_health_and_reflection(stanchion):
    async with grpc.aio.insecure_channel(stanchion.grpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
        name = b"temporal.api.workflowservice.v1.WorkflowService"
        assert await check(b"\x0a" + bytes([len(name)]) + name, timeout=5) == b"\x08\x01"
        try:
            await check(b"\x0a\x04nope", timeout=5)
            raise AssertionError("an unknown service is not healthy")
        except grpc.aio.AioRpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND
            assert error.details() == "unknown service"
        reflect = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", None, None)
        call = reflect(iter([b"\x3a\x00"]), timeout=5)
        async for answer in call:
            assert name in answer
            break


async def test_sigterm_answers_open_polls_and_exits_zero(start_server):
    server = start_server()
    wire = Wire(server.grpc)
    poll = asyncio.ensure_future(
        wire.call("PollWorkflowTaskQueue", timeout=60, task_queue={"name": "empty"})
    )
    # The poll has arrived when the queue knows its poller.
    async with asyncio.timeout(20):
        while not (await wire.call("DescribeTaskQueue", task_queue={"name": "empty"})).pollers:
            await asyncio.sleep(0.05)
    code = await asyncio.to_thread(server.stop)
    assert code == 0, server.words()
    assert not (await poll).task_token
    await wire.close()


async def test_everything_acknowledged_survives_kill_9(start_server, tmp_path):
    data = tmp_path / "data"
    server = start_server(data)
    wire = Wire(server.grpc)
    started = [f"run-{each}" for each in range(20)]
    for each in started:
        await wire.call("StartWorkflowExecution", **start(each, queue="q"))
        await wire.call(
            "SignalWorkflowExecution",
            workflow_execution={"workflow_id": each},
            signal_name="post",
            input=payloads("kept"),
        )
    await wire.call("RegisterNamespace", namespace="mine", workflow_execution_retention_period="86400s")
    await wire.close()
    server.kill()

    server = start_server(data)
    wire = Wire(server.grpc)
    for each in started:
        page = await wire.call("GetWorkflowExecutionHistory", execution={"workflow_id": each})
        kinds = [event.WhichOneof("attributes") for event in page.history.events]
        assert kinds[0] == "workflow_execution_started_event_attributes"
        assert "workflow_execution_signaled_event_attributes" in kinds
    assert (await wire.call("DescribeNamespace", namespace="mine")).namespace_info.name == "mine"
    # A start that was acknowledged before is the same start afterwards.
    again = await wire.call("StartWorkflowExecution", **start("run-0", queue="q"))
    first = await wire.call("DescribeWorkflowExecution", execution={"workflow_id": "run-0"})
    assert again.run_id == first.workflow_execution_info.execution.run_id
    await wire.close()


async def test_runs_go_on_after_kill_9(start_server, tmp_path):
    """The server is killed in mid-run and started again; the worker, never restarted, brings every run to its end."""
    data = tmp_path / "data"
    ports = tuple(servers.free_ports(2))
    server = start_server(data, ports=ports)
    client = await Client.connect(server.grpc)
    async with Worker(
        client,
        task_queue="q",
        workflows=programs.WORKFLOWS,
        activities=programs.ACTIVITIES,
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        steps = await client.start_workflow(programs.Steps.run, 30, id="steps", task_queue="q")
        nap = await client.start_workflow(programs.Napping.run, 2, id="nap", task_queue="q")
        async with asyncio.timeout(30):
            while (await steps.describe()).history_length < 40:
                await asyncio.sleep(0.01)
        server.kill()
        start_server(data, ports=ports)
        assert await steps.result() == 30
        assert await nap.result() == "awake"
    history = await steps.fetch_history()
    assert [each.event_id for each in history.events] == list(range(1, len(history.events) + 1))
    completed = [each for each in history.events if each.HasField("activity_task_completed_event_attributes")]
    assert len(completed) == 30


async def test_namespaces_given_on_the_command_line(start_server):
    server = start_server(None, ["--namespace", "first", "--namespace", "second"])
    wire = Wire(server.grpc)
    for each in ("default", "first", "second"):
        assert (await wire.call("DescribeNamespace", namespace=each)).namespace_info.name == each
    await wire.close()


async def test_a_limit_given_on_the_command_line(start_server):
    server = start_server(None, ["--limit", "suggest_continue_as_new_events=5"])
    wire = Wire(server.grpc)
    await wire.call("StartWorkflowExecution", **start("w", queue="q"))
    for _ in range(3):
        task = await wire.call("PollWorkflowTaskQueue", timeout=30, task_queue={"name": "q"})
        await wire.call("RespondWorkflowTaskCompleted", task_token=task.task_token, force_create_new_workflow_task=True)
    page = await wire.call("GetWorkflowExecutionHistory", execution={"workflow_id": "w"})
    suggested = [
        each.workflow_task_started_event_attributes.suggest_continue_as_new
        for each in page.history.events
        if each.HasField("workflow_task_started_event_attributes")
    ]
    assert suggested[0] is False
    assert suggested[-1] is True
    await wire.close()


async def test_json_logs(start_server):
    server = start_server(None, ["--log-format", "json"])
    lines = [each for each in server.words().splitlines() if not each.startswith("stanchion dev ready")]
    assert lines, "it logs something while starting"
    for each in lines:
        json.loads(each)
