"""What a scenario gets to work with: a server, names of its own, and a list of records that is its whole result.

A scenario says what it looks at with `show` (a response or an error), `history` and `note`; nothing else is compared. Names
made by `name` carry the run's nonce, so scenarios run side by side on one server; the nonce disappears when normalised.
"""

from __future__ import annotations

import asyncio
import functools
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from google.protobuf.message import Message
from temporalio.client import Client
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig
from temporalio.worker import Worker

from harness.normal import Normaliser, event, to_dict
from harness.wire import IDENTITY, METHODS, Refusal, Wire, failure, payload, payloads

# The id of a run that is not there.
UNKNOWN_RUN = "11111111-1111-4111-8111-111111111111"
WORKER_BUG = "WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE"

# A call that is shown, of a scenario that makes it with one thing wrong at a time.
Case = Callable[..., Awaitable[None]]

# Long enough for a slow machine; each poll in a scenario is for a task that must come.
TASK_SECONDS_MAX = 40.0


class Env:
    def __init__(self, scenario: str, address: str) -> None:
        self.nonce = f"~{uuid.uuid4().hex[:8]}"
        self.address = address
        self.wire = Wire(address)
        self.wid = self.name("wf")
        self.tq = self.name("tq")
        self.records: list[dict[str, Any]] = []
        self._normal = Normaliser(self.nonce)
        self._client: Client | None = None

    def name(self, base: str) -> str:
        return base + self.nonce

    async def close(self) -> None:
        await self.wire.close()

    # --- looking ----------------------------------------------------------------------------------------------------

    async def rpc(self, method: str, **fields: Any) -> Any:
        """A call that is a means: its answer is not compared, an error ends the scenario."""
        return await self.wire.call(method, **fields)

    async def show(self, label: str, method: str, **fields: Any) -> Any:
        """A call whose answer or error is compared. Returns the response, or None when there was an error."""
        try:
            response = await self.wire.call(method, **fields)
        except Refusal as error:
            self.refused(label, error)
            return None
        self.response(label, method, response)
        return response

    def begin(self, method: str, **fields: Any) -> asyncio.Task[Any]:
        """A call that waits for something to happen; `ended` shows its answer."""
        return asyncio.ensure_future(self.wire.call(method, **{"timeout": TASK_SECONDS_MAX, **fields}))

    async def ended(self, label: str, method: str, waiting: asyncio.Task[Any]) -> Any:
        """Shows the answer or error of a call that was begun earlier. Returns the response, or None when there was an error."""
        try:
            response = await waiting
        except Refusal as error:
            self.refused(label, error)
            return None
        self.response(label, method, response)
        return response

    def response(self, label: str, method: str, response: Message) -> None:
        body = to_dict(response)
        body.pop("poller_scaling_decision", None)
        # An event list inside a response (a poll, a history page) reads like a history.
        if "history" in body and "events" in body["history"]:
            body["history"] = [event(each, self._normal) for each in response.history.events]  # type: ignore[attr-defined]
            history = body.pop("history")
            self.records.append({"response": label, "method": method, **self._normal.value(body), "history": history})
        else:
            self.records.append({"response": label, "method": method, **self._normal.value(body)})

    def refused(self, label: str, error: Refusal) -> None:
        record = {"error": label, "method": error.method, "code": error.code, "message": self._normal.text(error.message)}
        if error.details:
            record["details"] = self._normal.value(error.details)
        self.records.append(record)

    def text(self, text: str) -> str:
        """A text without this run's nonce and generated ids."""
        return self._normal.text(text)

    def note(self, label: str, value: Any) -> None:
        """A value that the scenario worked out: something an SDK returned, an order, a bound that held."""
        self.records.append({"note": label, "value": self._normal.value(json.loads(json.dumps(value)))})

    async def events(self, workflow_id: str | None = None, run_id: str | None = None) -> list[Any]:
        out: list[Any] = []
        token = b""
        while True:
            page = await self.rpc(
                "GetWorkflowExecutionHistory", execution=self.execution(workflow_id, run_id), next_page_token=token
            )
            out += page.history.events
            token = page.next_page_token
            if not token:
                return out

    async def history(
        self, label: str, workflow_id: str | None = None, run_id: str | None = None, without: tuple[str, ...] = ()
    ) -> None:
        """The history as it is now. `without`: attributes that depend on how fast this machine is just now."""
        events = [event(each, self._normal) for each in await self.events(workflow_id, run_id)]
        for each in events:
            for name in without:
                each["attributes"].pop(name, None)
        self.records.append({"history": label, "events": events})

    # --- doing ------------------------------------------------------------------------------------------------------

    def execution(self, workflow_id: str | None = None, run_id: str | None = None) -> dict[str, str]:
        out = {"workflow_id": workflow_id or self.wid}
        if run_id:
            out["run_id"] = run_id
        return out

    def start_fields(self, **fields: Any) -> dict[str, Any]:
        """A start request that is valid, with the given fields over it; None takes a field out."""
        base: dict[str, Any] = {
            "workflow_id": self.wid,
            "workflow_type": {"name": "Demo"},
            "task_queue": {"name": self.tq},
            "request_id": str(uuid.uuid4()),
        }
        return {key: value for key, value in {**base, **fields}.items() if value is not None}

    async def start(self, **fields: Any) -> str:
        """Starts a run and returns its run id."""
        return (await self.rpc("StartWorkflowExecution", **self.start_fields(**fields))).run_id

    async def poll(self, queue: str | dict[str, Any] | None = None) -> Any:
        """The next workflow task of a queue; polls until there is one."""
        queue = queue or self.tq
        fields = {"task_queue": {"name": queue} if isinstance(queue, str) else queue}
        return await self._await_task("PollWorkflowTaskQueue", fields)

    async def start_polling(self, queue: dict[str, Any]) -> asyncio.Task[Any]:
        """A poll that the server knows to be waiting when this returns; its task is awaited later."""
        waiting = asyncio.ensure_future(self.poll(queue))
        async with asyncio.timeout(TASK_SECONDS_MAX):
            while not (await self.rpc("DescribeTaskQueue", task_queue=queue)).pollers:
                await asyncio.sleep(0.02)
        return waiting

    async def poll_activities(self, count: int) -> list[Any]:
        """That many activity tasks, ordered by activity id: the order of handing out is nobody's promise."""
        tasks = [await self.poll_activity() for _ in range(count)]
        return sorted(tasks, key=lambda each: each.activity_id)

    async def poll_activity(self, queue: str | None = None) -> Any:
        """The next activity task of a queue; polls until there is one."""
        return await self._await_task("PollActivityTaskQueue", {"task_queue": {"name": queue or self.tq}})

    async def _await_task(self, method: str, fields: dict[str, Any]) -> Any:
        async with asyncio.timeout(TASK_SECONDS_MAX):
            while True:
                task = await self.rpc(method, timeout=TASK_SECONDS_MAX, **fields)
                if task.task_token:
                    return task

    async def no_task(
        self,
        label: str,
        seconds: float = 3.0,
        method: str = "PollWorkflowTaskQueue",
        queue: dict[str, Any] | None = None,
    ) -> None:
        """Notes whether a poll of that length ends empty. Polls of less than two seconds are refused."""
        try:
            task = await self.rpc(method, timeout=seconds, task_queue=queue or {"name": self.tq})
            self.note(label, "a task" if task.task_token else "empty")
        except Refusal as error:
            if error.code != "DEADLINE_EXCEEDED":
                raise
            self.note(label, "empty")

    async def complete(self, task: Any, *commands: dict[str, Any], **fields: Any) -> Any:
        """Completes a workflow task with these commands."""
        return await self.rpc("RespondWorkflowTaskCompleted", task_token=task.task_token, commands=list(commands), **fields)

    async def fail_task(self, task: Any) -> None:
        """Fails a workflow task by a bug of the worker's."""
        await self.rpc("RespondWorkflowTaskFailed", task_token=task.task_token, cause=WORKER_BUG, failure=failure("bug"))

    def sticky_queue(self) -> dict[str, str]:
        return {"name": self.name("sticky"), "kind": "TASK_QUEUE_KIND_STICKY", "normal_name": self.tq}

    def sticky(self, schedule_to_start_timeout: str) -> dict[str, Any]:
        """What a completion says to get the run's next tasks on the sticky queue."""
        times = {"schedule_to_start_timeout": schedule_to_start_timeout}
        return {"sticky_attributes": {"worker_task_queue": self.sticky_queue(), **times}}

    async def step(self, *commands: dict[str, Any], **fields: Any) -> Any:
        """Polls the next workflow task and completes it with these commands; returns the task."""
        task = await self.poll()
        await self.complete(task, *commands, **fields)
        return task

    async def signal(self, name: str, *args: Any, **fields: Any) -> Any:
        return await self.rpc(
            "SignalWorkflowExecution",
            **{"workflow_execution": self.execution(), "signal_name": name, "input": payloads(*args), **fields},
        )

    async def until_event(self, kind: str, count: int = 1, run_id: str | None = None, workflow_id: str | None = None) -> Any:
        """Waits until the history holds that many events of a type; returns the last of them."""
        from temporalio.api.enums.v1 import EventType

        wanted, seen = EventType.Value(f"EVENT_TYPE_{kind}"), []
        async with asyncio.timeout(TASK_SECONDS_MAX):
            async for page in self._pages_to_come(self.execution(workflow_id, run_id)):
                seen += [each for each in page.history.events if each.event_type == wanted]
                if len(seen) >= count:
                    return seen[count - 1]
        raise AssertionError(f"the run closed with {len(seen)} of {count} {kind}")

    async def until_closed(self, run_id: str | None = None, workflow_id: str | None = None) -> Any:
        """Waits for the run's closing event and returns it."""
        only = {"history_event_filter_type": "HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT"}
        async with asyncio.timeout(TASK_SECONDS_MAX):
            while True:
                async for page in self._pages_to_come(self.execution(workflow_id, run_id), **only):
                    if page.history.events:
                        return page.history.events[-1]

    async def _pages_to_come(self, execution: dict[str, str], **fields: Any) -> AsyncIterator[Any]:
        """Pages of a history as they come, until the run has closed and all are there."""
        token = b""
        while True:
            page = await self.rpc(
                "GetWorkflowExecutionHistory",
                timeout=TASK_SECONDS_MAX,
                execution=execution,
                wait_new_event=True,
                next_page_token=token,
                **fields,
            )
            yield page
            token = page.next_page_token
            if not token:
                return

    # --- the SDK ----------------------------------------------------------------------------------------------------

    async def client(self) -> Client:
        self._normal.by_sdk = True
        if self._client is None:
            self._client = await Client.connect(self.address, identity=IDENTITY, runtime=_runtime())
        return self._client

    async def worker(self, workflows: list[type], activities: list[Any] | None = None, **options: Any) -> Worker:
        """A worker of the SDK on this scenario's queue, to be used with `async with`."""
        return Worker(
            await self.client(),
            task_queue=self.tq,
            workflows=workflows,
            activities=activities or [],
            **{"build_id": "build", "identity": "worker", **options},
        )


