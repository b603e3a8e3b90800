"""Raw gRPC to one node: Temporal's WorkflowService without an SDK in between.

The SDK would retry, cache and decode; a test tool must see each answer as it came. Never retries, never hides a status: that
is `client`'s work, where every attempt is journalled. One `Api` per node address, living on while the node is down.
"""

from __future__ import annotations

import random

import grpc
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import HistoryEventFilterType
from temporalio.api.workflowservice.v1 import request_response_pb2 as messages

from .history import CLOSE_EVENTS, RunHistory
from .wire import history_events

SERVICE = "/temporal.api.workflowservice.v1.WorkflowService/"
NAMESPACE = "default"

# A killed node is back within seconds: a client that waits longer between attempts to connect would measure itself.
_CHANNEL = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Each node its own connection, even when several `Api`s have one address.
    ("grpc.use_local_subchannel_pool", 1),
]

# The call certainly had no effect: the server looked at it and said no.
REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNIMPLEMENTED,
}


class Api:
    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self._channel = grpc.aio.insecure_channel(address, options=_CHANNEL)
        self._calls: dict[tuple[str, bool], grpc.aio.UnaryUnaryMultiCallable] = {}

    async def close(self) -> None:
        await self._channel.close()

    async def call(self, method: str, request, timeout: float, *, raw: bool = False):
        """One attempt of one call. With `raw`, the encoded response as it came off the wire."""
        key = (method, raw)
        if key not in self._calls:
            decode = (lambda data: data) if raw else getattr(messages, method + "Response").FromString
            self._calls[key] = self._channel.unary_unary(
                SERVICE + method, request_serializer=lambda message: message.SerializeToString(), response_deserializer=decode
            )
        return await self._calls[key](request, timeout=timeout)

    async def history(self, wf: str, run: str, timeout: float = 10.0, page_size: int = 0) -> RunHistory:
        """The whole history of a run, page by page, as raw bytes."""
        raw: list[bytes] = []
        token = b""
        while True:
            request = messages.GetWorkflowExecutionHistoryRequest(
                namespace=NAMESPACE,
                execution=WorkflowExecution(workflow_id=wf, run_id=run),
                maximum_page_size=page_size,
                next_page_token=token,
            )
            answer = await self.call("GetWorkflowExecutionHistory", request, timeout, raw=True)
            raw.extend(history_events(answer))
            token = messages.GetWorkflowExecutionHistoryResponse.FromString(answer).next_page_token
            if not token:
                return RunHistory(wf, run, tuple(raw))

    async def wait_close(self, wf: str, run: str, timeout: float) -> bool:
        """One long poll for the close event; False if it ended without one."""
        request = messages.GetWorkflowExecutionHistoryRequest(
            namespace=NAMESPACE,
            execution=WorkflowExecution(workflow_id=wf, run_id=run),
            wait_new_event=True,
            history_event_filter_type=HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT,
        )
        answer = await self.call("GetWorkflowExecutionHistory", request, timeout)
        return any(event.event_type in CLOSE_EVENTS for event in answer.history.events)

    async def current_run(self, wf: str, timeout: float = 10.0) -> str:
        """The run id of the newest run of a workflow id."""
        request = messages.DescribeWorkflowExecutionRequest(namespace=NAMESPACE, execution=WorkflowExecution(workflow_id=wf))
        answer = await self.call("DescribeWorkflowExecution", request, timeout)
        return answer.workflow_execution_info.execution.run_id


def random_page_size(chance: random.Random) -> int:
    """Mostly the server's own page size; now and then a small one, so that paging is exercised under faults too."""
    return chance.choice([0, 0, 0, 7, 50])
