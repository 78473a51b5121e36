"""A sealed directory on a local file system, opened once: no name is looked up twice by its path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom.sealing.adapters.files import folder, regular_file, storage, walk
from strongroom.sealing.adapters.sources import MappedSource, private_source, shared_source
from strongroom.sealing.source import PositionalSource


class LocalStore:
    """An open folder. Made by :func:`local_store`."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path, self._fd = path, fd

    @property
    def place(self) -> str:
        """Its path."""
        return str(self._path)

    def names(self) -> set[str]:
        """Return the names of all files.

        :raises SymlinkError: a symbolic link anywhere.
        :raises SpecialFileError: a device, socket or pipe.
        """
        with storage("listing the sealed directory", self._path):
            return set(walk(self._fd))

    def document(self, name: str, *, most: int) -> bytes:
        """Return a small file, cut off after ``most`` bytes."""
        with self._errors(), regular_file(name, within=self._fd) as file:
            found = b""
            while len(found) < most and (data := os.read(file, min(most - len(found), 1 << 20))):
                found += data
            return found

    @contextmanager
    def source(self, name: str) -> Iterator[PositionalSource]:
        """Open an object; its pieces are copies."""
        with self._errors(), regular_file(name, within=self._fd) as file:
            yield private_source(file)

    @contextmanager
    def shared_source(self, name: str) -> Iterator[PositionalSource]:
        """Open an object, mapped where that is safe."""
        with self._errors(), regular_file(name, within=self._fd) as file:
            source = shared_source(file)
            try:
                yield source
            finally:
                if isinstance(source, MappedSource):
                    source.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        missing: FileNotFoundError | None = None
        with storage("reading the sealed directory", self._path):
            try:
                yield
            except FileNotFoundError as error:
                missing = error
        if missing is not None:
            raise missing


@contextmanager
def local_store(path: Path) -> Iterator[LocalStore]:
    """Open a sealed directory.

    :raises SymlinkError: ``path`` is a symbolic link.
    :raises StorageError: it can't be opened.
    """
    with storage("opening the sealed directory", path), folder(path) as fd:
        yield LocalStore(path, fd)
