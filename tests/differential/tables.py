"""Writes the tables that people read from the recorded answers: golden/README.md and ERRORS.md.

Generated, never edited by hand; `make golden` calls it, and so does `python -m differential.tables`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"


def write() -> None:
    found = [json.loads(path.read_text()) for path in sorted(GOLDEN.glob("*.json"))]
    (GOLDEN / "README.md").write_text(_scenarios(found))
    (HERE / "ERRORS.md").write_text(_errors(found))


def _scenarios(found: list[dict[str, Any]]) -> str:
    out = [
        "# Recorded answers of the real server",
        "",
        "Written by `make golden`, one file a scenario: its records in order, normalised as ../ALLOWED.md says. A record is a",
        "`history` (all events), a `response` or an `error` of one call, or a `note` (a value that the scenario worked out).",
        "",
        "| File | Scenario in | Shows |",
        "|---|---|---|",
    ]
    for each in sorted(found, key=lambda each: (each["module"], each["scenario"])):
        out.append(f"| [{each['scenario']}.json]({each['scenario']}.json) | {each['module']}.py | {each['says']} |")
    return "\n".join(out) + "\n"


def _errors(found: list[dict[str, Any]]) -> str:
    rows = []
    for each in found:
        for record in each["records"]:
            if "error" in record:
                rows.append((record["method"], each["scenario"], record))
    out = [
        "# Errors of the real server",
        "",
        "Written by `make golden` from the recorded answers: what the call was given, and what it answered. Messages are",
        "normalised (ids and times). What the real server accepts, though one might expect an error, is in the second table.",
        "",
        "| Method | Case | Code | Message | Details |",
        "|---|---|---|---|---|",
    ]
    for method, _, record in sorted(rows, key=lambda row: (row[0], row[1])):
        details = "; ".join(json.dumps(each, ensure_ascii=False) for each in record.get("details", []))
        out.append(f"| {method} | {_cell(record['error'])} | {record['code']} | {_cell(record['message'])} | {_cell(details)} |")
    out += ["", "Accepted without an error:", "", "| Method | Case |", "|---|---|"]
    for each in found:
        if not each["module"].startswith("errors"):
            continue
        for record in each["records"]:
            if "response" in record:
                out.append(f"| {record['method']} | {_cell(record['response'])} |")
    return "\n".join(out) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "⏎") if len(text) < 600 else _cell(text[:500] + " …")


if __name__ == "__main__":
    write()
