"""Writes operation histories as EDN, the notation that Jepsen's own checkers read.

Only what a history needs: maps with keyword keys, vectors, strings, numbers, booleans, nil. Never reads EDN.
Called by `journal`.
"""

from __future__ import annotations

# Processes are numbers, but for the nemesis, which is a keyword.
_KEYWORD_VALUES = {"type", "f", "process"}


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return f'"{escaped}"'


def dumps(value: object, *, keyword: bool = False) -> str:
    """One EDN form. Strings under the keys `type`, `f` and `process` become keywords, as Jepsen expects them."""
    if value is None:
        return "nil"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return f":{value}" if keyword else _string(value)
    if isinstance(value, dict):
        parts = (f":{key} {dumps(item, keyword=key in _KEYWORD_VALUES)}" for key, item in value.items())
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(dumps(item) for item in value) + "]"
    raise TypeError(f"EDN: no form for {type(value).__name__}")
