"""Files of a sealed model as Python knows files: a seekable reader, and a writer that seals what it gets."""

from __future__ import annotations

import io
import weakref
from contextlib import ExitStack
from typing import Any

from strongroom.loaders.access import Checking
from strongroom.loaders.opening import SealedModel
from strongroom.loaders.saving import SealedOutput
from strongroom.sealing.index import SealedFile
from strongroom.sealing.plan import Part
from strongroom.sealing.seal import ObjectSealer


class Held:
    """A model that is open, for as long as a file system or a file needs it. Its key is wiped after that."""

    __slots__ = ("__weakref__", "files", "folders", "model")

    def __init__(self, model: SealedModel) -> None:
        self.model = model
        self.files: dict[str, SealedFile] = {file.name: file for file in model.files()}
        self.folders = {""}
        for name in self.files:
            parts = name.split("/")
            self.folders.update("/".join(parts[:count]) for count in range(1, len(parts)))
        weakref.finalize(self, model.close)


class RawReader(io.RawIOBase):
    """A file's plaintext, unbuffered: each read goes from the segments into the caller's memory."""

    def __init__(self, held: Held, file: SealedFile) -> None:
        self._held, self._file, self._position = held, file, 0
        self.size = file.size
        self._whole: memoryview | None = None

    def readable(self) -> bool:
        """Tell that it is."""
        return True

    def seekable(self) -> bool:
        """Tell that it is."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a position, also behind the end."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError("a position before the file's beginning")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill ``buffer``, or as much of it as is left of the file.

        :raises StrongroomError: it isn't what was sealed; the buffer is wiped then.
        """
        target = memoryview(buffer).cast("B")
        target = target[: max(0, self.size - self._position)]
        if target:
            self._fill(target)
            self._position += len(target)
        return len(target)

    def readall(self) -> bytes:
        """Return the rest."""
        whole = bytearray(max(0, self.size - self._position))
        self.readinto(whole)
        return bytes(whole)

    def _fill(self, target: memoryview) -> None:
        model, name = self._held.model, self._file.name
        if model.checking is not Checking.WHOLE:
            model.read_parts(name, [Part(self._position, target)])
            return
        if self._whole is None:
            # Nothing of it is handed out before all of it was checked, and that is done once.
            self._whole = model.read_buffer(name)
        target[:] = self._whole[self._position : self._position + len(target)]


class SealedReader(io.BufferedReader):
    """A file of a sealed model, open for reading: seekable, and with the attributes that fsspec's files have."""

    def __init__(self, fs: Any, path: str, raw: RawReader, buffer_size: int) -> None:
        super().__init__(raw, buffer_size)
        self.fs, self.path, self.size = fs, path, raw.size

    def info(self) -> dict[str, Any]:
        """Return what the file system says of it."""
        found: dict[str, Any] = self.fs.info(self.path)
        return found


class SealedWriter(io.BufferedIOBase):
    """A file of a new model: what is written is sealed at once. It counts when it is closed without an error."""

    def __init__(self, output: SealedOutput, name: str) -> None:
        self._stack = ExitStack()
        self._sealer: ObjectSealer = self._stack.enter_context(output.file(name))
        self._size = 0
        self.finished = False

    def writable(self) -> bool:
        """Tell that it is."""
        return True

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._size

    def write(self, data: Any, /) -> int:
        """Seal some more."""
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        view = memoryview(data).cast("B")
        self._sealer.write(view)
        self._size += len(view)
        return len(view)

    def close(self) -> None:
        """Finish the file."""
        if not self.closed:
            super().close()
            self._stack.close()
            self.finished = True

    def abandon(self) -> None:
        """Give the file up: its transaction can't be committed any more."""
        if not self.closed:
            super().close()
            fail(self._stack)

    def __exit__(self, kind: object, *_exc: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


class _RolledBackError(Exception):
    """Thrown into what is being written, so that it cleans up; nobody else sees it."""


def fail(stack: ExitStack) -> None:
    """Leave what was entered as if its block had failed: what is half written is removed."""
    error = _RolledBackError()
    stack.__exit__(type(error), error, None)
