"""What an auditor gathered, in a folder: ``log/`` as published, ``exhibits/KIND-HEX.json``, the genesis, the log's key.

Everything in it is checked again by whoever reads it, so it may be carried by anybody.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from strongroom.audit.note import VerifierKey
from strongroom.audit.tiles import CHECKPOINT, Tile, within_shard
from strongroom.core.digest import Digest
from strongroom.core.envelope import MAX_PAYLOAD
from strongroom.core.errors import UsageError
from strongroom.core.genesis import Genesis
from strongroom.release.exhibits import Kind

MAX_EXHIBIT: Final = 2 * MAX_PAYLOAD
"""No envelope, decision or attested record is larger."""


class ExhibitFolder:
    """Objects named by kind and digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, kind: Kind, digest: Digest) -> bytes | None:
        """Return an object's bytes; None where no ordinary file of a possible size is."""
        try:
            # Opened without waiting: a pipe in its place must not hold a verifier up.
            handle = os.open(self._place(kind, digest), os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return None
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_EXHIBIT:
                return None
            return file.read(MAX_EXHIBIT)

    def save(self, kind: Kind, digest: Digest, data: bytes) -> None:
        """Keep an object, whole or not at all."""
        _replace(self._place(kind, digest), data)

    def _place(self, kind: Kind, digest: Digest) -> Path:
        return self._folder / f"{kind.value}-{digest.value.hex()}.json"


class GatheredFolder:
    """The whole folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.exhibits = ExhibitFolder(folder / "exhibits")

    def begin(self, genesis: Genesis) -> None:
        """Make the folder, or go on with one of the same deployment.

        :raises UsageError: it is another deployment's.
        """
        (self.folder / "exhibits").mkdir(parents=True, exist_ok=True)
        place, data = self.folder / "genesis.json", genesis.to_bytes()
        if place.exists() and place.read_bytes() != data:
            raise UsageError(f"`{self.folder}` holds what was gathered from another deployment")
        _replace(place, data)
        _replace(self.folder / "log.key", f"{VerifierKey(genesis.log_origin, genesis.log_key)}\n".encode())

    def write(self, path: str, data: bytes) -> None:
        """Write a file of the log's layout.

        :raises MalformedError: not a path of it.
        """
        if within_shard(path) != CHECKPOINT:
            Tile.parse(within_shard(path))
        place = self.log / path
        place.parent.mkdir(parents=True, exist_ok=True)
        _replace(place, data)


def _replace(place: Path, data: bytes) -> None:
    temporary = place.with_name(f".{place.name}.new")
    temporary.write_bytes(data)
    temporary.replace(place)
