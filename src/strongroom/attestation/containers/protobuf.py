"""Protocol buffers on the wire, read one level at a time: as much as taking a file of evidence apart needs.

Every field is a number and a value; which numbers a message has, its reader knows. Groups, which the format has given
up, are refused.
"""

from __future__ import annotations

from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader

MAX_FIELDS: Final = 4096
_MAX_NUMBER: Final = (1 << 29) - 1
_MAX_VARINT: Final = 10


class Message:
    """One message's fields, in their order.

    :raises MalformedError: cut, too many fields, or a kind of field that isn't read.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self.where = where
        self._fields: list[tuple[int, int | bytes]] = []
        reader = Reader(data, where, max_bytes=len(data), order="little")
        while reader.left:
            if len(self._fields) == MAX_FIELDS:
                raise MalformedError(f"`{where}` has more than {MAX_FIELDS} fields")
            self._fields.append(_field(reader))

    def integer(self, number: int) -> int:
        """Return an integer; what is left out is 0, and of several the last one counts, as the format has it.

        :raises MalformedError: the field isn't an integer.
        """
        found = 0
        for value in self._values(number):
            if not isinstance(value, int):
                raise MalformedError(f"field {number} of `{self.where}` isn't an integer")
            found = value
        return found

    def several(self, number: int, most: int) -> tuple[bytes, ...]:
        """Return the bytes of a repeated field.

        :raises MalformedError: more than ``most`` of them, or an integer.
        """
        found = self._values(number)
        if len(found) > most:
            raise MalformedError(f"field {number} of `{self.where}` stands there {len(found)} times, at most {most}")
        values = tuple(value for value in found if isinstance(value, bytes))
        if len(values) != len(found):
            raise MalformedError(f"field {number} of `{self.where}` isn't a byte string")
        return values

    def single(self, number: int) -> bytes:
        """Return the bytes of a field; what is left out is empty.

        :raises MalformedError: it stands there twice (two readers could take two values), or is an integer.
        """
        return next(iter(self.several(number, 1)), b"")

    def has(self, number: int) -> bool:
        """Tell whether the message has the field."""
        return bool(self._values(number))

    def _values(self, number: int) -> list[int | bytes]:
        return [value for found, value in self._fields if found == number]


def _field(reader: Reader) -> tuple[int, int | bytes]:
    tag = _varint(reader)
    number, kind = tag >> 3, tag & 7
    if not 1 <= number <= _MAX_NUMBER:
        raise MalformedError(f"`{reader.where}` has a field without a number")
    match kind:
        case 0:
            return number, _varint(reader)
        case 1:
            return number, reader.integer(8)
        case 2:
            return number, reader.take(_varint(reader))
        case 5:
            return number, reader.integer(4)
        case _:
            raise MalformedError(f"`{reader.where}` has a field of a kind that isn't read")


def _varint(reader: Reader) -> int:
    value = 0
    for place in range(_MAX_VARINT):
        byte = reader.integer(1)
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            if value >> 64:
                break
            return value
    raise MalformedError(f"`{reader.where}` holds an integer of more than 64 bits")
