"""Rules about a delivered folder, before anything in it is read: what it may hold, and how things may be called.

Signatures over models leave some paths out (`.git` and others), and what they leave out still lies in the folder. Here
nothing lies in it that isn't looked at: whoever wants to leave something out names it, and it isn't taken in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.intake.rules import IntakeRefusedError, Rule, shown

MAX_FILES: Final = 10_000
MAX_NAME: Final = 512
MAX_PART: Final = 255
MAX_DEPTH: Final = 8
MAX_FILE: Final = 1 << 44
MAX_DELIVERY: Final = 1 << 46
_FOREIGN: Final = frozenset('\\:*?"<>|')
_IGNORED: Final = frozenset(
    {".git", ".gitignore", ".gitattributes", ".gitmodules", ".github", ".hg", ".svn", ".cache", ".ds_store"}
    | {"__pycache__", "thumbs.db"}
)
"""What tools put there by themselves, and signers leave out."""


class EntryKind(StrEnum):
    """What a name in the folder is."""

    FILE = "file"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One name in the folder, relative to it; folders themselves aren't listed."""

    name: str
    kind: EntryKind
    size: int
    links: int
    """How many names the file has."""


def check_folder(entries: Iterable[Entry], *, leave_out: frozenset[str] = frozenset()) -> tuple[Entry, ...]:
    """Return the files to take in, sorted by name; ``leave_out`` are names of files and folders that aren't taken in.

    :raises IntakeRefusedError: link, special-file, unsafe-name, confusable-name, name-collision, ignored-path,
        hidden-file, too-many-files or too-large.
    """
    taken = [one for one in entries if not _left_out(one.name, leave_out)]
    if not taken or len(taken) > MAX_FILES:
        raise IntakeRefusedError(Rule.TOO_MANY_FILES, f"{len(taken)} files; a delivery has 1 to {MAX_FILES}")
    for one in taken:
        check_name(one.name)
        _check_entry(one)
    check_distinct(one.name for one in taken)
    if sum(one.size for one in taken) > MAX_DELIVERY:
        raise IntakeRefusedError(Rule.TOO_LARGE, f"the delivery has more than {MAX_DELIVERY} bytes")
    return tuple(sorted(taken, key=lambda one: one.name))


def _left_out(name: str, leave_out: frozenset[str]) -> bool:
    parts = name.split("/")
    return any("/".join(parts[:depth]) in leave_out for depth in range(1, len(parts) + 1))


def _check_entry(entry: Entry) -> None:
    if entry.kind is EntryKind.LINK:
        raise IntakeRefusedError(
            Rule.LINK, f"{shown(entry.name)} is a symbolic link", remedy="put the file itself there (`cp -L`)"
        )
    if entry.kind is not EntryKind.FILE:
        raise IntakeRefusedError(Rule.SPECIAL_FILE, f"{shown(entry.name)} is a device, a pipe or a socket")
    if entry.links != 1:
        # Somebody who holds the other name could change the file while it is read.
        raise IntakeRefusedError(
            Rule.LINK, f"{shown(entry.name)} has {entry.links} names (hard links)", remedy="copy the file"
        )
    if not 0 <= entry.size <= MAX_FILE:
        raise IntakeRefusedError(Rule.TOO_LARGE, f"{shown(entry.name)} has more than {MAX_FILE} bytes")


def check_name(name: str) -> None:
    """Check a relative path: plain ASCII, so that it has one spelling and looks like no other.

    :raises IntakeRefusedError: unsafe-name, confusable-name, ignored-path or hidden-file.
    """
    parts = name.split("/")
    if len(name) > MAX_NAME or len(parts) > MAX_DEPTH or any(len(part) > MAX_PART for part in parts):
        raise IntakeRefusedError(Rule.UNSAFE_NAME, f"{shown(name)} is too long or too deep")
    if not name.isascii():
        # Letters that look alike, letters that are written in two ways, marks that reverse text: all outside ASCII.
        raise IntakeRefusedError(
            Rule.CONFUSABLE_NAME, f"{shown(name)} has a character outside ASCII", remedy="rename the file"
        )
    for part in parts:
        if part in {"", ".", ".."} or not part.isprintable() or _FOREIGN & set(part) or part[-1] in {".", " "}:
            raise IntakeRefusedError(Rule.UNSAFE_NAME, f"{shown(name)} isn't a plain relative path")
        if part.lower() in _IGNORED:
            raise IntakeRefusedError(
                Rule.IGNORED_PATH,
                f"{shown(name)} is of a kind that signatures leave out",
                remedy="remove it, or say that it is to be left out",
            )
        if part.startswith("."):
            raise IntakeRefusedError(
                Rule.HIDDEN_FILE, f"{shown(name)} is hidden", remedy="remove it, or say that it is to be left out"
            )


def check_distinct(names: Iterable[str]) -> None:
    """Check that no two names are one where case doesn't count, and that no file is a folder too.

    :raises IntakeRefusedError: name-collision.
    """
    files: set[str] = set()
    folders: dict[str, str] = {}
    for name in names:
        if name.lower() in files:
            raise IntakeRefusedError(Rule.NAME_COLLISION, f"{shown(name)} is there twice, up to case")
        files.add(name.lower())
        parts = name.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folders.setdefault(folder.lower(), folder) != folder:
                raise IntakeRefusedError(Rule.NAME_COLLISION, f"folder {shown(folder)} is there twice, up to case")
    for name in files & folders.keys():
        raise IntakeRefusedError(Rule.NAME_COLLISION, f"{shown(name)} is a file and a folder")
