"""The log writer's socket protocol: u32 length, then JSON; many requests at once, told apart by their id.

Request ``{"id": 7, "op": "append", ...}``; answer ``{"id": 7, "ok": {...}}`` or ``{"id": 7, "error": {...}}``.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.audit import errors
from strongroom.core import errors as core_errors
from strongroom.core.canonical import Json, parse
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.core.fields import Fields, reading

MAX_FRAME: Final = 1 << 20
HEADER: Final = 4
MAX_READ: Final = 256
MAX_READ_BYTES: Final = 512 * 1024
_ID_LIMIT: Final = 2**53 - 1


class Operation(StrEnum):
    """What can be asked of the log writer."""

    APPEND = "append"
    READ = "read"
    HEAD = "head"
    PROVE_INCLUSION = "prove-inclusion"
    PROVE_CONSISTENCY = "prove-consistency"
    FLUSH = "flush"


@dataclass(frozen=True, slots=True)
class Request:
    """One request; ``fields`` still holds the operation's own members."""

    id: int
    operation: Operation
    fields: Fields


@dataclass(frozen=True, slots=True)
class Head:
    """The state of the log, and the counter that the keeper's next entry must carry."""

    size: int
    checkpoint: bytes | None
    next_seq: int
    halted: bool


def frame(value: Json) -> bytes:
    """Write one frame.

    :raises MalformedError: larger than a frame may be.
    """
    # Framing is not signed: the plain encoder serves, with sorted names so that equal messages are equal bytes.
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    if len(data) > MAX_FRAME:
        raise MalformedError(f"a message has {len(data)} bytes; at most {MAX_FRAME} are sent")
    return struct.pack(">I", len(data)) + data


def frame_length(header: bytes) -> int:
    """Read a frame's length.

    :raises MalformedError: longer than allowed; the connection can't go on.
    """
    length = int.from_bytes(header, "big")
    if len(header) != HEADER or not 0 < length <= MAX_FRAME:
        raise MalformedError(f"a message has 1 to {MAX_FRAME} bytes")
    return length


def read_request(data: bytes) -> Request:
    """Parse a request's head.

    :raises MalformedError: not a request.
    """
    fields = Fields(parse(data, max_bytes=MAX_FRAME), "request")
    number = fields.integer("id", most=_ID_LIMIT)
    return Request(number, fields.parsed("op", Operation), fields)


def answer(number: int, result: dict[str, Json]) -> bytes:
    """Write a good answer."""
    return frame({"id": number, "ok": result})


def refusal(number: int, error: StrongroomError) -> bytes:
    """Write an error."""
    told: dict[str, Json] = {
        "code": error.code,
        "reason": error.reason,
        "message": error.message,
        "remedy": error.remedy,
    }
    return frame({"id": number, "error": told})


def read_answer(data: bytes) -> tuple[int, Fields | StrongroomError]:
    """Parse an answer; an error comes back as the exception that the log writer raised, not raised.

    :raises MalformedError: not an answer.
    """
    with reading(parse(data, max_bytes=MAX_FRAME), "answer") as fields:
        number = fields.integer("id", most=_ID_LIMIT)
        if fields.optional("error"):
            return number, _error(fields.child("error"))
        return number, fields.child("ok")


def _known() -> dict[str, type[StrongroomError]]:
    found: dict[str, type[StrongroomError]] = {}
    for module in (core_errors, errors):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, StrongroomError) and "code" in vars(value):
                found[value.code] = value
    return found


_BY_CODE: Final = _known()


def _error(fields: Fields) -> StrongroomError:
    code, reason = fields.text("code"), fields.text("reason")
    message, remedy = fields.text("message", max_length=4096), fields.text("remedy", max_length=4096)
    fields.end()
    # A code of a newer log writer is still a refusal: what can't be named is unavailable.
    error = _BY_CODE.get(code, UnavailableError)(message, remedy=remedy)
    error.reason = reason
    return error


def write_entries(entries: tuple[bytes, ...]) -> Json:
    """Return entries as the JSON list that frames carry."""
    return [to_base64(entry) for entry in entries]


def read_entries(fields: Fields, *, most: int) -> tuple[bytes, ...]:
    """Take the list ``entries``.

    :raises MalformedError: not a list of base64 texts.
    """
    return tuple(_binary(where, item, 88_000) for where, item in fields.items("entries", most=most))


def _binary(where: str, item: Json, most: int) -> bytes:
    if not isinstance(item, str) or len(item) > most:
        raise MalformedError(f"`{where}` must be base64 text of at most {most} characters")
    return from_base64(item)


def write_hashes(hashes: tuple[bytes, ...]) -> Json:
    """Return a proof as the JSON list that frames carry."""
    return [to_base64(value) for value in hashes]


def read_hashes(fields: Fields) -> tuple[bytes, ...]:
    """Take the list ``proof``.

    :raises MalformedError: not a list of base64 texts.
    """
    return tuple(_binary(where, item, 44) for where, item in fields.items("proof", most=128))
