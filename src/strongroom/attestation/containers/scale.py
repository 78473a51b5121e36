"""dstack's attestations, which are in SCALE: one maker's statement, then what was logged of the guest."""

from __future__ import annotations

from typing import Final

from strongroom.attestation.containers.contained import MAX_FILE
from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader

_MAX_EVENTS: Final = 4096
_MAX_PART: Final = 256 * 1024
_REPORT_DATA: Final = 64


def begun(data: bytes, kind: bytes, most: int) -> tuple[Reader, bytes] | None:
    """Return a reader behind the statement, and the statement of at most ``most`` bytes; None for another file.

    :param kind: the two bytes that an attestation with such a statement begins with; alone they claim nothing.
    """
    if not data.startswith(kind):
        return None
    reader = Reader(data, "dstack attestation", max_bytes=MAX_FILE, order="little")
    reader.take(len(kind))
    try:
        return reader, reader.take(compact_length(reader, most))
    except MalformedError:
        return None


def pass_part(reader: Reader) -> None:
    """Pass over one part whose length is told.

    :raises MalformedError: cut, or too long.
    """
    reader.take(compact_length(reader, _MAX_PART))


def pass_events(reader: Reader, parts: int, *, fixed: int = 0) -> None:
    """Pass over events of ``parts`` parts each, behind ``fixed`` bytes.

    :raises MalformedError: cut, too many, or too long.
    """
    for _event in range(compact_length(reader, _MAX_EVENTS)):
        reader.take(fixed)
        for _part in range(parts):
            pass_part(reader)


def ended(reader: Reader) -> bytes:
    """Pass over the guest's own events (name, payload) and the configuration behind them; returns the report data.

    :raises MalformedError: cut, too long, or something follows.
    """
    pass_events(reader, 2)
    stated = reader.take(_REPORT_DATA)
    pass_part(reader)
    reader.end()
    return stated


def compact_length(reader: Reader, most: int) -> int:
    """Take a compact integer: the two low bits of its first byte say that it has one, two or four bytes.

    :raises MalformedError: cut, above ``most``, or spelt longer than it needs.
    """
    first = reader.integer(1)
    match first & 3:
        case 0:
            length, least = first >> 2, 0
        case 1:
            length, least = (first | reader.integer(1) << 8) >> 2, 1 << 6
        case 2:
            length, least = (first | reader.integer(3) << 8) >> 2, 1 << 14
        case _:
            raise MalformedError(f"`{reader.where}` holds a length above its bound")
    if not least <= length <= most:
        raise MalformedError(f"`{reader.where}` holds a length of {length}; at most {most} are read, spelt shortest")
    return length
