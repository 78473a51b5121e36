"""Frames between the gate and the walled process that reads for it, over one pair of sockets: kind, length, bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final, Protocol

CHUNK: Final = 1 << 20
"""The longest read that is asked for, and the longest piece that comes back."""
MAX_ASKED: Final = 16 << 20
MAX_ANSWER: Final = 32 << 20
"""Of which the gate makes a report that still fits a delivery's folder."""
MAX_TEXT: Final = 1000
"""Characters that a refusal may have."""
_HEAD: Final = struct.Struct("<BI")
READ: Final = struct.Struct("<IQI")
"""Which file (their names in order), offset, length."""


class Frame(IntEnum):
    """What a frame is."""

    ASK = 1
    """Gate: what to do, an object."""
    DATA = 2
    """Gate: the bytes that were asked for."""
    READ = 3
    """Reader: it asks for bytes of a file."""
    PIECE = 4
    """Reader: the next bytes of what it makes."""
    ANSWER = 5
    """Reader: it is done, an object."""
    REFUSED = 6
    """Reader: the file isn't let in, by which rule and why."""


FROM_READER: Final[Mapping[Frame, int]] = MappingProxyType(
    {Frame.READ: READ.size, Frame.PIECE: CHUNK, Frame.ANSWER: MAX_ANSWER, Frame.REFUSED: 1 << 16}
)
"""The kinds that a reader may send, and how long each may be."""
FROM_GATE: Final[Mapping[Frame, int]] = MappingProxyType({Frame.ASK: MAX_ASKED, Frame.DATA: CHUNK})


class Stream(Protocol):
    """A socket, as far as frames need one."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Fill a buffer as far as bytes are there; 0 at the end."""
        ...

    def sendall(self, data: bytes, /) -> None:
        """Send everything."""
        ...


def send(stream: Stream, kind: Frame, data: bytes) -> None:
    """Send a frame.

    :raises OSError: the other side is gone.
    """
    stream.sendall(_HEAD.pack(kind, len(data)))
    stream.sendall(data)


def receive(stream: Stream, most: Mapping[Frame, int]) -> tuple[Frame, bytes]:
    """Receive a frame, of a kind in ``most`` and no longer than that says.

    :raises EOFError: the other side ended. :raises ValueError: no such frame.
    """
    number, length = _HEAD.unpack(_exactly(stream, _HEAD.size))
    kind = Frame(number)
    if length > most.get(kind, -1):
        raise ValueError(kind)
    return kind, bytes(_exactly(stream, length))


def _exactly(stream: Stream, length: int) -> bytearray:
    held = bytearray(length)
    left = memoryview(held)
    while left:
        got = stream.recv_into(left)
        if not got:
            raise EOFError
        left = left[got:]
    return held
