"""Frames: u32 length, then JSON; many requests at once, told apart by their id.

Request ``{"id": 7, "op": "release", ...}``; answer ``{"id": 7, "ok": {...}}`` or ``{"id": 7, "error": {...}}``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import Json, encode, parse
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.core.fields import Fields, reading

MAX_FRAME: Final = 12 << 20
"""Bytes of an answer: room for the keeper's status with as many of everything as its readers take."""
MAX_CALL: Final = 1 << 20
"""Bytes of a call. Whoever may knock makes a server hold that many, and read them, while everybody else waits."""
HEADER: Final = 4
MAX_ID: Final = 2**53 - 1
_MAX_TEXT: Final = 4096
_MAX_REASON: Final = 256


@dataclass(frozen=True, slots=True)
class Call:
    """One request; ``fields`` still holds the operation's own members."""

    id: int
    operation: str
    fields: Fields


def frame(value: Json, most: int = MAX_FRAME) -> bytes:
    """Write one frame, under the limits that its reader has: a frame that it refused would end everybody's connection.

    :raises MalformedError: larger than a frame may be, or a number, a text or a nesting that no reader takes.
    """
    data = encode(value)
    if len(data) > most:
        raise MalformedError(f"a message has {len(data)} bytes; at most {most} are sent")
    return struct.pack(">I", len(data)) + data


def frame_length(header: bytes, most: int = MAX_FRAME) -> int:
    """Read a frame's length.

    :raises MalformedError: longer than allowed; the connection can't go on.
    """
    length = int.from_bytes(header, "big")
    if len(header) != HEADER or not 0 < length <= most:
        raise MalformedError(f"a message has 1 to {most} bytes")
    return length


class FrameCutter:
    """Cuts a stream into frames of at most ``most`` bytes, in whatever pieces it comes."""

    def __init__(self, most: int = MAX_FRAME) -> None:
        self._most = most
        self._held = bytearray()
        self._at = 0

    @property
    def begun(self) -> bool:
        """Whether a part of a frame is held."""
        return self._at < len(self._held)

    def feed(self, data: bytes) -> None:
        """Take the next piece of the stream; it is held until :meth:`cut` gave it out."""
        del self._held[: self._at]
        self._at = 0
        self._held += data

    def cut(self) -> bytes | None:
        """Return what the next frame holds, or None where more of it has to come.

        :raises MalformedError: longer than allowed; the connection can't go on.
        """
        body = self._at + HEADER
        if len(self._held) < body:
            return None
        end = body + frame_length(bytes(self._held[self._at : body]), self._most)
        if len(self._held) < end:
            return None
        self._at = end
        return bytes(self._held[body:end])


def call(number: int, operation: str, members: Mapping[str, Json]) -> bytes:
    """Write a request.

    :raises MalformedError: as :func:`frame`.
    """
    return frame({**members, "id": number, "op": operation}, MAX_CALL)


def read_call(data: bytes) -> Call:
    """Parse a request's head.

    :raises MalformedError: not a request.
    """
    fields = Fields(parse(data, max_bytes=MAX_CALL), "call")
    number = fields.integer("id", most=MAX_ID)
    return Call(number, fields.text("op", max_length=64), fields)


def answer(number: int, result: dict[str, Json]) -> bytes:
    """Write a good answer."""
    return frame({"id": number, "ok": result})


def refusal(number: int, error: StrongroomError) -> bytes:
    """Write an error."""
    return frame({"id": number, "error": tell_error(error)})


def read_answer(data: bytes) -> tuple[int, Json | StrongroomError]:
    """Parse an answer; an error comes back as the exception that the other process raised, not raised.

    :raises MalformedError: not an answer.
    """
    with reading(parse(data, max_bytes=MAX_FRAME), "answer") as fields:
        number = fields.integer("id", most=MAX_ID)
        if not fields.optional("error"):
            return number, fields.value("ok")
        with fields.child("error") as error:
            return number, read_error(error)


def tell_error(error: StrongroomError) -> dict[str, Json]:
    """Return an error as JSON: its codes from the finest to the root's, its reason and its texts."""
    return {
        "kinds": [*error.kinds()],
        "reason": _plain(error.reason)[:_MAX_REASON],
        "message": _plain(error.message),
        "remedy": _plain(error.remedy),
    }


def read_error(fields: Fields) -> StrongroomError:
    """Read what :func:`tell_error` wrote.

    :raises MalformedError: another form.
    """
    return told_error(
        fields.texts("kinds", most=16),
        fields.text("reason", max_length=_MAX_REASON),
        fields.text("message", max_length=_MAX_TEXT),
        fields.text("remedy", max_length=_MAX_TEXT),
    )


def told_error(kinds: Sequence[str], reason: str, message: str, remedy: str) -> StrongroomError:
    """Make the error that another process told of: of the finest class known here; at worst, unavailable."""
    known = {kind.code: kind for kind in _classes()}
    found = next((known[code] for code in kinds if code in known), UnavailableError)
    error = StrongroomError.__new__(found)
    StrongroomError.__init__(error, message, remedy=remedy, reason=reason)
    return error


def _classes() -> Iterator[type[StrongroomError]]:
    # Of two classes with one code the nearer to the root is kept: it was there first.
    waiting: list[type[StrongroomError]] = [StrongroomError]
    for kind in waiting:
        waiting.extend(kind.__subclasses__())
    yield from reversed([kind for kind in waiting if "code" in vars(kind)])


def _plain(text: str) -> str:
    """Return text as one line that a frame carries: no control characters, no half of a letter, not too long."""
    whole = text[:_MAX_TEXT].encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c >= " " and c != "\x7f" else "; " if c == "\n" else "?" for c in whole)[:_MAX_TEXT]