@functools.cache
def _runtime() -> Runtime:
    """The SDK's runtime with its own log kept to errors: tasks fail on purpose here."""
    return Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter="error")))


# --- commands, in the protocol's JSON form ---------------------------------------------------------------------------


def command(kind: str, **attributes: Any) -> dict[str, Any]:
    """A command of that type with its attributes in the field that belongs to it."""
    return {"command_type": f"COMMAND_TYPE_{kind}", f"{kind.lower()}_command_attributes": attributes}


def complete_run(*result: Any) -> dict[str, Any]:
    return command("COMPLETE_WORKFLOW_EXECUTION", **({"result": payloads(*result)} if result else {}))


def schedule(env: Env, activity_id: str = "a1", **attributes: Any) -> dict[str, Any]:
    base = {
        "activity_id": activity_id,
        "activity_type": {"name": "act"},
        "task_queue": {"name": env.tq},
        "input": payloads("in"),
        "start_to_close_timeout": "30s",
    }
    merged = {key: value for key, value in {**base, **attributes}.items() if value is not None}
    return command("SCHEDULE_ACTIVITY_TASK", **merged)


def link_to_another_run(event_id: int = 3, kind: str = "WORKFLOW_TASK_SCHEDULED", workflow_id: str = "other") -> dict[str, Any]:
    event = {"event_id": event_id, "event_type": f"EVENT_TYPE_{kind}"}
    return {"workflow_event": {"namespace": "default", "workflow_id": workflow_id, "run_id": UNKNOWN_RUN, "event_ref": event}}


def timer(timer_id: str = "t1", seconds: str = "1s") -> dict[str, Any]:
    return command("START_TIMER", timer_id=timer_id, start_to_fire_timeout=seconds)


__all__ = ["METHODS", "Env", "Refusal", "command", "complete_run", "payload", "payloads", "schedule", "timer"]
