"""Walking protocol buffers without a schema's code: fields in order, nothing kept. (protobuf.dev, encoding.)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from strongroom.intake.source import Cursor

MAX_FIELD: Final = (1 << 29) - 1
_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5


class FieldAt(NamedTuple):
    """One field: its number, its value where it is a varint, and where its bytes lie otherwise."""

    number: int
    value: int | None
    begin: int
    end: int


def fields(cursor: Cursor) -> Iterator[FieldAt]:
    """Yield the fields of a message, which is all that the cursor has left.

    :raises IntakeRefusedError: under the cursor's rule, where the bytes aren't one message.
    """
    while cursor.left:
        tag = _varint(cursor)
        number, wire = tag >> 3, tag & 7
        if not 1 <= number <= MAX_FIELD:
            raise cursor.refuse("a field number that isn't one")
        begin = cursor.at
        if wire == _VARINT:
            yield FieldAt(number, _varint(cursor), begin, cursor.at)
            continue
        if wire == _BYTES:
            length = _varint(cursor)
            begin = cursor.at
        elif wire in {_FIXED64, _FIXED32}:
            length = 8 if wire == _FIXED64 else 4
        else:
            raise cursor.refuse("a field of a kind that isn't known")
        cursor.skip(length)
        yield FieldAt(number, None, begin, cursor.at)


def _varint(cursor: Cursor) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = cursor.integer(1)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF
    raise cursor.refuse("a number of more than ten bytes")
