"""Each scenario against Stanchion, compared with the real server's recorded answers (`make golden` records them).

Scenarios in KNOWN.md differ today, each with its reason. They are run all the same, and one that no longer differs fails until
its line is taken out: the list can only shrink truthfully.
"""

import pytest

from differential import known
from differential.registry import load
from differential.run import difference, golden, play_all


def cases():
    reasons = known.read()
    unknown = sorted(set(reasons) - set(load()))
    assert not unknown, f"KNOWN.md names scenarios that do not exist: {unknown}"
    for name in sorted(load()):
        marks = [pytest.mark.xfail(strict=True, reason=reasons[name])] if name in reasons else []
        yield pytest.param(name, marks=marks)


@pytest.fixture(scope="session")
async def played(request, stanchion):
    """The records of every scenario that this session asks for, played side by side."""
    items = (item for item in request.session.items if item.name.startswith("test_answers_as_the_real_server"))
    return await play_all([load()[item.callspec.params["name"]] for item in items], stanchion.grpc, width=8)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", list(cases()))
async def test_answers_as_the_real_server(name, played):
    diff = difference(golden(name), played[name])
    assert not diff, f"{load()[name].says}\n{diff}"
