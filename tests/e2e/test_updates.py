"""Updates on a node that is killed: admitted, with a worker, or accepted, they are there again and are answered once."""

import asyncio
import contextlib
import json

import pytest
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from temporalio.api.enums.v1 import EventType
from temporalio.api.update.v1 import Acceptance, Outcome, Response

from harness import servers
from harness.wire import Refusal, Wire, payloads

RUN = {"workflow_id": "w"}


def update(wait: str) -> dict:
    return {
        "workflow_execution": RUN,
        "wait_policy": {"lifecycle_stage": f"UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_{wait}"},
        "request": {"meta": {"update_id": "u"}, "input": {"name": "set", "args": payloads(7)}},
    }


def message(what: str, body) -> dict:
    packed = AnyMessage()
    packed.Pack(body)
    return {"id": f"u/{what}", "protocol_instance_id": "u", "body": json.loads(json_format.MessageToJson(packed))}


def accepts(task) -> dict:
    request = task.messages[0]
    return message(
        "accept",
        Acceptance(accepted_request_message_id=request.id, accepted_request_sequencing_event_id=request.event_id),
    )


def completes() -> dict:
    outcome = Outcome()
    outcome.success.payloads.add(data=b"8")
    body = Response(outcome=outcome)
    body.meta.update_id = "u"
    return message("complete", body)


async def poll(wire: Wire):
    async with asyncio.timeout(40):
        while True:
            task = await wire.call("PollWorkflowTaskQueue", timeout=40, task_queue={"name": "q"})
            if task.task_token:
                return task


async def complete(wire: Wire, task, *messages: dict) -> None:
    commands = [{"command_type": "COMMAND_TYPE_PROTOCOL_MESSAGE", "protocol_message_command_attributes": {"message_id": each["id"]}} for each in messages]
    await wire.call("RespondWorkflowTaskCompleted", task_token=task.task_token, commands=commands, messages=list(messages))


async def stage(wire: Wire) -> int:
    """How far the update is; 0 while the run does not know it."""
    try:
        reference = {"workflow_execution": RUN, "update_id": "u"}
        return (await wire.call("PollWorkflowExecutionUpdate", update_ref=reference)).stage
    except Refusal as refusal:
        assert refusal.code == "NOT_FOUND", refusal
        return 0


@pytest.mark.parametrize("reached", ["admitted", "with a worker", "accepted"])
async def test_an_update_survives_kill_9(start_server, tmp_path, reached):
    data = tmp_path / "data"
    ports = tuple(servers.free_ports(2))
    server = start_server(data, ports=ports)
    wire = Wire(server.grpc)
    await wire.call("StartWorkflowExecution", workflow_type={"name": "W"}, task_queue={"name": "q"}, request_id="r", **RUN)
    await complete(wire, await poll(wire))
    caller = asyncio.ensure_future(wire.call("UpdateWorkflowExecution", timeout=30, **update("COMPLETED")))
    async with asyncio.timeout(20):
        while await stage(wire) == 0:
            await asyncio.sleep(0.02)
    task = None
    if reached != "admitted":
        task = await poll(wire)
    if reached == "accepted":
        await complete(wire, task, accepts(task))
    server.kill()
    with contextlib.suppress(Refusal):
        await caller
    await wire.close()

    server = start_server(data, ports=ports)
    wire = Wire(server.grpc)
    # The caller asks again by the same id, and the worker, never restarted, answers what it was asked before.
    caller = asyncio.ensure_future(wire.call("UpdateWorkflowExecution", timeout=30, **update("COMPLETED")))
    if reached == "accepted":
        assert await stage(wire) == 2
        await wire.call("SignalWorkflowExecution", workflow_execution=RUN, signal_name="go on")
        task = await poll(wire)
        assert not task.messages
        await complete(wire, task, completes())
    else:
        task = task or await poll(wire)
        assert [each.id for each in task.messages] == ["u/request"]
        await complete(wire, task, accepts(task), completes())
    assert (await caller).outcome.success.payloads[0].data == b"8"
    page = await wire.call("GetWorkflowExecutionHistory", execution=RUN)
    kinds = [EventType.Name(each.event_type).removeprefix("EVENT_TYPE_") for each in page.history.events]
    assert kinds.count("WORKFLOW_EXECUTION_UPDATE_ACCEPTED") == 1
    assert kinds.count("WORKFLOW_EXECUTION_UPDATE_COMPLETED") == 1
    assert [each.event_id for each in page.history.events] == list(range(1, len(kinds) + 1))
    await wire.close()
