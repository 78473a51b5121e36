"""Changes that hostile bytes are made of: turned bits, lengths that lie, and mixtures with cuts and insertions."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final

_SIZES: Final = (1, 2, 4, 8)
_WORDS: Final = (
    b"",
    b"\0",
    b"\xff",
    b'"',
    b"{",
    b"[",
    b"}",
    b"null",
    b"-1",
    b"1e9",
    b"\\ud800",
    b"\x30\x80",
    b"=",
    b"<",
)
_NUMBERS: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 2**32 - 1, 2**63, 2**64 - 1)
_MOST_MOVED: Final = 64


def flipped(data: bytes, bit: int) -> bytes:
    """Turn one bit, counted from the lowest of the first byte."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flips(data: bytes, stride: int = 1, *, but: int | None = None) -> Iterator[bytes]:
    """Yield the data with one bit turned, for every ``stride``-th bit; the byte ``but`` is left alone.

    A stride that shares no factor with eight meets every place in a byte.
    """
    for bit in range(0, len(data) * 8, stride):
        if bit // 8 != but:
            yield flipped(data, bit)


def greatest_lengths(data: bytes, stride: int) -> Iterator[bytes]:
    """Yield the data with ones in place of 1, 2, 4 and 8 bytes: whatever was a length there is at its maximum."""
    for width in _SIZES:
        for start in range(0, len(data) - width, stride):
            changed = data[:start] + b"\xff" * width + data[start + width :]
            if changed != data:
                yield changed


def changed(seeds: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yield mixtures of changes, the same ones for the same ``seed``; every seed has its turn."""
    draw = random.Random(seed)  # noqa: S311 - cases for tests, the same each time
    for turn in range(count):
        data = seeds[turn % len(seeds)]
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            data = _once(data, seeds, draw)
        yield data


def _once(data: bytes, seeds: Sequence[bytes], draw: random.Random) -> bytes:
    at = draw.randrange(len(data) + 1)
    width = draw.choice(_SIZES)
    number = draw.choice(_NUMBERS) % 256**width
    other = draw.choice(seeds)
    put, skipped = draw.choice(
        (
            (bytes([data[at] ^ 1 << draw.randrange(8)]) if at < len(data) else b"", 1),
            (draw.randbytes(width), width),
            (number.to_bytes(width, "little"), width),
            (number.to_bytes(width, "big"), width),
            (b"", len(data)),
            (b"", draw.randrange(1, _MOST_MOVED)),
            (data[at : at + draw.randrange(1, _MOST_MOVED)] * 2, 0),
            (draw.choice(_WORDS), 0),
            (draw.choice(_WORDS), width),
            (other[draw.randrange(len(other) + 1) :], len(data)),
        )
    )
    return data[:at] + put + data[at + skipped :]
