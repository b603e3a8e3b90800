"""Each scenario against Stanchion, compared with the real server's recorded answers (`make golden` records them)."""

import pytest

from differential.registry import load
from differential.run import difference, golden, play


@pytest.mark.parametrize("name", sorted(load()))
async def test_answers_as_the_real_server(name, stanchion):
    got = await play(load()[name], stanchion.grpc)
    diff = difference(golden(name), got)
    assert not diff, f"{load()[name].says}\n{diff}"
