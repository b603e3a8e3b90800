"""Each scenario against Stanchion, compared with the real server's recorded answers (`make golden` records them).

Scenarios in KNOWN.md differ today, each with its reason. They are run all the same, and one that no longer differs fails until
its line is taken out: the list can only shrink truthfully.
"""

import re
from pathlib import Path

import pytest

from differential.registry import load
from differential.run import difference, golden, play

ROW = re.compile(r"^\| `(\w+)` \| (.+) \|$")


def known():
    """Scenario to reason, as KNOWN.md lists them."""
    lines = (Path(__file__).parent / "KNOWN.md").read_text().splitlines()
    return {match[1]: match[2] for match in map(ROW.match, lines) if match}


def cases():
    reasons = known()
    unknown = sorted(set(reasons) - set(load()))
    assert not unknown, f"KNOWN.md names scenarios that do not exist: {unknown}"
    for name in sorted(load()):
        marks = [pytest.mark.xfail(strict=True, reason=reasons[name])] if name in reasons else []
        yield pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", cases())
async def test_answers_as_the_real_server(name, stanchion):
    got = await play(load()[name], stanchion.grpc)
    diff = difference(golden(name), got)
    assert not diff, f"{load()[name].says}\n{diff}"
