"""Workflow updates on the wire: asking for one, and the protocol messages with which a worker answers.

Never decides what an answer should be. Used by the scenarios about updates, update-with-start and reset.
"""

from __future__ import annotations

import asyncio
from typing import Any

from differential.env import TASK_SECONDS_MAX, Env, command
from harness.wire import Refusal, failure, payloads

_TYPE = "type.googleapis.com/temporal.api.update.v1."


def wait_for(stage: str | None) -> dict[str, str] | None:
    return {"lifecycle_stage": f"UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_{stage}"} if stage else None


def request_fields(env: Env, update_id: str, *args: Any, name: str = "up", wait: str | None = "COMPLETED", **fields: Any) -> dict[str, Any]:
    """An UpdateWorkflowExecution request that is valid, with the given fields over it."""
    base = {
        "workflow_execution": env.execution(),
        "wait_policy": wait_for(wait),
        "request": {"meta": {"update_id": update_id, "identity": "asker"}, "input": {"name": name, "args": payloads(*args)}},
    }
    return {key: value for key, value in {**base, **fields}.items() if value is not None}


def begin_update(env: Env, update_id: str, *args: Any, **fields: Any) -> asyncio.Task[Any]:
    return env.begin("UpdateWorkflowExecution", **request_fields(env, update_id, *args, **fields))


async def ended(env: Env, label: str, waiting: asyncio.Task[Any]) -> Any:
    return await env.ended(label, "UpdateWorkflowExecution", waiting)


def ref(env: Env, update_id: str, workflow_id: str | None = None, run_id: str | None = None) -> dict[str, Any]:
    return {"workflow_execution": env.execution(workflow_id, run_id), "update_id": update_id}


async def show_poll(env: Env, label: str, update_id: str, wait: str | None = None, **fields: Any) -> Any:
    """PollWorkflowExecutionUpdate; without a stage it answers at once."""
    run_id = fields.pop("run_id", None)
    fields = {"update_ref": ref(env, update_id, run_id=run_id), "wait_policy": wait_for(wait), **fields}
    return await env.show(label, "PollWorkflowExecutionUpdate", **fields)


def begin_poll(env: Env, update_id: str, wait: str, **fields: Any) -> asyncio.Task[Any]:
    return env.begin("PollWorkflowExecutionUpdate", update_ref=ref(env, update_id), wait_policy=wait_for(wait), **fields)


async def until_admitted(env: Env, update_id: str, workflow_id: str | None = None) -> None:
    """Returns once the server knows the update."""
    async with asyncio.timeout(TASK_SECONDS_MAX):
        while True:
            try:
                await env.rpc("PollWorkflowExecutionUpdate", update_ref=ref(env, update_id, workflow_id))
                return
            except Refusal as error:
                if error.code != "NOT_FOUND":
                    raise
            await asyncio.sleep(0.02)


async def admitted(env: Env, update_id: str, *args: Any, **fields: Any) -> asyncio.Task[Any]:
    """Asks for an update and returns once the server knows it."""
    waiting = begin_update(env, update_id, *args, **fields)
    await until_admitted(env, update_id)
    return waiting


async def asked_when_idle(env: Env, update_id: str, *args: Any, **fields: Any) -> tuple[Any, asyncio.Task[Any]]:
    """Starts a run, lets its first task do nothing, asks for an update: the worker's task with it, and the call that waits."""
    await env.start()
    await env.step()
    waiting = begin_update(env, update_id, *args, **fields)
    return await env.poll(), waiting


# --- a worker's answers ----------------------------------------------------------------------------------------------


def body(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": _TYPE + kind, **fields}


def message(update_id: str, suffix: str, content: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": f"{update_id}/{suffix}", "protocol_instance_id": update_id, "body": content, **fields}


def incoming(task: Any, update_id: str) -> Any:
    """The message of a workflow task that asks for this update."""
    found = [each for each in task.messages if each.protocol_instance_id == update_id]
    if not found:
        raise AssertionError(f"the task has no message for update {update_id!r}")
    return found[0]


def _request(task: Any, update_id: str) -> dict[str, Any]:
    from google.protobuf import json_format

    asked = incoming(task, update_id)
    content = json_format.MessageToDict(asked.body, preserving_proto_field_name=True)
    content.pop("@type")
    return {"id": asked.id, "event_id": str(asked.event_id), "request": content}


def _verdict(update_id: str, what: str, asked: dict[str, Any], **fields: Any) -> dict[str, Any]:
    word, kind = {"accepted": ("accept", "Acceptance"), "rejected": ("reject", "Rejection")}[what]
    named = {
        f"{what}_request_message_id": asked["id"],
        f"{what}_request_sequencing_event_id": asked["event_id"],
        f"{what}_request": asked["request"],
    }
    return message(update_id, word, body(kind, **named, **fields))


def accept(task: Any, update_id: str) -> dict[str, Any]:
    return _verdict(update_id, "accepted", _request(task, update_id))


def accept_readmitted(update_id: str, event_id: int, name: str = "up", *args: Any) -> dict[str, Any]:
    """Accepts an update that a reset brought into the history as an admitted event, for which no message is sent."""
    request = {"meta": {"update_id": update_id, "identity": "asker"}, "input": {"name": name, "args": payloads(*args)}}
    return _verdict(update_id, "accepted", {"id": f"{update_id}/request", "event_id": str(event_id), "request": request})


def reject(task: Any, update_id: str, why: str = "not valid") -> dict[str, Any]:
    return _verdict(update_id, "rejected", _request(task, update_id), failure=failure(why, "Rejected"))


def succeed(update_id: str, *result: Any) -> dict[str, Any]:
    return message(
        update_id,
        "complete",
        body("Response", meta={"update_id": update_id, "identity": "asker"}, outcome={"success": payloads(*result)}),
    )


def fail(update_id: str, why: str = "boom") -> dict[str, Any]:
    return message(
        update_id,
        "complete",
        body("Response", meta={"update_id": update_id, "identity": "asker"}, outcome={"failure": failure(why, "UpdateFailed")}),
    )


def carry(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    """The commands that put messages into their place among a completion's other commands."""
    return [command("PROTOCOL_MESSAGE", message_id=each["id"]) for each in messages]


async def answer(env: Env, task: Any, *messages: dict[str, Any], then: list[dict[str, Any]] | None = None, **fields: Any) -> Any:
    """Completes a task with these messages, each carried by a command unless it is a rejection, then other commands."""
    carried = carry(*(each for each in messages if not each["body"]["@type"].endswith("Rejection")))
    return await env.complete(task, *carried, *(then or []), messages=list(messages), **fields)
