"""The published `temporal` CLI: start, signal, query, describe, show, cancel, terminate, with its defaults."""

import asyncio
import json

from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from e2e import programs
from harness import servers


class Cli:
    def __init__(self, address: str) -> None:
        self._address = address

    async def __call__(self, *argv: str) -> str:
        process = await asyncio.create_subprocess_exec(
            servers.temporal_bin(),
            *argv,
            "--address",
            self._address,
            "--color",
            "never",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, f"temporal {' '.join(argv)}: {err.decode()}"
        return out.decode()

    async def read(self, *argv: str) -> dict:
        return json.loads(await self(*argv, "-o", "json"))


def mailbox_worker(client, queue):
    return Worker(
        client,
        task_queue=queue,
        workflows=[programs.Mailbox],
        workflow_runner=UnsandboxedWorkflowRunner(),
        identity="the-worker",
    )


async def test_start_signal_query_describe_show(stanchion, client, unique):
    temporal = Cli(stanchion.grpc)
    async with mailbox_worker(client, unique):
        started = await temporal.read(
            "workflow", "start", "--type", "Mailbox", "--task-queue", unique, "--workflow-id", unique
        )
        assert started["workflowId"] == unique
        await temporal("workflow", "signal", "--workflow-id", unique, "--name", "post", "--input", '"a letter"')
        answer = await temporal.read("workflow", "query", "--workflow-id", unique, "--name", "count")
        assert answer["queryResult"] == [1]
        described = await temporal.read("workflow", "describe", "--workflow-id", unique)
        assert described["workflowExecutionInfo"]["status"] == "WORKFLOW_EXECUTION_STATUS_RUNNING"
        assert described["workflowExecutionInfo"]["execution"]["runId"] == started["runId"]
        assert "a letter" not in await temporal("workflow", "describe", "--workflow-id", unique)
        await temporal("workflow", "signal", "--workflow-id", unique, "--name", "finish")
        result = await temporal.read("workflow", "result", "--workflow-id", unique)
        assert result["result"] == ["a letter"]
    shown = await temporal.read("workflow", "show", "--workflow-id", unique)
    kinds = [each["eventType"] for each in shown["events"]]
    assert kinds[0] == "EVENT_TYPE_WORKFLOW_EXECUTION_STARTED"
    assert kinds.count("EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED") == 2
    assert kinds[-1] == "EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED"
    assert "WorkflowExecutionCompleted" in await temporal("workflow", "show", "--workflow-id", unique)


async def test_execute_waits_for_the_result(stanchion, client, unique):
    temporal = Cli(stanchion.grpc)
    async with Worker(
        client,
        task_queue=unique,
        workflows=[programs.Greeting],
        activities=[programs.greet],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        out = await temporal(
            "workflow", "execute", "--type", "Greeting", "--task-queue", unique, "--workflow-id", unique,
            "--input", '"CLI"',
        )
    assert "Hello, CLI!" in out


async def test_cancel(stanchion, client, unique):
    temporal = Cli(stanchion.grpc)
    async with mailbox_worker(client, unique):
        await temporal("workflow", "start", "--type", "Mailbox", "--task-queue", unique, "--workflow-id", unique)
        await temporal("workflow", "cancel", "--workflow-id", unique)
        async with asyncio.timeout(30):
            while True:
                described = await temporal.read("workflow", "describe", "--workflow-id", unique)
                if described["workflowExecutionInfo"]["status"] == "WORKFLOW_EXECUTION_STATUS_CANCELED":
                    break


async def test_terminate(stanchion, client, unique):
    temporal = Cli(stanchion.grpc)
    await temporal("workflow", "start", "--type", "Mailbox", "--task-queue", unique, "--workflow-id", unique)
    await temporal("workflow", "terminate", "--workflow-id", unique, "--reason", "because")
    described = await temporal.read("workflow", "describe", "--workflow-id", unique)
    assert described["workflowExecutionInfo"]["status"] == "WORKFLOW_EXECUTION_STATUS_TERMINATED"
    shown = await temporal.read("workflow", "show", "--workflow-id", unique)
    assert shown["events"][-1]["workflowExecutionTerminatedEventAttributes"]["reason"] == "because"


async def test_namespaces_and_task_queues(stanchion, client, unique):
    temporal = Cli(stanchion.grpc)
    name = unique.replace("_", "-").replace("[", "").replace("]", "")
    await temporal("operator", "namespace", "create", "--namespace", name)
    described = await temporal.read("operator", "namespace", "describe", "--namespace", name)
    assert described["namespaceInfo"]["name"] == name
    assert "SERVING" in await temporal("operator", "cluster", "health")
    async with mailbox_worker(client, unique):
        async with asyncio.timeout(30):
            while "the-worker" not in await temporal("task-queue", "describe", "--task-queue", unique, "--legacy-mode"):
                pass
