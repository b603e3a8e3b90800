"""BLAKE3 of short inputs (at most one chunk, 1,024 bytes), after its specification: enough to know a workflow id's slot.

Never for more than that: no tree, no keys, no speed. Called by `slots`.
"""

from __future__ import annotations

import struct

_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_CHUNK_START, _CHUNK_END, _ROOT = 1, 2, 8
_MASK = 0xFFFFFFFF
_COLUMNS_AND_DIAGONALS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip


def _rotate(word: int, by: int) -> int:
    return ((word >> by) | (word << (32 - by))) & _MASK


def _compress(chain: tuple[int, ...], block: bytes, flags: int) -> tuple[int, ...]:
    words = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    v = [*chain, *_IV[:4], 0, 0, len(block), flags]
    for _ in range(7):
        for at, (a, b, c, d) in enumerate(_COLUMNS_AND_DIAGONALS):
            for word, first, second in ((words[2 * at], 16, 12), (words[2 * at + 1], 8, 7)):
                v[a] = (v[a] + v[b] + word) & _MASK
                v[d] = _rotate(v[d] ^ v[a], first)
                v[c] = (v[c] + v[d]) & _MASK
                v[b] = _rotate(v[b] ^ v[c], second)
        words = [words[position] for position in _PERMUTATION]
    return tuple(v[n] ^ v[n + 8] for n in range(8))


def blake3(data: bytes) -> bytes:
    """The 32-byte hash of `data`."""
    if len(data) > 1024:
        raise ValueError(f"blake3 of {len(data)} bytes: this one takes at most 1024")
    blocks = [data[at : at + 64] for at in range(0, len(data), 64)] or [b""]
    chain: tuple[int, ...] = _IV
    for number, block in enumerate(blocks):
        flags = (_CHUNK_START if number == 0 else 0) | (_CHUNK_END | _ROOT if number == len(blocks) - 1 else 0)
        chain = _compress(chain, block, flags)
    return struct.pack("<8I", *chain)
