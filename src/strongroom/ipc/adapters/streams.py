"""Frames out of a stream: as many at once as have come, for a call to the stream costs more than cutting a frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from strongroom.ipc.frames import MAX_FRAME, FrameCutter

_PIECE: Final = 1 << 16


async def frames_of(
    reader: asyncio.StreamReader, *, most: int = MAX_FRAME, frame_seconds: float | None = None
) -> AsyncIterator[bytes]:
    """Yield what each frame holds, until the stream ends; what is left of a frame then is dropped.

    :param most: bytes that a frame may have. ``frame_seconds``: how long one may take from its first byte on; between
        frames nobody is hurried.
    :raises MalformedError: a length that isn't allowed. :raises TimeoutError: a frame took too long.
    :raises ConnectionError: the connection broke.
    """
    loop, cutter = asyncio.get_running_loop(), FrameCutter(most)
    until: float | None = None
    while True:
        while (data := cutter.cut()) is not None:
            until = None
            yield data
        if frame_seconds is not None and until is None and cutter.begun:
            until = loop.time() + frame_seconds
        async with asyncio.timeout_at(until):
            piece = await reader.read(_PIECE)
        if not piece:
            return
        cutter.feed(piece)
