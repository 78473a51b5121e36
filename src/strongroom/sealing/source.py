"""Where a sealed object's ciphertext comes from: anything that can be read at an offset."""

from __future__ import annotations

from typing import Protocol

from strongroom.sealing.errors import StorageError, TruncatedError


class PositionalSource(Protocol):
    """Where ciphertext comes from: a file, an object in a store, or bytes. Threads share one."""

    @property
    def size(self) -> int:
        """Bytes in all, as the storage says."""
        ...

    @property
    def stride(self) -> int:
        """How many bytes one request had best ask for."""
        ...

    @property
    def depth(self) -> int:
        """How many threads had best read at once: as many as there are cores, more where they wait for a device."""
        ...

    def piece(self, offset: int, length: int) -> memoryview:
        """Return ``length`` bytes from ``offset``, fewer only at the end; valid until this thread's next call."""
        ...


class BytesSource:
    """A sealed object in memory that nobody else changes."""

    __slots__ = ("_view",)

    stride = 1 << 20
    depth = 2

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._view = memoryview(data)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self._view)

    def piece(self, offset: int, length: int) -> memoryview:
        """Return the bytes where they are."""
        return self._view[offset : offset + length]


def exactly(source: PositionalSource, offset: int, length: int, *, object_name: str) -> memoryview:
    """Return ``length`` bytes from ``offset``.

    :raises TruncatedError: the storage gave less: the object shrank while it was read.
    :raises StorageError: the storage failed.
    """
    try:
        piece = source.piece(offset, length)
    except OSError as error:
        raise StorageError(
            f"`{object_name}` couldn't be read from byte {offset}: {error.strerror or 'input/output error'}",
            remedy="look at the storage it lies on",
        ) from error
    if len(piece) != length:
        raise TruncatedError(f"the storage ended at byte {offset + len(piece)}", object_name=object_name)
    return piece
