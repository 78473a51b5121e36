"""Lengths in SCALE, the encoding that dstack's attestations use."""

from __future__ import annotations

from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader


def compact_length(reader: Reader, most: int) -> int:
    """Take a compact integer: the two low bits of its first byte say that it has one, two or four bytes.

    :raises MalformedError: cut, above ``most``, or spelt longer than it needs.
    """
    first = reader.integer(1)
    match first & 3:
        case 0:
            length, least = first >> 2, 0
        case 1:
            length, least = (first | reader.integer(1) << 8) >> 2, 1 << 6
        case 2:
            length, least = (first | reader.integer(3) << 8) >> 2, 1 << 14
        case _:
            raise MalformedError(f"`{reader.where}` holds a length above its bound")
    if not least <= length <= most:
        raise MalformedError(f"`{reader.where}` holds a length of {length}; at most {most} are read, spelt shortest")
    return length
