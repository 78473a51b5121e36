"""The bundle as a file, version 1 (docs/spec/collateral-bundle.md): canonical JSON, so that one bundle has one digest.

Names are in the file for people and for programs that don't read certificates; they are compared with the data. Dates
aren't in it at all: they are read from the data, each time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from strongroom.attestation.bundle.reading import MAX_ITEM, ReadItem, read_item
from strongroom.attestation.collateral import MAX_ITEMS, MAX_NAME, Collateral, CollateralKind
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

MAX_DATA: Final = 16 * 1024 * 1024
"""Bytes of all items' data together."""
MAX_BUNDLE: Final = 24 * 1024 * 1024
"""Bytes of the file: base64 makes a third more of the data, and each item has a name."""
_MAX_MARKS: Final = MAX_ITEMS * (MAX_NAME + 8)
"""Commas and opening brackets: those of each item, and what its name may consist of."""


@dataclass(frozen=True)
class Bundle:
    """Items, sorted by kind, name and digest, none twice. Not slotted: what is derived is kept.

    :raises MalformedError: more items or data than a bundle may have.
    """

    items: tuple[ReadItem, ...]

    def __post_init__(self) -> None:
        if len(self.items) > MAX_ITEMS or sum(len(read.item.data) for read in self.items) > MAX_DATA:
            raise MalformedError(f"a bundle has at most {MAX_ITEMS} items, and {MAX_DATA} bytes of data")

    @classmethod
    def of(cls, items: Iterable[ReadItem]) -> Bundle:
        """Make a bundle of items in any order; one that is there twice counts once."""
        return cls(tuple(one for _key, one in sorted({_key(read): read for read in items}.items())))

    @classmethod
    def parse(cls, data: bytes) -> Bundle:
        """Read a bundle's file.

        :raises MalformedError: too long, another form, an item that can't be read or isn't what its name says, or items
            out of order.
        """
        require_few_values(data)
        with Fields(decode(data, max_bytes=MAX_BUNDLE), "bundle") as fields:
            fields.constant("v", 1)
            bundle = cls(fields.objects("items", _read, most=MAX_ITEMS))
        keys = [_key(read) for read in bundle.items]
        if sorted(set(keys)) != keys:
            raise MalformedError("a bundle's items are sorted by kind, name and digest, and none stands there twice")
        return bundle

    def to_bytes(self) -> bytes:
        """Return the file's bytes."""
        items: list[Json] = [
            {"kind": read.item.kind.value, "name": read.item.name, "data": to_base64(read.item.data)}
            for read in self.items
        ]
        return encode({"v": 1, "items": items})

    @cached_property
    def digest(self) -> Digest:
        """SHA-256 of the file's bytes: how results and log entries name this bundle."""
        return Digest.of(self.to_bytes())

    @cached_property
    def collateral(self) -> Collateral:
        """What verifiers are given."""
        return Collateral(tuple(read.item for read in self.items))


EMPTY: Final = Bundle(())


def require_few_values(data: bytes) -> None:
    """Count values before they are parsed: an empty array is two bytes in a file, and fifty times that in memory.

    :raises MalformedError: JSON of more values than a bundle can have.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > _MAX_MARKS:
        raise MalformedError("the JSON has more values than a bundle can have")


def _key(read: ReadItem) -> tuple[str, str, str]:
    return read.item.kind.value, read.item.name, str(read.item.digest)


def _read(fields: Fields) -> ReadItem:
    kind = fields.parsed("kind", CollateralKind)
    name = fields.text("name", max_length=MAX_NAME)
    if not name:
        raise MalformedError(f"`{fields.where}.name` is empty")
    return read_item(kind, fields.binary("data", max_length=MAX_ITEM), name=name)
