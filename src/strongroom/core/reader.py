"""A bounded reader of binary structures: what is missing, too long or left over is refused."""

from __future__ import annotations

from typing import Literal

from strongroom.core.errors import MalformedError

Order = Literal["big", "little"]


class Reader:
    """Reads a structure field by field.

    :raises MalformedError: (every method) the bytes end early or a size is above its bound; the error names ``where``
        and the offset, never the contents.
    """

    def __init__(self, data: bytes, where: str, *, max_bytes: int, order: Order = "big") -> None:
        if len(data) > max_bytes:
            raise MalformedError(f"`{where}` has {len(data)} bytes; at most {max_bytes} are read")
        self._data = data
        self._at = 0
        self._order: Order = order
        self.where = where

    @property
    def at(self) -> int:
        """The offset of the next byte."""
        return self._at

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """Take exactly ``size`` bytes."""
        end = self._at + size
        if size < 0 or end > len(self._data):
            raise MalformedError(
                f"`{self.where}` ends after {len(self._data)} bytes, inside a field of {size} at offset {self._at}"
            )
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def integer(self, size: int) -> int:
        """Take an unsigned integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), self._order)

    def counted(self, size: int, most: int) -> bytes:
        """Take a length of ``size`` bytes, at most ``most``, then that many bytes."""
        length = self.integer(size)
        if length > most:
            raise MalformedError(f"`{self.where}` holds a field of {length} bytes; at most {most} are read")
        return self.take(length)

    def sized(self, most: int) -> bytes:
        """Take a TPM2B: a 16-bit size of at most ``most``, then that many bytes."""
        return self.counted(2, most)

    def rest(self) -> bytes:
        """Take what is left."""
        return self.take(self.left)

    def end(self) -> None:
        """Refuse bytes after the structure: two readers must not see two structures in the same bytes."""
        if self.left:
            raise MalformedError(f"`{self.where}` has {self.left} bytes after its end")
