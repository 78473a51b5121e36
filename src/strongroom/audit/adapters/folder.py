"""A published log lying in a folder."""

from __future__ import annotations

from pathlib import Path

from strongroom.audit.tiles import CHECKPOINT, COSIGNED, MAX_FILE, Tile, within_shard


class FolderSource:
    """Reads tiles, bundles and the checkpoint of a log's folder; never trusted, so never large."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, path: str) -> bytes | None:
        """Return the file's bytes, or None where it isn't a readable file.

        :raises MalformedError: ``path`` isn't a path of the log's layout.
        """
        if within_shard(path) not in {CHECKPOINT, COSIGNED}:
            Tile.parse(within_shard(path))
        place = self._folder / path
        try:
            # A pipe in a file's place would make its reader wait for ever.
            if not place.is_file():
                return None
            with place.open("rb") as file:
                return file.read(MAX_FILE + 1)
        except OSError:
            return None
