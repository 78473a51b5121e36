"""Messages between launcher and agent: a 32-bit big-endian length, then canonical JSON. Pure.

The agent's side of the channel is confined code that may have been taken over: lengths are bounded before anything is
read, and every byte sequence that isn't one canonical value is an error.
"""

from __future__ import annotations

from typing import Final

from strongroom.core import canonical
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError

HEADER: Final = 4
MAX_FRAME: Final = 1 << 20
"""Bytes in one message. Weights never pass here; keys, evidence and policies do."""


def frame(value: Json) -> bytes:
    """Return ``value`` as one message.

    :raises MalformedError: no canonical form, or longer than :data:`MAX_FRAME`.
    """
    body = canonical.encode(value)
    if len(body) > MAX_FRAME:
        raise MalformedError(f"a message has {len(body)} bytes; at most {MAX_FRAME} are sent")
    return len(body).to_bytes(HEADER, "big") + body


def length_of(header: bytes) -> int:
    """Return the number of bytes that follow ``header``.

    :raises MalformedError: not four bytes, an empty message, or longer than :data:`MAX_FRAME`.
    """
    length = int.from_bytes(header, "big")
    if len(header) != HEADER or not 0 < length <= MAX_FRAME:
        raise MalformedError(f"a message announces {length} bytes; 1 to {MAX_FRAME} are read")
    return length


def unframe(body: bytes) -> Json:
    """Return the value of one message's body.

    :raises MalformedError: not one canonical JSON value.
    """
    return canonical.decode(body, max_bytes=MAX_FRAME)
