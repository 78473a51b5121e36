"""What a sealed checkpoint is made of, on either side: streams and files as torch.distributed.checkpoint calls them."""

from __future__ import annotations

import dataclasses
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Never

from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.extras import need
from strongroom.core.secret import SecretBytes
from strongroom.loaders.access import Access, Checking
from strongroom.loaders.opening import SealedModel, open_sealed
from strongroom.loaders.saving import Publishing
from strongroom.sealing.adapters.engine import local_engine
from strongroom.sealing.adapters.files import folder, regular_file
from strongroom.sealing.adapters.publish import LocalTarget, local_target
from strongroom.sealing.adapters.sources import private_source
from strongroom.sealing.errors import DestinationBusyError, MissingObjectError
from strongroom.sealing.manifest import ManifestObject, object_name
from strongroom.sealing.open import ObjectExpectation, check_header
from strongroom.sealing.prelude import ID_LENGTH
from strongroom.sealing.seal import ObjectSealer, Stream
from strongroom.sealing.store import OBJECTS_NAME
from strongroom.sealing.write import ModelWriter, VersionFacts, as_object

_dcp: Any = need("torch.distributed.checkpoint.filesystem", extra="torch")

_KEY_BYTES: Final = 32


class IncompleteCheckpointError(StrongroomError):
    """Not everything that was planned was sealed. Nothing was published."""

    code = "checkpoint-incomplete"


@dataclass(frozen=True, slots=True)
class Hello:
    """What a rank sends with its plan: to whom the data key is encrypted."""

    public: bytes


@dataclass(frozen=True, slots=True)
class Order:
    """What a rank gets with its plan."""

    prefix: str
    facts: VersionFacts
    delivery: bytes
    """The data key, encrypted to this rank alone."""


@dataclass(frozen=True, slots=True)
class SealedPart:
    """A file that a rank sealed."""

    name: str
    sealed: ManifestObject
    plain_size: int


@dataclass(frozen=True, slots=True)
class Written:
    """What a rank answers when it has written: DCP's results, and what the manifest will say of the objects."""

    results: list[Any]
    parts: list[SealedPart]


class SealingStream:
    """What DCP writes to. Closing it commits nothing: that is for the end of the block, if it ends without an error."""

    def __init__(self, sealer: ObjectSealer) -> None:
        self._sealer, self._size = sealer, 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Seal some more."""
        self._sealer.write(data)
        length = memoryview(data).nbytes
        self._size += length
        return length

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._size

    def writable(self) -> bool:
        """Tell that it is."""
        return True

    def flush(self) -> None:
        """Do nothing: segments are written when they are full."""

    def close(self) -> None:
        """Do nothing: DCP closes inside the block."""

    def fileno(self) -> Never:
        """Refuse: there is no file of plaintext.

        :raises UnsupportedOperation: always.
        """
        raise io.UnsupportedOperation("fileno")


class _Files(_dcp.FileSystemBase):  # type: ignore[misc]  # torch has no types for this
    """A flat folder of names; what DCP calls on both sides."""

    def concat_path(self, path: str | os.PathLike[str], suffix: str) -> str:
        return f"{os.fspath(path)}/{suffix}"

    def init_path(self, path: str | os.PathLike[str]) -> str:
        return os.fspath(path)

    def mkdir(self, path: str | os.PathLike[str]) -> None:
        """Do nothing: the coordinator makes the folder."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return "://" not in os.fspath(checkpoint_id)

    def rename(self, path: str, new_path: str) -> None:
        """Refuse: a sealed checkpoint isn't changed.

        :raises UnsupportedOperation: always.
        """
        raise io.UnsupportedOperation(f"rename {path} {new_path}")

    def rm_file(self, path: str) -> None:
        """Refuse: a sealed checkpoint isn't changed.

        :raises UnsupportedOperation: always.
        """
        raise io.UnsupportedOperation(f"remove {path}")


class SealingFiles(_Files):
    """Where a rank's streams end: objects below the building folder. Only within a block of :meth:`sealing_to`."""

    def __init__(self) -> None:
        self._target: LocalTarget | None = None
        self._writer: ModelWriter | None = None
        self._key: SecretBytes | None = None
        self._parts: dict[str, SealedPart] = {}
        self._streams = 0
        self._changed = threading.Condition()

    def __reduce__(self) -> tuple[Any, ...]:
        return (SealingFiles, ())

    @contextmanager
    def sealing_to(self, target: LocalTarget, facts: VersionFacts, data_key: SecretBytes) -> Iterator[None]:
        """Seal streams into ``target`` in the block; what they were is in :meth:`taken` then."""
        with local_engine() as engine:
            writer = ModelWriter(target, facts, data_key=data_key, random_bytes=os.urandom, engine=engine)
            self._parts = {}
            self._target, self._writer, self._key = target, writer, data_key
            try:
                yield
            finally:
                # DCP doesn't wait for its other threads when one fails. None may go on without the key and the folder.
                with self._changed:
                    self._target = self._writer = self._key = None
                    self._changed.wait_for(lambda: self._streams == 0)

    def taken(self) -> list[SealedPart]:
        """Return what was sealed, once."""
        parts, self._parts = list(self._parts.values()), {}
        return parts

    @contextmanager
    def create_stream(self, path: str, mode: str) -> Iterator[SealingStream]:
        """Seal what is written in the block; it counts if the block ends without an error.

        :raises UnsupportedOperation: anything but writing.
        :raises IncompleteCheckpointError: the save was given up.
        """
        if mode != "wb":
            raise io.UnsupportedOperation(mode)
        with self._changed:
            target, writer, key = self._target, self._writer, self._key
            if target is None or writer is None or key is None:
                raise IncompleteCheckpointError("nothing is being saved here any more")
            self._streams += 1
        try:
            object_id = os.urandom(ID_LENGTH)
            with (
                target.create(object_name(object_id), size=None) as sink,
                writer.sealer(sink.put, Stream.begun(writer.prelude(object_id), key, os.urandom), None) as sealer,
            ):
                yield SealingStream(sealer)
                facts = sealer.finish()
                sink.finish(facts.size)
            name = file_of(path)
            with self._changed:
                self._parts[name] = SealedPart(name, as_object(object_id, facts), facts.plain_size)
        finally:
            with self._changed:
                self._streams -= 1
                self._changed.notify_all()

    def exists(self, path: str) -> bool:
        """Tell whether this rank sealed a file of that name."""
        return file_of(path) in self._parts

    def rename(self, path: str, new_path: str) -> None:
        """Give another name to a file that this rank sealed: names aren't sealed before the index is."""
        part = self._parts.pop(file_of(path))
        self._parts[file_of(new_path)] = dataclasses.replace(part, name=file_of(new_path))


