"""What a wheel installs, and each file's digest: the RECORD beside it (PyPA, "Recording installed projects").

An installer writes RECORD again: it adds its own files, scripts and compiled files. What is left without these is what
the wheel brought, in any installation of it, and has one digest.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import MalformedError

MAX_RECORD: Final = 8 << 20
MAX_ROWS: Final = 100_000
MAX_PATH: Final = 1024
INSTALLERS_OWN: Final = frozenset({"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"})
"""Files of a `.dist-info` folder that the installer writes."""
_FOLDER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._]{0,127})-([A-Za-z0-9][A-Za-z0-9.!+_]{0,63})\.dist-info")
_RUNS: Final = re.compile(r"[-_.]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\\]")


def normal_name(name: str) -> str:
    """Return a project's name in its one spelling (PEP 503)."""
    return _RUNS.sub("-", name).lower()


def project_of(folder: str) -> tuple[str, str] | None:
    """Return the normal name and the version that a `.dist-info` folder is of; None for another folder."""
    found = _FOLDER.fullmatch(folder)
    return None if found is None else (normal_name(found[1]), found[2])


@dataclass(frozen=True, slots=True)
class Record:
    """What a wheel brought: path below the folder of packages -> digest."""

    files: Mapping[str, Digest]

    @property
    def digest(self) -> Digest:
        """Digest of the sorted rows: the same for each installation of a wheel, and for the wheel."""
        return Digest.of("".join(f"{path}\0{self.files[path]}\n" for path in sorted(self.files)).encode())

    @classmethod
    def parse(cls, data: bytes) -> Record:
        """Read a RECORD. Rows of the installer are left out: its own files, compiled files, what lies elsewhere.

        :raises MalformedError: not rows of a path, a SHA-256 digest and a size; a path twice, or one without a digest.
        """
        if len(data) > MAX_RECORD:
            raise MalformedError(f"a RECORD of more than {MAX_RECORD} bytes")
        try:
            rows = list(csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error):
            raise MalformedError("a RECORD that isn't rows of values with commas") from None
        if len(rows) > MAX_ROWS:
            raise MalformedError(f"a RECORD of more than {MAX_ROWS} rows")
        files: dict[str, Digest] = {}
        seen: set[str] = set()
        for row in rows:
            if len(row) != 3 or row[0] in seen or len(row[0]) > MAX_PATH or _CONTROL.search(row[0]):
                raise MalformedError("a RECORD with a row that isn't a path, a digest and a size, or is there twice")
            seen.add(row[0])
            if _brought(row[0]):
                files[row[0]] = _digest(row[1])
        return cls(files)


def _brought(path: str) -> bool:
    parts = path.split("/")
    if path.startswith(("/", "../")):
        return False
    if set(parts) & {"", ".", ".."}:
        raise MalformedError("a RECORD with a path that isn't in its one form")
    own = len(parts) == 2 and parts[0].endswith(".dist-info") and parts[1] in INSTALLERS_OWN
    return not own and not ("__pycache__" in parts and path.endswith(".pyc"))


def _digest(text: str) -> Digest:
    name, _, value = text.partition("=")
    try:
        raw = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except (binascii.Error, ValueError):
        raw = b""
    if name != "sha256" or len(raw) != 32 or base64.urlsafe_b64encode(raw).rstrip(b"=") != value.encode():
        raise MalformedError("a RECORD with a file that has no SHA-256 digest")
    return Digest(DigestAlgorithm.SHA256, raw)
