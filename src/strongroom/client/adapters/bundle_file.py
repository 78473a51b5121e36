"""One file for an auditor: the log, what it names, an assessment and the statements that it rests on, as a zip.

The file vouches for nothing: whoever reads it verifies the log by a genesis that they know, and all else by the log.
"""

from __future__ import annotations

import errno
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from strongroom.core.errors import MalformedError, UsageError

MAX_FILES: Final = 1_000_000
MAX_TOTAL: Final = 4 * 1024**3
"""Bytes of all files together."""
_NAME: Final = re.compile(
    r"genesis\.json|assessment\.json|log/[a-z0-9][a-z0-9./-]*"
    r"|exhibits/[a-z][a-z-]*-[0-9a-f]{64}\.json|statements/[0-9a-f]{64}\.json"
)
_LONGEST: Final = 160
_PACKED: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
    OverflowError,
)
"""What the library says of hostile files."""


def pack(gathered: Path, more: Mapping[str, bytes], target: Path) -> int:
    """Write the bundle whole or not at all; returns how many files it holds.

    :param gathered: the folder that `audit gather` made. ``more``: further files by name.
    :raises UsageError: the folder isn't such a one.
    """
    found = {path.relative_to(gathered).as_posix(): path for path in sorted(gathered.rglob("*")) if path.is_file()}
    found = {name: path for name, path in found.items() if _sound(name) and name not in more}
    if "genesis.json" not in found or "log/checkpoint" not in found:
        raise UsageError(f"`{gathered}` isn't what was gathered", remedy="run strongroom audit gather FOLDER first")
    temporary = target.with_name(f".{target.name}.new")
    try:
        # A file may be dated before 1980, which a zip can't say.
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as bundle:
            for name, path in found.items():
                bundle.write(path, name)
            for name, data in more.items():
                bundle.writestr(name, data)
        temporary.replace(target)
    finally:
        # On a full disk, say: half a bundle is no use to anybody, and takes what is left.
        temporary.unlink(missing_ok=True)
    return len(found) + len(more)


def unpack(file: Path, folder: Path) -> None:
    """Lay a bundle's files down in an empty folder.

    :raises MalformedError: not a zip, a name that isn't a bundle's or comes twice, or more than the limits.
    """
    try:
        with zipfile.ZipFile(file) as bundle:
            _unpack(bundle, folder)
    except _BROKEN:
        raise MalformedError("the bundle isn't a whole zip file") from None
    except OSError as error:
        # A place before the file's beginning: the zip lies about where its parts are. Other errors are the disk's.
        if error.errno != errno.EINVAL:
            raise
        raise MalformedError("the bundle isn't a whole zip file") from None


def _unpack(bundle: zipfile.ZipFile, folder: Path) -> None:
    members = bundle.infolist()
    names = {member.filename for member in members}
    if len(members) > MAX_FILES or sum(member.file_size for member in members) > MAX_TOTAL:
        raise MalformedError(f"a bundle holds at most {MAX_FILES} files of {MAX_TOTAL} bytes together")
    if len(names) != len(members) or not all(map(_sound, names)):
        raise MalformedError("the bundle holds a file twice, or one whose name isn't a bundle's")
    for member in members:
        if member.compress_type not in _PACKED:
            raise MalformedError("the bundle is packed in a way that isn't read here")
        place = folder / member.filename
        # A file and a folder of one name.
        if place.exists() or any(parent.is_file() for parent in place.parents):
            raise MalformedError("the bundle holds a file where it holds a folder")
        place.parent.mkdir(parents=True, exist_ok=True)
        # The library gives out no more than the size that was counted above.
        with bundle.open(member) as source, place.open("xb") as sink:
            shutil.copyfileobj(source, sink)


def _sound(name: str) -> bool:
    # No way out of the folder, nor into a name that this machine would read in another way.
    parts = name.split("/")
    return len(name) <= _LONGEST and bool(_NAME.fullmatch(name)) and not any(part in {"", ".", ".."} for part in parts)
