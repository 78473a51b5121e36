"""Whether every reference in a set of OSCAL documents leads somewhere. No schema says so, and validators don't look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError

_NAMES: Final = frozenset({"uuid", "id"})
_ONE: Final = frozenset(
    {
        "observation-uuid",
        "risk-uuid",
        "finding-uuid",
        "subject-uuid",
        "actor-uuid",
        "target-id",
        "control-id",
        "statement-id",
    }
)
_MANY: Final = frozenset({"with-ids", "party-uuids"})
_PLACES: Final = frozenset({"href", "source"})
_FOREIGN: Final = "system-id"
"""Its ``id`` names the deployment, and nothing refers to it."""


class DanglingReferenceError(MalformedError):
    """An OSCAL document points to what isn't there, or names two things alike."""

    code = "reference-dangling"


def check_references(documents: Mapping[str, Json]) -> None:
    """Check that all references of the documents end in one of them.

    :param documents: by file name.
    :raises DanglingReferenceError: one doesn't, or one id stands for two things.
    """
    members = [member for document in documents.values() for member in _members(document)]
    known: set[str] = set()
    for name, value in members:
        if name in _NAMES and isinstance(value, str):
            if value in known:
                raise DanglingReferenceError(f"two things are called `{value[:64]}`")
            known.add(value)
    for name, value in members:
        for wanted in _wanted(name, value):
            if wanted.removeprefix("#") not in known and wanted not in documents:
                raise DanglingReferenceError(f"`{name}` points to `{wanted[:64]}`, which isn't there")


def _members(value: Json) -> Iterator[tuple[str, Json]]:
    """Yield every member of every object."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name != _FOREIGN:
                yield name, inner
                yield from _members(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _members(inner)


def _wanted(name: str, value: Json) -> Iterator[str]:
    if name in _ONE or name in _PLACES:
        yield from (value,) if isinstance(value, str) else ()
    elif name in _MANY and isinstance(value, list):
        yield from (one for one in value if isinstance(one, str))
