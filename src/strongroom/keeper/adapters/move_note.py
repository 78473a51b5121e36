"""The note that ``strongroom root-key move`` leaves for the keeper."""

from __future__ import annotations

from pathlib import Path

from strongroom.core.adapters.durable import sync_folder
from strongroom.core.digest import Digest
from strongroom.keeper.adapters.files import read_own, replace_own


class MoveFile:
    """One file with a digest."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "root-moved.digest"

    def save(self, providers: Digest) -> None:
        """Note where the root key is about to go: before the keyring says so."""
        replace_own(self._path, f"{providers}\n".encode())

    def load(self) -> Digest | None:
        """Return what was noted."""
        data = read_own(self._path)
        return None if data is None else Digest.parse(data.decode("ascii", errors="replace").strip())

    def clear(self) -> None:
        """Throw the note away."""
        self._path.unlink(missing_ok=True)
        sync_folder(self._path.parent)
