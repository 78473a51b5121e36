"""The CSV file of people from a personnel system: read strictly, compared with the directory, never raising anybody."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from strongroom.broker.people.errors import ListingError
from strongroom.broker.people.scim_users import PERSON_SCHEMA, lowered, names_of, text_of
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.core.ids import PersonId, person_id
from strongroom.personnel.lifecycle import Employment

HEADER: Final = ("person", "employment", "unit")
MAX_FILE: Final = 1 << 20
MAX_LINES: Final = 10_000
MAX_UNIT: Final = 64
MAX_FAULTS: Final = 20
ENTERPRISE_SCHEMA: Final = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
_USER_SCHEMA: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
_PATCH_SCHEMA: Final = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
_FORMULA: Final = ("=", "+", "-", "@")
"""What a spreadsheet takes for a formula: such a cell could run in the hands of who opens our file or our report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One person's line. ``number`` is where it stands in the file, from 1; ``unit`` may be empty."""

    number: int
    person: PersonId
    employment: Employment
    unit: str


class ChangeKind(StrEnum):
    """What a line amounts to."""

    LOWER = "lower"
    """The person is suspended."""
    SAME = "same"
    """The directory says so already."""
    NOT_RAISED = "not-raised"
    """The file says active, the directory doesn't: only officers bring somebody back."""
    MOVED = "moved"
    """Another unit than the directory's: a matter for the vetting officers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A line, what it amounts to, and the directory's records (ids) that it is about; none where one is to be made."""

    line: Line
    kind: ChangeKind
    records: tuple[str, ...]


def read_listing(data: bytes) -> tuple[Line, ...]:
    """Read a file's bytes: UTF-8, the header ``person,employment,unit``, then a line for each person.

    :raises ListingError: anything else; the message names each bad line, and none of the file is used.
    """
    if len(data) > MAX_FILE:
        raise ListingError(f"the file has more than {MAX_FILE} bytes")
    try:
        # Spreadsheets begin UTF-8 with a byte order mark.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ListingError("the file isn't UTF-8 text", remedy="save it as CSV UTF-8") from None
    faults: list[str] = []
    lines: dict[PersonId, Line] = {}
    for number, cells in _rows(text):
        try:
            line = _line(number, cells)
            if line.person in lines:
                raise MalformedError(f"`{line.person}` stands in line {lines[line.person].number} already")
            lines[line.person] = line
        except MalformedError as error:
            faults.append(f"line {number}: {error.message}")
    if faults:
        more = f"; and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
        raise ListingError("; ".join(faults[:MAX_FAULTS]) + more, remedy="mend the file; none of it was used")
    return tuple(lines.values())


def _rows(text: str) -> Iterator[tuple[int, Sequence[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        if tuple(next(reader, ())) != HEADER:
            raise ListingError(f"line 1: it must be `{','.join(HEADER)}`")
        for cells in reader:
            if reader.line_num > MAX_LINES:
                raise ListingError(f"the file has more than {MAX_LINES} lines")
            yield reader.line_num, cells
    except csv.Error:
        raise ListingError(f"line {reader.line_num}: it isn't CSV") from None


def _line(number: int, cells: Sequence[str]) -> Line:
    if len(cells) != len(HEADER):
        raise MalformedError(f"it has {len(cells)} cells, not {len(HEADER)}")
    if any(cell.startswith(_FORMULA) for cell in cells):
        raise MalformedError("a cell begins like a spreadsheet's formula")
    if any(not character.isprintable() for cell in cells for character in cell):
        raise MalformedError("a cell holds a control character")
    person, employment, unit = cells
    if len(unit) > MAX_UNIT:
        raise MalformedError(f"the unit has more than {MAX_UNIT} characters")
    try:
        standing = Employment(employment)
    except ValueError:
        raise MalformedError(f"the employment must be one of {', '.join(Employment)}") from None
    return Line(number=number, person=person_id(person), employment=standing, unit=unit)


def changes(lines: Iterable[Line], users: Iterable[Mapping[str, Any]]) -> tuple[Change, ...]:
    """Return what each line amounts to, beside the directory's users (their SCIM JSON)."""
    by_name: dict[PersonId, list[Mapping[str, Any]]] = {}
    for user in users:
        for name in names_of(user):
            by_name.setdefault(name, []).append(user)
    return tuple(_change(line, by_name.get(line.person, [])) for line in lines)


def _change(line: Line, users: Sequence[Mapping[str, Any]]) -> Change:
    if line.employment is not Employment.ACTIVE:
        wrong = [user for user in users if not _says(user, line.employment)]
        kind = ChangeKind.LOWER if wrong or not users else ChangeKind.SAME
        return Change(line=line, kind=kind, records=_ids(wrong))
    if any(lowered(user) is not None for user in users):
        return Change(line=line, kind=ChangeKind.NOT_RAISED, records=_ids(users))
    moved = any(_unit(user) not in (None, line.unit) for user in users)
    return Change(line=line, kind=ChangeKind.MOVED if moved else ChangeKind.SAME, records=_ids(users))


def _says(user: Mapping[str, Any], employment: Employment) -> bool:
    return lowered(user) is employment.cause and user.get("active") is False


def _ids(users: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(found for user in users if (found := text_of(user, "id")))


def _unit(user: Mapping[str, Any]) -> str | None:
    found = user.get(ENTERPRISE_SCHEMA)
    return text_of(found, "department") if isinstance(found, Mapping) else None


def patch_of(line: Line) -> Json:
    """Return the SCIM PATCH that carries a lowering into a user."""
    told: list[tuple[str, Json]] = [
        ("active", False),
        (f"{PERSON_SCHEMA}:employment", line.employment.value),
        *([(f"{ENTERPRISE_SCHEMA}:department", line.unit)] if line.unit else []),
    ]
    return {
        "schemas": [_PATCH_SCHEMA],
        "Operations": [{"op": "replace", "path": path, "value": value} for path, value in told],
    }


def user_of(line: Line) -> Json:
    """Return the SCIM user that a lowering makes where the directory has none."""
    user: dict[str, Json] = {
        "schemas": [_USER_SCHEMA, PERSON_SCHEMA],
        "userName": line.person,
        "active": False,
        PERSON_SCHEMA: {"personId": line.person, "employment": line.employment.value},
    }
    if line.unit:
        user["schemas"] = [_USER_SCHEMA, PERSON_SCHEMA, ENTERPRISE_SCHEMA]
        user[ENTERPRISE_SCHEMA] = {"department": line.unit}
    return user
