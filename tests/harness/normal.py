"""Rewrites what a server answered so that two servers can be compared, and so that a recorded answer reads well.

Every rewrite here is a difference that the comparison cannot see: each has its paragraph, under the same name, in
differential/ALLOWED.md. Never drops a field; reorders only what is said to have no order: a rewritten field keeps a marker in its place, so
a field that one server fills in and the other does not is still a difference.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

_UUID = re.compile(r"\b[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\b")
_TIME = re.compile(r"^(\d{4})-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
# A duration with a fraction that no scenario asked for: what is left of something, by a clock.
_REMAINDER = re.compile(r"^(\d+)\.\d{4,9}s$")

# A point in time of now inside a longer text, as in the workflow ids of scheduled runs.
_TIME_WITHIN = re.compile(r"20(2[6-9]|[3-9]\d)-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

# A name made over-long on purpose: the letter and how many.
_RUN_OF_ONE = re.compile(r"([A-Za-z])\1{99,}")

# Fields that are protobuf maps.
_MAPS = ("fields", "indexed_fields", "details", "request_id_infos", "queries")

# Field name -> the marker that stands for its value.
MARKERS = {
    "task_id": "<task id>",
    "task_token": "<token>",
    "next_page_token": "<page token>",
    "history_size_bytes": "<size>",
    "state_size_bytes": "<size>",
    "long_poll_token": "<poll token>",
    "state_transition_count": "<count>",
    "execution_duration": "<duration>",
    "build_id": "<build>",
    "binary_checksum": "<checksum>",
    "server_version": "<server version>",
    "capabilities": "<capabilities>",
    "conflict_token": "<conflict token>",
    "custom_search_attribute_aliases": "<aliases>",
}


def to_dict(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


class Normaliser:
    """Holds the mapping of one scenario's generated names, so that equal names stay equal and different ones different."""

    def __init__(self, nonce: str) -> None:
        self._nonce = nonce
        self._uuids: dict[str, str] = {}
        # Events that the SDK's worker caused: it names its build in one field or another, by what the server says it can.
        self.by_sdk = False

    def value(self, value: Any) -> Any:
        if isinstance(value, dict):
            if "metadata" in value and "encoding" in value.get("metadata", {}):
                return self._payload(value)
            return self._object(value)
        if isinstance(value, list):
            return [self.value(each) for each in value]
        if isinstance(value, str):
            return _scalar(value) or self.text(value)
        return value

    def text(self, text: str) -> str:
        if 'File "' in text:
            return "<stack trace>"
        text = _RUN_OF_ONE.sub(lambda match: f"{match.group(1)}*{len(match.group(0))}", text)
        text = _TIME_WITHIN.sub("<time>", text)
        if "value from <" in text:
            text = text.replace("  ", " ")
        return _UUID.sub(self._uuid, text.replace(self._nonce, ""))

    def _object(self, value: dict[str, Any]) -> dict[str, Any]:
        if value.keys() == {"nanos", "seconds"}:
            return "<time>"
        out = {}
        for key, each in value.items():
            if key == "supports_schedules":
                continue
            if key == "pending_children":
                # Listed by the real server in the order of a hash table.
                each = sorted(each, key=lambda child: int(child["initiated_id"]))
            if key == "pending_activities" and isinstance(each, list):
                each = sorted(each, key=lambda pending: pending["activity_id"])
            if key in ("core_used_flags", "lang_used_flags"):
                each = sorted(each)
            if key in _MAPS and isinstance(each, dict):
                # A protobuf map: its order on the wire means nothing.
                each = dict(sorted(each.items()))
            if key == "current_retry_interval":
                # Worked out by the real server as the difference of two clock readings.
                each = f"{float(each.rstrip('s')):.1f}s"
            out[self.text(key)] = MARKERS[key] if key in MARKERS and each else self.value(each)
        return out

    def _uuid(self, match: re.Match[str]) -> str:
        return self._uuids.setdefault(match.group(0), f"<uuid {len(self._uuids) + 1}>")

    def _payload(self, value: dict[str, Any]) -> dict[str, Any]:
        """A payload as people read it: its JSON value, its encoding when that is another, and its other metadata."""
        metadata = {key: base64.b64decode(each).decode(errors="replace") for key, each in value["metadata"].items()}
        data = base64.b64decode(value.get("data", ""))
        out: dict[str, Any] = {}
        if metadata.get("encoding") == "json/plain":
            metadata.pop("encoding")
            try:
                out["json"] = self.value(json.loads(data))
            except ValueError:
                out["not json"] = self.text(data.decode(errors="replace"))
        elif len(data) > 200:
            out["bytes"] = len(data)
        else:
            out["data"] = self.text(data.decode(errors="replace"))
        if metadata:
            out["metadata"] = self.value(dict(sorted(metadata.items())))
        return out


def _scalar(value: str) -> str | None:
    time = _TIME.match(value)
    if time:
        return "<time>" if int(time.group(1)) > 1970 else "<zero time>"
    remainder = _REMAINDER.match(value)
    return f"up to {int(remainder.group(1)) + 1}s" if remainder else None


def event(message: Message, normaliser: Normaliser) -> dict[str, Any]:
    """One history event: id and type first, then its attributes without their wrapper."""
    raw = to_dict(message)
    out: dict[str, Any] = {"event_id": raw.pop("event_id", None)}
    out["event_type"] = raw.pop("event_type", "").removeprefix("EVENT_TYPE_")
    happened = raw.get("event_time")
    for key in [key for key in raw if key.endswith("_event_attributes")]:
        attributes = raw.pop(key)
        if normaliser.by_sdk:
            for build in ("worker_version", "binary_checksum", "inherit_build_id", "use_workflow_build_id"):
                attributes.pop(build, None)
            if out["event_type"] == "WORKFLOW_TASK_STARTED":
                attributes.pop("request_id", None)
        expires = attributes.get("workflow_execution_expiration_time")
        if expires and happened:
            # A point in time that the server computes from this event's own: compared as the distance between them.
            attributes["workflow_execution_expiration_time"] = f"event time + {_seconds_between(happened, expires)} s"
        out["attributes"] = normaliser.value(attributes)
    # Every event has a time and a task id; only their absence is worth a line.
    for key in ("event_time", "task_id"):
        if raw.pop(key, None) in (None, "0"):
            out[key] = "missing"
    out.update(normaliser.value(raw))
    return out


def _seconds_between(earlier: str, later: str) -> int:
    def parse(text: str) -> datetime:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text).replace("Z", "+00:00"))

    return round((parse(later) - parse(earlier)).total_seconds())