def file_of(path: str) -> str:
    """Return a file's name in its checkpoint."""
    return path.rpartition("/")[2]


class Save:
    """What the coordinator holds from the plan until the checkpoint is published or given up."""

    def __init__(self, place: Path, publishing: Publishing, *, replace: bool) -> None:
        if not publishing.recipients:
            raise UsageError("a checkpoint without recipients could never be opened", remedy="name at least one")
        self.publishing, self.facts = publishing, publishing.facts()
        self.planned: list[set[Any]] = []
        self.done = False
        self.turn = threading.Lock()
        with ExitStack() as undo:
            self.data_key = undo.enter_context(SecretBytes(bytearray(os.urandom(_KEY_BYTES))))
            self.target = undo.enter_context(local_target(place, replace=replace))
            self.target.clear()
            undo.callback(self._discard)
            self._resources = undo.pop_all()

    def _discard(self) -> None:
        # The data key dies with this save: nobody could go on with what is there.
        if not self.done:
            self.target.discard()

    def close(self) -> None:
        """Wipe the data key, and remove what is unfinished."""
        with self.turn:
            self._resources.close()


def check_there(target: LocalTarget, writer: ModelWriter, part: SealedPart) -> None:
    """Check that the coordinator sees what a rank says that it wrote: its header, and its size.

    :raises MissingObjectError: it doesn't: another folder, or another machine's.
    :raises SealedObjectError: other bytes are there.
    """
    sealed = part.sealed
    expected = ObjectExpectation(
        name=sealed.name,
        model_version=writer.prelude(sealed.object_id).model_version,
        object_id=sealed.object_id,
        size=sealed.size,
        header=sealed.header,
        root=sealed.root,
    )
    try:
        with regular_file(sealed.name, within=target.fd) as fd:
            check_header(private_source(fd), expected)
    except FileNotFoundError:
        raise MissingObjectError(
            "a rank wrote it, but the coordinator doesn't see it",
            object_name=sealed.name,
            remedy="save to a file system that all ranks share",
        ) from None


def check_alone(target: LocalTarget, parts: list[SealedPart]) -> None:
    """Check that nothing else was put into the building folder: a model with an object too many opens nowhere.

    :raises DestinationBusyError: something was.
    """
    with folder(OBJECTS_NAME, within=target.fd) as objects, os.scandir(objects) as entries:
        found = {f"{OBJECTS_NAME}/{entry.name}" for entry in entries}
    if found != {part.sealed.name for part in parts}:
        raise DestinationBusyError(
            "another job writes checkpoints to the same place", remedy="stop it, or choose another name"
        )


class OpenedFiles(_Files):
    """A sealed checkpoint, as DCP reads it."""

    def __init__(self, access: Access | None) -> None:
        self._access = access
        self.model: SealedModel | None = None
        self.whole = False
        """Whether files are checked whole before anything of them is handed out, whatever ``access`` says."""

    def open(self, place: str) -> SealedModel:
        """Open the checkpoint, unless it is open."""
        if self.model is None:
            self.model = open_sealed(place, access=self._access)
        return self.model

    def close(self) -> None:
        """Close it."""
        model, self.model = self.model, None
        if model is not None:
            model.close()

    @contextmanager
    def create_stream(self, path: str, mode: str) -> Iterator[Callable[[int, int], memoryview]]:
        """Give a function that returns a stretch of the file; :meth:`slice` calls it."""
        if mode != "rb" or self.model is None:
            raise io.UnsupportedOperation(mode)
        model, name = self.model, file_of(path)
        if self.whole:
            text = memoryview(model.read(name))
        elif model.checking is Checking.WHOLE:
            text = model.read_buffer(name)
        else:
            yield lambda offset, length: model.read_range(name, offset, length)
            return
        yield lambda offset, length: text[offset : offset + length]

    def exists(self, path: str) -> bool:
        """Tell whether the checkpoint has a file of that name."""
        return self.model is not None and self.model.holds(file_of(path))


class View(io.RawIOBase):
    """A stretch of plaintext as a file, without a copy on the ordinary heap."""

    def __init__(self, data: memoryview) -> None:
        super().__init__()
        self._data, self._at = data, 0

    def readable(self) -> bool:
        """Tell that it is."""
        return True

    def seekable(self) -> bool:
        """Tell that it is."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill some of ``buffer``."""
        part = self._data[self._at : self._at + len(buffer)]
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to another position."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._data)}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at
