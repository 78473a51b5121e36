"""Bytes that are judged without being kept: read at an offset, or from front to back through a small window."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, Protocol

from strongroom.core.errors import UsageError
from strongroom.intake.rules import IntakeRefusedError, Rule

WINDOW: Final = 64 * 1024
"""Bytes that a cursor holds: what is small is cut out of it, what is large is skipped."""


class Source(Protocol):
    """One delivered file. Behind it may be a file that is decrypted as it is read."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``; the caller stays within ``size``."""
        ...


def pieces(source: Source, length: int) -> Iterator[bytes]:
    """Yield all bytes from front to back, ``length`` at a time; the last piece may be shorter."""
    for offset in range(0, source.size, length):
        yield source.read(offset, min(length, source.size - offset))


class BytesSource:
    """A file in memory."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self._data)

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes."""
        return self._data[offset : offset + length]


class Part:
    """A stretch of another source, as a source of its own: an entry of an archive that isn't compressed."""

    __slots__ = ("_begin", "_size", "_source")

    def __init__(self, source: Source, begin: int, size: int) -> None:
        if begin < 0 or size < 0 or begin + size > source.size:
            raise UsageError("a part of a source lies within it")
        self._source, self._begin, self._size = source, begin, size

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes."""
        return self._source.read(self._begin + offset, length)


class Cursor:
    """Reads a source from front to back in bounded memory.

    :raises IntakeRefusedError: (every method) under ``rule``, where the bytes end early or a field is above its bound.
    """

    def __init__(
        self,
        source: Source,
        where: str,
        rule: Rule,
        *,
        order: Literal["big", "little"] = "little",
        begin: int = 0,
        end: int | None = None,
    ) -> None:
        self._source, self._where, self._rule, self._order = source, where, rule, order
        self.at = begin
        self.end = source.size if end is None else end
        self._window = b""
        self._start = 0

    def refuse(self, message: str) -> IntakeRefusedError:
        """Return the error that says what is wrong here."""
        return IntakeRefusedError(self._rule, f"{self._where}: {message}, at byte {self.at}")

    @property
    def left(self) -> int:
        """Bytes until the end."""
        return self.end - self.at

    def take(self, length: int, *, most: int = WINDOW) -> bytes:
        """Take exactly ``length`` bytes, at most ``most``."""
        if length > most:
            raise self.refuse(f"a field of {length} bytes where at most {most} are read")
        if length < 0 or length > self.left:
            raise self.refuse(f"the bytes end inside a field of {length}")
        begin = self.at - self._start
        if begin < 0 or begin + length > len(self._window):
            self._start = self.at
            self._window = self._source.read(self.at, min(max(length, WINDOW), self.left))
            begin = 0
        self.at += length
        return self._window[begin : begin + length]

    def skip(self, length: int) -> None:
        """Pass over ``length`` bytes without reading them."""
        if length < 0 or length > self.left:
            raise self.refuse(f"the bytes end inside a field of {length}")
        self.at += length

    def integer(self, size: int) -> int:
        """Take an unsigned integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), self._order)

    def line(self, *, most: int) -> bytes:
        """Take bytes up to a line feed, which is dropped; ``most`` counts without it."""
        begin = self.at
        found = self.take(min(most + 1, self.left), most=most + 1)
        length = found.find(b"\n")
        if length < 0:
            raise self.refuse(f"a line without an end within {most} bytes")
        self.at = begin + length + 1
        return found[:length]
