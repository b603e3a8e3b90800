"""Slots: BLAKE3 against its published vectors, and the ranges of groups."""

import pytest

from stanchion_jepsen.blake3 import blake3
from stanchion_jepsen.slots import SLOTS, group_of, slot_of


@pytest.mark.parametrize(
    "length,start",
    [(0, "af1349b9f5f9a1a6"), (1, "2d3adedff11b61f1"), (1023, "10108970eeda3eb9"), (1024, "42214739f095a406")],
)
def test_published_vectors(length, start):
    assert blake3(bytes(n % 251 for n in range(length))).hex().startswith(start)


def test_longer_inputs_are_refused():
    with pytest.raises(ValueError):
        blake3(bytes(1025))


def test_groups_cover_all_slots_evenly():
    sizes = [sum(1 for slot in range(SLOTS) if group_of(slot, 8) == group) for group in range(1, 9)]
    assert sizes == [512] * 8
    assert {group_of(slot, 5) for slot in range(SLOTS)} == {1, 2, 3, 4, 5}


def test_the_boundary_between_namespace_and_workflow_id_counts():
    assert slot_of("ns", "a") != slot_of("n", "sa")
