"""How much work a search puts into one file: so much for each of its bytes, so that no file holds up the others.

A few bytes can describe others a million times over: tensors that lie upon one another, entries of an archive that
share what is compressed, archives in archives.
"""

from __future__ import annotations

from typing import Final

from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.source import Source

_FREE: Final = 64 << 20
_TIMES: Final = 8
_EACH: Final = 256
"""What a read costs beside its bytes."""
_UNPACKED: Final = 8
"""Bytes that are unpacked at the price of one that is read, and made a sketch of."""


class Effort:
    """What is left to be read for a file of ``size`` bytes.

    :raises IntakeRefusedError: (both methods) zip-size, where nothing is.
    """

    __slots__ = ("_left",)

    def __init__(self, size: int) -> None:
        self._left = _FREE + _TIMES * size

    def read(self, count: int) -> None:
        """Count bytes that are about to be read."""
        self._left -= count + _EACH
        if self._left < 0:
            raise IntakeRefusedError(Rule.ZIP_SIZE, "it describes its bytes many times over; not all was looked at")

    def unpack(self, count: int) -> None:
        """Count bytes that are about to be unpacked."""
        self.read(count // _UNPACKED)


class Metered:
    """A source whose reads are counted."""

    __slots__ = ("_effort", "_source")

    def __init__(self, source: Source, effort: Effort) -> None:
        self._source, self._effort = source, effort

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self._source.size

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes.

        :raises IntakeRefusedError: zip-size, where too much was read before.
        """
        self._effort.read(length)
        return self._source.read(offset, length)
