"""A small set of runs in a namespace of its own, with search attributes of every type, for scenarios that list and count.

The real server lists a run some time after it wrote it: `settle` waits until the whole set is listed. Never compares anything.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from differential.env import TASK_SECONDS_MAX, Env, command
from harness.wire import Refusal, failure, payload, payloads

TYPES = {
    "K": "KEYWORD",
    "T": "TEXT",
    "I": "INT",
    "D": "DOUBLE",
    "B": "BOOL",
    "W": "DATETIME",
    "L": "KEYWORD_LIST",
}


FILTERS = Path(__file__).parent / "filters.txt"


def filters(section: str) -> list[str]:
    """The filters of a section of filters.txt."""
    _, begun, rest = FILTERS.read_text().partition(f"\n[{section}]\n")
    if not begun:
        raise KeyError(f"{FILTERS.name} has no section {section}")
    lines = [line for line in rest.partition("\n[")[0].split("\n") if line]
    return [line[1:-1] if line.startswith("|") else line for line in lines]


def attributes(**values: Any) -> dict[str, Any]:
    return {"indexed_fields": {key: payload(value) for key, value in values.items()}}


def refused(error: Refusal) -> str:
    """A refused filter: its code, and what it says of an unknown attribute. All else names positions and types of the real server's SQL parser."""
    kinds = ("malformed SQL query", "operation is not supported", "invalid expression")
    if any(error.message.startswith(f"invalid query: {each}") for each in kinds):
        return f"{error.code}: invalid query"
    return f"{error.code}: {error.message}"


