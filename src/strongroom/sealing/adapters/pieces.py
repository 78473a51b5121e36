"""A file's plaintext that comes in pieces, to be sealed: what is decrypted or made as it is read."""

from __future__ import annotations

from collections.abc import Iterator


class PiecedFile:
    """A :class:`strongroom.sealing.adapters.job.PlainFile` of pieces, each good until the next is asked for.

    Nothing is left to be checked at the end: whoever makes the pieces vouches for them.
    """

    def __init__(self, name: str, *, size: int, mode: int, changed: int, pieces: Iterator[memoryview]) -> None:
        self.name, self.size, self.mode, self.changed = name, size, mode, changed
        self._pieces = pieces
        self._left = memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill as much of a buffer as the piece at hand does; returns how much, 0 at the end."""
        if not self._next():
            return 0
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def skip(self, count: int) -> None:
        """Pass over bytes. They are made all the same: what vouches for them looks at all of them."""
        while count and self._next():
            past = min(count, len(self._left))
            self._left = self._left[past:]
            count -= past

    def _next(self) -> bool:
        while not self._left:
            following = next(self._pieces, None)
            if following is None:
                return False
            self._left = following
        return True

    def check(self) -> None:
        """Do nothing."""
