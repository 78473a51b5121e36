"""Writing opened weights into the memory-only folder, and closing it. Only the agent does this, before any command."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Self

from strongroom.core.errors import ConflictError, MalformedError, UnavailableError
from strongroom.enclave.adapters import confine
from strongroom.enclave.model_folder import MAX_FILES, parts_of
from strongroom.enclave.sandbox import MODEL_PATH, SandboxProfile

_FOLDER: int = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: int = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class ModelFolder:
    """A folder that files are written into once, up to ``limit`` bytes in all."""

    def __init__(self, path: str, *, limit: int) -> None:
        self.path = path
        self._root = os.open(path, _FOLDER)
        self._left = limit
        self._files = 0

    @classmethod
    def of(cls, profile: SandboxProfile) -> Self:
        """Return the enclave's own folder, with the profile's size."""
        return cls(MODEL_PATH, limit=profile.model_bytes)

    def write(self, name: str, chunks: Iterable[bytes | bytearray | memoryview]) -> int:
        """Write the file ``name`` (see :func:`parts_of`) with mode 0400 and return its size in bytes.

        A file that can't be written whole is removed again.

        :raises MalformedError: a name that isn't taken, or more bytes or files than the folder may hold.
        :raises ConflictError: there is such a file already.
        :raises UnavailableError: the memory is full.
        """
        parts = parts_of(name)
        if self._files >= MAX_FILES:
            raise MalformedError(f"a model has more than {MAX_FILES} files")
        with self._folder(parts[:-1]) as folder:
            try:
                descriptor = os.open(parts[-1], _NEW_FILE, 0o400, dir_fd=folder)
            except FileExistsError:
                raise ConflictError("a model's file name comes twice", reason="model.name") from None
            except (NotADirectoryError, IsADirectoryError):
                raise MalformedError("a model's file name is also a folder's", reason="model.name") from None
            try:
                size = self._fill(descriptor, chunks)
            except BaseException:
                os.unlink(parts[-1], dir_fd=folder)
                raise
            finally:
                os.close(descriptor)
        self._files += 1
        return size

    def close(self) -> None:
        """Make the folder read-only for good; what was opened for writing can't be opened so again.

        :raises SandboxError: the kernel refuses.
        """
        os.close(self._root)
        confine.close_weights()

    def _fill(self, descriptor: int, chunks: Iterable[bytes | bytearray | memoryview]) -> int:
        size = 0
        for chunk in chunks:
            rest = memoryview(chunk).cast("B")
            if len(rest) > self._left:
                raise MalformedError("the model is larger than its enclave's folder", remedy="raise the profile's size")
            self._left -= len(rest)
            size += len(rest)
            while rest:
                try:
                    rest = rest[os.write(descriptor, rest) :]
                except OSError as error:
                    if error.errno == errno.ENOSPC:
                        raise UnavailableError("the enclave's memory-only folder is full") from None
                    raise
        return size

    @contextmanager
    def _folder(self, parts: tuple[str, ...]) -> Iterator[int]:
        # Opened part by part below the root, never through a link: no name can lead outside.
        current = os.dup(self._root)
        try:
            for part in parts:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=current)
                try:
                    deeper = os.open(part, _FOLDER, dir_fd=current)
                except OSError as error:
                    if error.errno in {errno.ENOTDIR, errno.ELOOP}:
                        raise MalformedError(
                            "a model's file name uses a file as a folder", reason="model.name"
                        ) from None
                    raise
                os.close(current)
                current = deeper
            yield current
        finally:
            os.close(current)