class Shelf:
    """Runs in a namespace of their own. Workflow ids are the names that a scenario gives, without a nonce."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.namespace = env.name("ns")
        self.runs: dict[str, str] = {}
        # Points in time between which runs were started, for filters: {now 1}, {now 2} … in queries.
        self.times: dict[str, str] = {}

    @classmethod
    async def made(cls, env: Env, custom: bool = True) -> Shelf:
        shelf = cls(env)
        await env.rpc("RegisterNamespace", namespace=shelf.namespace, workflow_execution_retention_period="86400s")
        if custom:
            types = {key: f"INDEXED_VALUE_TYPE_{kind}" for key, kind in TYPES.items()}
            await env.rpc("AddSearchAttributes", namespace=shelf.namespace, search_attributes=types)
        return shelf

    @classmethod
    async def asked_by_status(cls, env: Env, section: str) -> None:
        """A shelf with a run in each state, asked by the filters of that section."""
        shelf = await cls.made(env, custom=False)
        await shelf.statuses()
        await shelf.ask(*filters(section))

    @classmethod
    async def asked_by_value(cls, env: Env, section: str) -> None:
        """A shelf with search attributes of every type, asked by the filters of that section."""
        shelf = await cls.made(env)
        await shelf.values()
        await shelf.ask(*filters(section))

    async def start(self, name: str, kind: str = "Alpha", queue: str | None = None, **fields: Any) -> str:
        request = {
            "namespace": self.namespace,
            "workflow_id": name,
            "workflow_type": {"name": kind},
            "task_queue": {"name": queue or self.env.tq},
            "request_id": str(uuid.uuid4()),
            **fields,
        }
        async with asyncio.timeout(TASK_SECONDS_MAX):
            while True:
                try:
                    self.runs[name] = (await self.env.rpc("StartWorkflowExecution", **request)).run_id
                    break
                except Refusal as error:
                    # New search attributes reach every part of the real server within a moment.
                    if "no mapping defined" not in error.message and "is not found" not in error.message:
                        raise
                await asyncio.sleep(0.1)
        # Start times differ for certain, whatever a server rounds them to.
        await asyncio.sleep(0.01)
        return self.runs[name]

    async def task(self, queue: str | None = None) -> Any:
        async with asyncio.timeout(TASK_SECONDS_MAX):
            while True:
                fields = {"namespace": self.namespace, "task_queue": {"name": queue or self.env.tq}}
                task = await self.env.rpc("PollWorkflowTaskQueue", timeout=TASK_SECONDS_MAX, **fields)
                if task.task_token:
                    return task

    async def step(self, *commands: dict[str, Any], queue: str | None = None) -> Any:
        task = await self.task(queue)
        await self.env.rpc(
            "RespondWorkflowTaskCompleted", namespace=self.namespace, task_token=task.task_token, commands=list(commands)
        )
        return task

    async def end(self, how: str, name: str, queue: str | None = None) -> None:
        """Ends the run whose task is next in the queue."""
        execution = {"workflow_id": name, "run_id": self.runs[name]}
        if how == "completed":
            await self.step(command("COMPLETE_WORKFLOW_EXECUTION", result=payloads("r")), queue=queue)
        elif how == "failed":
            await self.step(command("FAIL_WORKFLOW_EXECUTION", failure=failure("f")), queue=queue)
        elif how == "cancelled":
            await self.env.rpc("RequestCancelWorkflowExecution", namespace=self.namespace, workflow_execution=execution)
            await self.step(command("CANCEL_WORKFLOW_EXECUTION"), queue=queue)
        elif how == "terminated":
            await self.env.rpc("TerminateWorkflowExecution", namespace=self.namespace, workflow_execution=execution)
        elif how == "continued":
            await self.step(command("CONTINUE_AS_NEW_WORKFLOW_EXECUTION", workflow_type={"name": "Alpha"}), queue=queue)
        else:
            raise ValueError(how)
        await asyncio.sleep(0.01)

    def mark(self, name: str) -> None:
        """Remembers this moment for filters."""
        self.times[name] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    async def statuses(self) -> None:
        """One run in each state, named after it, some of another type and queue."""
        await self.start("completed")
        await self.end("completed", "completed")
        await self.start("failed", kind="Beta")
        await self.end("failed", "failed")
        self.mark("early")
        await self.start("cancelled", kind="Beta")
        await self.end("cancelled", "cancelled")
        await self.start("terminated", queue=self.env.name("other-tq"))
        await self.end("terminated", "terminated")
        await self.start("timed-out", queue=self.env.name("other-tq"), workflow_run_timeout="2s")
        self.mark("middle")
        await self.count("ExecutionStatus = 'TimedOut'", 1)
        await self.start("continued")
        await self.end("continued", "continued")
        await self.start("open-1", queue=self.env.name("open-tq"))
        await self.start("open-2", kind="Gamma", queue=self.env.name("open-tq"), memo={"fields": {"m": payload(1)}})
        self.mark("late")
        await self.settle(9, open=3)

    async def values(self) -> None:
        """Open runs with search attributes of every type, in growing order, and one without any."""
        words = ["apple pie", "Banana split", "cherry", "apple and banana"]
        for number in range(4):
            await self.start(
                f"v{number}",
                search_attributes=attributes(
                    K=["red", "green", "blue", "violet"][number],
                    T=words[number],
                    I=[-5, 0, 7, 7][number],
                    D=[-1.5, 0, 2.25, 1e10][number],
                    B=number % 2 == 0,
                    W=f"2020-0{number + 1}-01T00:00:00Z",
                    L=[["a"], ["a", "b"], ["b", "c"], []][number],
                ),
            )
        await self.start("bare")
        await self.start("half", search_attributes=attributes(K="it's", I=100))
        await self.settle(6, open=6)

    async def settle(self, count: int, open: int) -> None:  # noqa: A002  (the word that users know)
        async with asyncio.timeout(TASK_SECONDS_MAX):
            while True:
                listed = await self.env.rpc("CountWorkflowExecutions", namespace=self.namespace)
                running = await self.env.rpc(
                    "CountWorkflowExecutions", namespace=self.namespace, query="ExecutionStatus = 'Running'"
                )
                if listed.count == count and running.count == open:
                    return
                await asyncio.sleep(0.05)

    async def count(self, query: str, wanted: int) -> None:
        """Waits until that many runs are listed by the query."""
        async with asyncio.timeout(TASK_SECONDS_MAX):
            while (await self.env.rpc("CountWorkflowExecutions", namespace=self.namespace, query=query)).count != wanted:
                await asyncio.sleep(0.05)

    def filled(self, query: str) -> str:
        for name, time in self.times.items():
            query = query.replace(f"{{{name}}}", time)
        for name, run in self.runs.items():
            query = query.replace(f"{{run {name}}}", run)
        return query.replace("{n}", self.env.nonce)

    async def ask(self, *queries: str) -> None:
        """Lists and counts by each query: the workflow ids in their order and the count, or the error."""
        for query in queries:
            filled = self.filled(query)
            try:
                listed = await self.env.rpc("ListWorkflowExecutions", namespace=self.namespace, query=filled)
            except Refusal as error:
                self.env.note(query, refused(error))
                continue
            ids = [each.execution.workflow_id for each in listed.executions]
            try:
                count = (await self.env.rpc("CountWorkflowExecutions", namespace=self.namespace, query=filled)).count
            except Refusal as error:
                self.env.note(query, [ids, refused(error)])
                continue
            self.env.note(query, ids if count == len(ids) else [ids, count])
