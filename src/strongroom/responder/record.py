"""The responder's own record: what it was told and what it did, one line each, chained, so that a gap is seen. Pure.

The freeze itself stands in the deployment's log. This says why, and it is there when the keeper can't be reached.

Old files of it may be put aside: a line says where what is left begins, before anything is taken away.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, TamperedError
from strongroom.core.fields import Fields
from strongroom.detection.matching import Value, View

FIRST: Final = Digest.of(b"strongroom responder record v1")
MAX_LINE: Final = 131_072
MAX_EVENT: Final = 32_768
"""Bytes of a recorded event: whoever can write one mustn't write a line that no start reads back."""
MAX_VALUE: Final = 512
MAX_FIELDS: Final = 32


class RecordBrokenError(TamperedError):
    """A line of the responder's record was taken out, put in or changed."""

    code = "responder-record-broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line that is on the disk: its number, from 0, and its digest."""

    serial: int
    digest: Digest


def record_line(before: Digest, serial: int, facts: dict[str, Json]) -> bytes:
    """Return a line, without its newline, that follows the line whose digest is ``before``.

    :raises MalformedError: it would be longer than :data:`MAX_LINE`: nobody could read it back.
    """
    line = encode({"serial": serial, "before": str(before), "facts": facts})
    if len(line) > MAX_LINE:
        raise MalformedError(f"a line of the record has at most {MAX_LINE} bytes")
    return line


def event_json(event: View) -> dict[str, Json]:
    """Return an event as it is recorded: an attacker wrote it, so it is cut to what a person reads."""
    told, room = dict[str, Json](), MAX_EVENT
    for name, value in list(event.items())[:MAX_FIELDS]:
        field, said = plain_text(name, 64), _told(value)
        size = len(encode([field, said]))
        if size <= room:
            # What is small still stands behind what is long.
            told[field], room = said, room - size
    return told


def archived_facts(lines: int, last: Digest) -> dict[str, Json]:
    """Return the facts of the line by which the first ``lines`` lines may be taken away; ``last`` is their last's."""
    return {"archived": {"lines": lines, "last": str(last)}}


def check_record(lines: Iterable[bytes]) -> tuple[int, Digest]:
    """Check a whole record; returns how many lines it has, those put aside too, and the digest of the last.

    :raises RecordBrokenError: a line isn't the one that was written there, or one is gone that no later one says was
        put aside.
    """
    count, before = 0, FIRST
    begins: tuple[int, Digest] | None = None
    may_begin = {(count, before)}
    for line in lines:
        try:
            serial, said, archived = _read(line)
        except MalformedError:
            raise RecordBrokenError(f"line {count} of the record can't be read") from None
        if begins is None:
            begins = count, before = serial, said
        if (serial, said) != (count, before):
            raise RecordBrokenError(f"line {count} of the record doesn't follow the one before")
        may_begin |= archived
        count, before = count + 1, Digest.of(line)
    if begins is not None and begins not in may_begin:
        raise RecordBrokenError(
            f"the first {begins[0]} lines of the record are gone, and none says that they were put aside"
        )
    return count, before


def _read(line: bytes) -> tuple[int, Digest, set[tuple[int, Digest]]]:
    """Return a line's number, the digest before it, and where it lets the record begin."""
    with Fields(decode(line, max_bytes=MAX_LINE), "record") as fields:
        serial, said, facts = fields.integer("serial"), fields.digest("before"), fields.value("facts")
    if not isinstance(facts, dict) or "archived" not in facts:
        return serial, said, set()
    with Fields(facts["archived"], "archived") as archived:
        return serial, said, {(archived.integer("lines"), archived.digest("last"))}


def _told(value: Value) -> Json:
    if isinstance(value, tuple):
        return [_told(item) for item in value[:8]]
    if isinstance(value, float):
        return repr(value)[:32]
    if isinstance(value, str):
        return plain_text(value, MAX_VALUE)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 1 << 53:
        return str(value)[:MAX_VALUE]
    return value


def plain_text(text: str, most: int) -> str:
    """Return a text, cut, that can be encoded: half a letter (a lone surrogate) has no bytes to be signed."""
    return text[:most].encode("utf-8", "replace").decode("utf-8")
