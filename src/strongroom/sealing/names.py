"""Names of a model's files: relative POSIX paths that mean one file, inside the directory, on every file system."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

from strongroom.sealing.errors import NameCollisionError, UnsafeNameError

MAX_NAME_BYTES: Final = 1024
MAX_PART_BYTES: Final = 255
MAX_DEPTH: Final = 16
_FOREIGN: Final = frozenset('\\:*?"<>|')
"""Separators, streams and wildcards elsewhere: a name with one of them is another path on another system."""


def file_name(text: str) -> str:
    """Check and return a name, e.g. ``1_Pooling/config.json``.

    :raises UnsafeNameError: absolute, empty or dotted parts, control, invisible or foreign characters, too long or
        too deep.
    """
    parts = text.split("/")
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise UnsafeNameError("a file name isn't UTF-8", remedy="rename the file") from None
    if len(encoded) > MAX_NAME_BYTES or len(parts) > MAX_DEPTH:
        raise UnsafeNameError(f"a file name has more than {MAX_NAME_BYTES} bytes or {MAX_DEPTH} parts")
    for part in parts:
        if part in {"", ".", ".."} or len(part.encode()) > MAX_PART_BYTES:
            raise UnsafeNameError(f"{_shown(text)} has an empty, dotted or overlong part", remedy="rename the file")
        # Trailing dots and spaces vanish on some systems: two names would become one file.
        if not part.isprintable() or _FOREIGN & set(part) or part.endswith((".", " ")):
            raise UnsafeNameError(
                f"{_shown(text)} has a character that isn't safe in a file name", remedy="rename the file"
            )
    return text


def check_distinct(names: Iterable[str]) -> None:
    """Check that no two names are one file where case or composition doesn't count, and that no file is a folder too.

    :raises NameCollisionError: two such names.
    """
    spelled: dict[str, str] = {}
    files: set[str] = set()
    folders: set[str] = set()
    for name in names:
        parts = name.split("/")
        prefixes = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        for prefix in prefixes:
            if spelled.setdefault(_folded(prefix), prefix) != prefix:
                raise NameCollisionError(
                    f"{_shown(prefix)} and {_shown(spelled[_folded(prefix)])} are one name on some file systems",
                    remedy="rename one of them",
                )
        if name in files:
            raise NameCollisionError(f"{_shown(name)} is there twice")
        files.add(name)
        folders.update(prefixes[:-1])
    for name in files & folders:
        raise NameCollisionError(f"{_shown(name)} is a file and a folder")


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKD", text).casefold())


def _shown(text: str) -> str:
    # ASCII only, and short: a hostile name must not write on the reader's terminal.
    return "`" + ascii(text[:80])[1:-1] + "`"
