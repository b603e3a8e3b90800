"""Cuts a protobuf message into the raw bytes of its fields, without decoding them.

Histories are compared byte by byte as they came off the wire; a decode and encode in between would hide a difference in
field order, in unknown fields or in defaults that one node writes and another does not. Called by `api`.
"""

from __future__ import annotations


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint longer than ten bytes")


def length_delimited(data: bytes, field: int) -> list[bytes]:
    """The contents of every occurrence of the length-delimited `field` in the message `data`, in order."""
    found, at = [], 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            _, at = _varint(data, at)
        elif kind == 1:
            at += 8
        elif kind == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError(f"field {number} claims {size} bytes, {len(data) - at} are left")
            if number == field:
                found.append(data[at : at + size])
            at += size
        elif kind == 5:
            at += 4
        else:
            raise ValueError(f"unknown wire type {kind}")
    if at != len(data):
        raise ValueError("truncated message")
    return found


def history_events(response: bytes) -> list[bytes]:
    """The raw events of an encoded GetWorkflowExecutionHistoryResponse: `history` is its field 1, `events` that one's field 1.

    A message field that occurs more than once is the concatenation of its parts, so all occurrences count.
    """
    events: list[bytes] = []
    for history in length_delimited(response, 1):
        events.extend(length_delimited(history, 1))
    return events
