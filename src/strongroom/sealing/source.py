"""Where a sealed object's ciphertext comes from: anything that can be read at an offset."""

from __future__ import annotations

from typing import Protocol

from strongroom.sealing.errors import TruncatedError


class PositionalSource(Protocol):
    """Where ciphertext comes from: a file, an object in a store, or bytes."""

    @property
    def size(self) -> int:
        """Bytes in all, as the storage says."""
        ...

    def read_at(self, offset: int, buffer: memoryview) -> int:
        """Fill ``buffer`` from ``offset``; returns how many bytes, fewer only at the end. Thread-safe."""
        ...


class BytesSource:
    """A sealed object in memory."""

    __slots__ = ("_view",)

    def __init__(self, data: bytes | bytearray) -> None:
        self._view = memoryview(data)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self._view)

    def read_at(self, offset: int, buffer: memoryview) -> int:
        """Copy out."""
        part = self._view[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part)


def read_exactly(source: PositionalSource, offset: int, buffer: memoryview, *, object_name: str) -> None:
    """Fill ``buffer`` from ``source``.

    :raises TruncatedError: the storage gave less: the object shrank while it was read.
    """
    done = 0
    while done < len(buffer):
        got = source.read_at(offset + done, buffer[done:])
        if got <= 0:
            raise TruncatedError(f"the storage ended at byte {offset + done}", object_name=object_name)
        done += got
