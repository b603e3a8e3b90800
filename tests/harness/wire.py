"""Temporal's gRPC API by method name, with requests written as Python dicts in protobuf's JSON form.

Tests use it where an SDK would hide what goes over the wire: exact polls, malformed requests, error details. Never retries,
never fills in a field other than `namespace` and `identity`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf import json_format
from google.protobuf.message import Message
from temporalio.api.common.v1.grpc_status_pb2 import GrpcStatus
from temporalio.api.errordetails.v1 import message_pb2 as _details  # noqa: F401  (registers the detail types)
from temporalio.api.operatorservice.v1 import service_pb2 as operator_service
from temporalio.api.workflowservice.v1 import service_pb2 as workflow_service

IDENTITY = "tester"
_MESSAGE_BYTES_MAX = 64 * 1024 * 1024


def _methods() -> dict[str, tuple[str, type[Message], type[Message]]]:
    from google.protobuf.message_factory import GetMessageClass

    found = {}
    for file in (workflow_service, operator_service):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                found[method.name] = (path, GetMessageClass(method.input_type), GetMessageClass(method.output_type))
    return found


METHODS = _methods()


@dataclass
class Refusal(Exception):
    """A gRPC error with its details decoded: code name, message, and one dict per detail with its type."""

    method: str
    code: str
    message: str
    details: list[dict[str, Any]]

    def __str__(self) -> str:
        return f"{self.method}: {self.code}: {self.message} {self.details}"


def refusal(method: str, error: grpc.RpcError) -> Refusal:
    details = []
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for each in GrpcStatus.FromString(value).details:
                kind = each.type_url.rpartition("/")[2]
                decoded = json_format.MessageToDict(each, preserving_proto_field_name=True)
                decoded.pop("@type", None)
                details.append({"type": kind, **decoded})
    return Refusal(method, error.code().name, error.details() or "", details)


class Wire:
    """One channel to a server."""

    def __init__(self, address: str, namespace: str = "default") -> None:
        options = [("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX), ("grpc.max_send_message_length", _MESSAGE_BYTES_MAX)]
        self.address = address
        self.namespace = namespace
        self._channel = grpc.aio.insecure_channel(address, options=options)

    async def close(self) -> None:
        await self._channel.close()

    async def call(self, method: str, *, timeout: float | None = 15.0, **fields: Any) -> Message:
        """The method's response; raises Refusal on any gRPC error. `timeout=None` sends no deadline."""
        request = self.request(method, **fields)
        return await self.send(method, request, timeout=timeout)

    def request(self, method: str, **fields: Any) -> Message:
        """The method's request, with namespace and identity filled in."""
        path, request_type, _ = METHODS[method]
        names = request_type.DESCRIPTOR.fields_by_name
        if "namespace" in names and path.startswith("/temporal.api.workflowservice") and method not in ("RegisterNamespace",):
            fields.setdefault("namespace", self.namespace)
        if "identity" in names:
            fields.setdefault("identity", IDENTITY)
        fields = {key: value for key, value in fields.items() if value is not None}
        return json_format.ParseDict(_plain(fields), request_type())

    async def send(self, method: str, request: Message, *, timeout: float | None = 15.0) -> Message:
        """As `call`, with a request that is made already."""
        path, request_type, response_type = METHODS[method]
        unary = self._channel.unary_unary(path, request_type.SerializeToString, response_type.FromString)
        try:
            return await unary(request, timeout=timeout)
        except grpc.RpcError as error:
            raise refusal(method, error) from None


def _plain(value: Any) -> Any:
    """Bytes become base64 and messages their JSON form, everywhere in a request."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Message):
        return json_format.MessageToDict(value, preserving_proto_field_name=True)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value


def payload(value: Any) -> dict[str, Any]:
    """One payload in the SDKs' default encoding."""
    return {"metadata": {"encoding": b"json/plain"}, "data": json.dumps(value).encode()}


def payloads(*values: Any) -> dict[str, Any]:
    return {"payloads": [payload(each) for each in values]}


def failure(message: str, kind: str = "TestFailure", non_retryable: bool = False, **info: Any) -> dict[str, Any]:
    """An application failure as an SDK sends it."""
    return {
        "message": message,
        "source": "test",
        "application_failure_info": {"type": kind, "non_retryable": non_retryable, **info},
    }
