"""A journalled client: starts, signals and queries, each with its outcome on record.

A call whose outcome is unknown (deadline, broken connection) is tried again on another node *with the same request id*, as any
careful client does; if no attempt is ever answered the operation ends as `info`. Never starts a second operation to hide the
first. Called by the workloads; the journal it writes is what `checkers` reads.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Callable

import grpc
from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution, WorkflowType
from temporalio.api.query.v1 import WorkflowQuery
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import request_response_pb2 as messages

from .api import NAMESPACE, REFUSED, Api
from .journal import Journal

RETRY_PAUSE_S = 0.05
ATTEMPT_TIMEOUT_S = 5.0


def json_payloads(*values: object) -> Payloads:
    return Payloads(payloads=[Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(value).encode()) for value in values])


class Client:
    """One logical client over several nodes. `pick` chooses the node of each attempt; by default any, at random."""

    def __init__(self, apis: list[Api], journal: Journal, chance: random.Random, task_queue: str) -> None:
        self.apis = apis
        self.journal = journal
        self.chance = chance
        self.task_queue = task_queue
        self.acks: list[tuple[float, str, str]] = []

    async def _try(
        self, method: str, request, total_s: float, apis: Callable[[], list[Api]] | None = None
    ) -> tuple[str, object, str | None]:
        """Attempts until an answer or until `total_s` is over: (ok | fail | info, response, error)."""
        stop = time.monotonic() + total_s
        error, unknown = None, False
        while True:
            left = stop - time.monotonic()
            if left <= 0:
                return ("info" if unknown else "fail"), None, error
            api = self.chance.choice(apis() if apis else self.apis)
            try:
                response = await api.call(method, request, min(left, ATTEMPT_TIMEOUT_S))
                return "ok", response, None
            except grpc.aio.AioRpcError as failure:
                error = f"{failure.code().name} from {api.name}: {failure.details()}"
                if failure.code() in REFUSED:
                    # After an unknown attempt a refusal does not say what became of that one.
                    kind = "fail" if not unknown else "info"
                    name = "AlreadyStarted: " if failure.code() == grpc.StatusCode.ALREADY_EXISTS else ""
                    return kind, None, name + error
                unknown = True
            await asyncio.sleep(RETRY_PAUSE_S)

    async def start(
        self,
        wf: str,
        workflow_type: str,
        argument: object,
        total_s: float = 30.0,
        apis: Callable[[], list[Api]] | None = None,
        task_queue: str | None = None,
    ) -> str | None:
        """Starts a run; its run id if acknowledged."""
        op = self.journal.invoke(self.journal.new_process(), "start", {"wf": wf})
        request = messages.StartWorkflowExecutionRequest(
            namespace=NAMESPACE,
            workflow_id=wf,
            workflow_type=WorkflowType(name=workflow_type),
            task_queue=TaskQueue(name=task_queue or self.task_queue),
            input=json_payloads(argument),
            request_id=str(uuid.uuid4()),
            identity="jepsen",
            workflow_task_timeout=Duration(seconds=10),
        )
        kind, response, error = await self._try("StartWorkflowExecution", request, total_s, apis)
        if kind != "ok":
            self.journal.finish(op, kind, error=error)
            return None
        self.acks.append((time.monotonic(), "start", wf))
        self.journal.finish(op, "ok", {"wf": wf, "run": response.run_id})
        return response.run_id

    async def signal(self, wf: str, name: str, value: object, sender: object, total_s: float = 30.0) -> str:
        op = self.journal.invoke(self.journal.new_process(), "signal" if name == "add" else name, {"wf": wf, "n": value, "sender": sender})
        request = messages.SignalWorkflowExecutionRequest(
            namespace=NAMESPACE,
            workflow_execution=WorkflowExecution(workflow_id=wf),
            signal_name=name,
            input=json_payloads(value),
            request_id=str(uuid.uuid4()),
            identity="jepsen",
        )
        kind, _, error = await self._try("SignalWorkflowExecution", request, total_s)
        if kind == "ok":
            self.acks.append((time.monotonic(), "signal", wf))
        self.journal.finish(op, kind, error=error)
        return kind

    async def query(self, wf: str, total_s: float = 15.0) -> None:
        """Asks the run for the signals it has seen."""
        op = self.journal.invoke(self.journal.new_process(), "query", {"wf": wf})
        request = messages.QueryWorkflowRequest(
            namespace=NAMESPACE, execution=WorkflowExecution(workflow_id=wf), query=WorkflowQuery(query_type="values")
        )
        kind, response, error = await self._try("QueryWorkflow", request, total_s)
        if kind == "ok":
            seen = json.loads(response.query_result.payloads[0].data)
            self.journal.finish(op, "ok", {"wf": wf, "seen": seen})
        else:
            self.journal.finish(op, kind, error=error)
