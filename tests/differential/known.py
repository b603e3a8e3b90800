"""The list of scenarios that differ from the real server today, as KNOWN.md keeps it: one table row each, with its reason.

Never decides that a difference is all right. Read by the pytest wrapper; `update` is what `run --update-known` does.
"""

from __future__ import annotations

import re
from pathlib import Path

PATH = Path(__file__).parent / "KNOWN.md"
ROW = re.compile(r"^\| `(\w+)` \| (.+) \|$")
NOT_YET = "not served yet"


def read() -> dict[str, str]:
    """Scenario to reason."""
    return {match[1]: match[2] for match in map(ROW.match, PATH.read_text().splitlines()) if match}


def update(equal: set[str], differing: set[str]) -> None:
    """Takes out scenarios that are equal now, and adds those that differ without a reason yet."""
    reasons = {name: reason for name, reason in read().items() if name not in equal}
    for name in sorted(differing - set(reasons)):
        reasons[name] = NOT_YET
    lines = [line for line in PATH.read_text().splitlines() if not ROW.match(line)]
    rows = [f"| `{name}` | {reason} |" for name, reason in sorted(reasons.items(), key=lambda row: (row[1] == NOT_YET, row[0]))]
    PATH.write_text("\n".join(lines + rows) + "\n")
