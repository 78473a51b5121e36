"""Several files as one sequence of bytes: what goes into a workspace, and what comes out. Pure.

One content has one form: no times, no owners, no modes, no padding, names in order. So two archives with one digest
say the same, an archive that leaves a second time says nothing new, and nothing can be hidden beside what is counted.
It is read strictly: what it holds was written by code that nobody trusts.

::

    strongroom-archive/v1 LF | header length, 4 bytes, big-endian | header, canonical JSON | the files, in turn
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from strongroom.core.canonical import MAX_INTEGER, Json, decode, encode
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

MAGIC: Final = b"strongroom-archive/v1\n"
LENGTH: Final = 4
MAX_ARCHIVE: Final = 256 << 20
"""Bytes of any archive."""
MAX_FILES: Final = 4096
MAX_HEADER: Final = 4 << 20
MAX_DEPTH: Final = 7
MAX_PART: Final = 255
MAX_NAME: Final = 1024
MAX_FACTS: Final = 16
_FACT: Final = re.compile(r"[a-z](?:[a-z-]{0,30}[a-z])?")


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """One file: a relative name, written with ``/``, and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Files in the order of their names, and a few numbers about them.

    :raises MalformedError: (construction) a name that isn't taken or comes twice, one file's name is another's folder,
        too many files, or a fact that isn't a short name and an integer of at least 0.
    """

    files: tuple[ArchivedFile, ...]
    facts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [one.name for one in self.files]
        if len(names) > MAX_FILES:
            raise MalformedError(f"an archive has at most {MAX_FILES} files")
        for name in names:
            check_name(name)
        if names != sorted(set(names)):
            raise MalformedError("an archive's files stand in the order of their names, each once")
        folders = {name[:at] for name in names for at, letter in enumerate(name) if letter == "/"}
        if not folders.isdisjoint(names):
            raise MalformedError("an archive has a file whose name is also a folder's")
        if len(self.facts) > MAX_FACTS or not all(
            _FACT.fullmatch(name) and 0 <= value <= MAX_INTEGER for name, value in self.facts.items()
        ):
            raise MalformedError(f"an archive has at most {MAX_FACTS} facts: short names and integers")

    @classmethod
    def of(cls, files: Iterable[ArchivedFile], facts: Mapping[str, int] | None = None) -> Archive:
        """Return an archive of files in any order; raises as the construction does."""
        return cls(files=tuple(sorted(files, key=lambda one: one.name)), facts=facts or {})

    @classmethod
    def parse(cls, data: bytes) -> Archive:
        """Read the bytes of an archive.

        :raises MalformedError: another form, or bytes left over.
        """
        start = len(MAGIC) + LENGTH
        if len(data) > MAX_ARCHIVE or not data.startswith(MAGIC) or len(data) < start:
            raise MalformedError(f"an archive begins with its mark, and has at most {MAX_ARCHIVE} bytes")
        length = int.from_bytes(data[len(MAGIC) : start], "big")
        at = start + length
        if length > MAX_HEADER or at > len(data):
            raise MalformedError("an archive's header is longer than it may be, or than there is")
        with Fields(decode(data[start:at], max_bytes=MAX_HEADER), "archive") as fields:
            fields.constant("v", 1)
            sizes = fields.objects("files", _size, most=MAX_FILES)
            with fields.child("facts") as child:
                facts = {name: child.integer(name) for name in child.names(most=MAX_FACTS)}
        # Compared before anything is cut: a header of a kilobyte must not ask for terabytes.
        if sum(size for _name, size in sizes) != len(data) - at:
            raise MalformedError("an archive's files aren't as long as its header says")
        files = []
        for name, size in sizes:
            files.append(ArchivedFile(name, data[at : at + size]))
            at += size
        return cls(files=tuple(files), facts=facts)

    def to_bytes(self) -> bytes:
        """Return the one form.

        :raises MalformedError: longer than an archive may be.
        """
        files: list[Json] = [{"name": one.name, "size": len(one.data)} for one in self.files]
        header = encode({"v": 1, "files": files, "facts": dict(self.facts)})
        data = b"".join((MAGIC, len(header).to_bytes(LENGTH, "big"), header, *(one.data for one in self.files)))
        if len(header) > MAX_HEADER or len(data) > MAX_ARCHIVE:
            raise MalformedError(f"an archive has at most {MAX_ARCHIVE} bytes")
        return data


def check_name(name: str) -> None:
    """Check a file's name: relative, no empty or dotted part, nothing that a terminal or a path could take otherwise.

    :raises MalformedError: any of these, too deep, or too long.
    """
    parts = name.split("/")
    if len(parts) > MAX_DEPTH or len(name) > MAX_NAME:
        raise MalformedError("an archive has a name that is too deep or too long")
    for part in parts:
        if part in {"", ".", ".."} or not part.isprintable() or "\\" in part:
            raise MalformedError("an archive has a name that no file may have")
        # Printable text holds no half of a surrogate pair, so this can't fail.
        if len(part.encode()) > MAX_PART:
            raise MalformedError("an archive has a name that is too long")


def _size(fields: Fields) -> tuple[str, int]:
    return fields.text("name", max_length=MAX_NAME), fields.integer("size", most=MAX_ARCHIVE)
