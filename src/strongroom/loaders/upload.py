"""Sealing straight into an object store: objects are uploaded while they are sealed, the manifest comes last."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from strongroom.core.errors import StrongroomError
from strongroom.loaders.remote import Prefix, resolve
from strongroom.sealing.adapters.publish import LocalTarget, local_target
from strongroom.sealing.errors import DestinationExistsError, StorageError
from strongroom.sealing.manifest import INDEX_NAME
from strongroom.sealing.recipients import RECIPIENTS_NAME
from strongroom.sealing.store import MANIFEST_NAME, OBJECTS_NAME, SealedTarget, Sink

_PART: Final = 16 << 20
_PART_OF_UNKNOWN: Final = 64 << 20
_MOST_PARTS: Final = 9000
"""S3 takes 10,000 parts for one object."""
_MEBIBYTE: Final = 1 << 20
_MOST_KEPT: Final = 16 << 20
"""The index and the documents have at most about 4 MiB each."""
_OURS: Final = re.compile(
    rf"{OBJECTS_NAME}/[0-9a-f]{{32}}\.sealed|{re.escape(INDEX_NAME)}|{re.escape(RECIPIENTS_NAME)}|{re.escape(MANIFEST_NAME)}"
)


@contextmanager
def remote_target(address: str, *, replace: bool) -> Iterator[SealedTarget]:
    """Begin a sealed model at an address. Objects are uploaded while they are sealed; nothing waits on a disk.

    The manifest is written last: without it the model isn't there. If anything fails, what was uploaded is deleted, and
    a model that was there is as it was.

    With ``replace``, where a model is: the new objects are uploaded beside it, under ``NAME.partial-RANDOM``, while
    readers go on with the old one. Then the storage copies them in, the index and the documents are overwritten, the
    manifest last, and the old objects are deleted. Who opens the model while that goes on is refused, because the
    listing or the index doesn't fit the manifest, and never gets a mixture; who has it open can read on until the old
    objects are deleted. A process killed in that short time leaves a model that readers refuse: seal it again. Where
    readers mustn't be refused for a moment, give each version an address of its own.

    Two writers at once aren't kept apart, for object stores have no locks: the last manifest wins, a writer whose
    objects were removed by the other is refused, and readers refuse every mixed state.

    :raises DestinationExistsError: a model is there and ``replace`` is False, or something else lies there.
    :raises StrongroomError: as :func:`remote_store`.
    """
    prefix = resolve(address)
    if prefix.is_local:
        with _local_target(Path(prefix.base), replace=replace) as local:
            yield local
        return
    target = RemoteTarget(prefix, replace=replace)
    try:
        yield target
    except BaseException:
        target.discard()
        raise


@contextmanager
def _local_target(place: Path, *, replace: bool) -> Iterator[LocalTarget]:
    with local_target(place, replace=replace) as target:
        target.clear()
        try:
            yield target
        except BaseException:
            target.discard()
            raise


class RemoteTarget:
    """A sealed model being uploaded. Made by :func:`remote_target`.

    :raises DestinationExistsError: a model or something else is there.
    """

    def __init__(self, prefix: Prefix, *, replace: bool) -> None:
        self._prefix, self._replace = prefix, replace
        found = prefix.sizes()
        if MANIFEST_NAME in found and not replace:
            raise self._exists()
        if len(_ours(found)) < len(found):
            # Readers would refuse the model because of it, and to delete it isn't ours.
            raise DestinationExistsError(
                f"something else than a sealed model lies at `{prefix.place}`", remedy="choose an address of its own"
            )
        self._staged = MANIFEST_NAME in found
        self._work = Prefix(prefix.fs, f"{prefix.base}.partial-{os.urandom(8).hex()}") if self._staged else prefix
        self._lock = threading.Lock()
        self._begun: set[str] = set()
        self._objects: dict[str, int] = {}
        self._index: _Kept | None = None
        self._published = False

    def _exists(self) -> DestinationExistsError:
        return DestinationExistsError(
            f"a sealed model is already at `{self._prefix.place}`",
            remedy="choose another address, or say that it may be replaced",
        )

    @contextmanager
    def create(self, name: str, *, size: int | None) -> Iterator[Sink]:
        """Begin an object: it is uploaded as its bytes come."""
        if name == INDEX_NAME:
            # Small, and of the same name in each version: it's written with the documents.
            self._index = _Kept()
            yield self._index
            return
        with self._lock:
            self._begun.add(name)
        part = max(_PART, -(-size // (_MOST_PARTS * _MEBIBYTE)) * _MEBIBYTE) if size else _PART_OF_UNKNOWN
        with self._work.asking("uploading"):
            self._work.make_folder(name)
            file = self._work.fs.open(self._work.path(name), "wb", block_size=part, autocommit=True)
        upload = _Upload(self._work, file)
        try:
            yield upload
        except BaseException:
            upload.abandon()
            raise
        with self._lock:
            self._objects[name] = upload.size

    def publish(self, documents: dict[str, bytes]) -> None:
        """Put the model in its place; the manifest makes it visible.

        :raises DestinationExistsError: another writer was first, and its model isn't to be replaced.
        :raises StorageError: the storage refused, or lost an object that was uploaded.
        """
        found = self._prefix.sizes()
        if MANIFEST_NAME in found and not self._replace:
            raise self._exists()
        uploaded = self._work.sizes() if self._staged else found
        for name, size in self._objects.items():
            if name not in uploaded or uploaded[name] not in {size, None}:
                raise StorageError(
                    "an object that was uploaded isn't there as it was sent: lost, or removed by another writer",
                    remedy="look whether somebody else seals to the same address, then seal again",
                )
        final = dict(sorted((documents | self._kept_index()).items(), key=lambda item: item[0] == MANIFEST_NAME))
        if MANIFEST_NAME not in found:
            # What an interrupted upload left would make readers refuse the new model.
            self._prefix.remove(_ours(found) - set(self._objects))
            found = {}
        with self._undoing(found) as written:
            self._move_in(written)
            for name, data in final.items():
                self._write(name, data, written)
        self._published = True
        try:
            self._prefix.remove(_ours(found) - set(self._objects) - set(final))
            if self._staged:
                self._remove_uploads()
        except StorageError as error:
            raise StorageError(
                f"the new version is published, but what was before it couldn't be deleted: {error.message}",
                remedy="readers refuse it until that is deleted: seal again, to replace it",
            ) from None

    def _kept_index(self) -> dict[str, bytes]:
        return {INDEX_NAME: bytes(self._index.data)} if self._index else {}

    def _move_in(self, written: list[str]) -> None:
        if self._staged:
            for name in self._objects:
                with self._prefix.asking("copying an object into its place"):
                    self._prefix.make_folder(name)
                    written.append(name)
                    self._prefix.fs.cp_file(self._work.path(name), self._prefix.path(name))

    def _write(self, name: str, data: bytes, written: list[str]) -> None:
        # Before it is written: a call that failed may have done its work.
        written.append(name)
        if self._replace:
            self._prefix.put(name, data)
            return
        try:
            self._prefix.put_new(name, data)
        except FileExistsError:
            written.remove(name)  # another writer's
            raise self._exists() from None

    @contextmanager
    def _undoing(self, found: Iterable[str]) -> Iterator[list[str]]:
        """Undo what the block wrote if it fails, as far as the storage lets us: the old manifest comes back last."""
        kept = {INDEX_NAME, RECIPIENTS_NAME, MANIFEST_NAME}.intersection(found)
        before = {name: self._prefix.get(name, 0, _MOST_KEPT) for name in kept}
        written: list[str] = []
        try:
            yield written
        except BaseException:
            with suppress(StrongroomError, OSError):
                self._prefix.remove(set(written) & set(self._prefix.sizes()) - set(before))
            for name in written:
                with suppress(StrongroomError, OSError):
                    if name in before:
                        self._prefix.put(name, before[name])
            raise

    def discard(self) -> None:
        """Delete what was uploaded, as far as the storage lets us; nothing once the model is published."""
        if not self._published:
            with suppress(StrongroomError, OSError):
                self._remove_uploads()

    def _remove_uploads(self) -> None:
        if not self._staged:
            self._work.remove(self._begun & set(self._work.sizes()))
        elif self._begun:
            # Of a random name, so all that lies there is ours; folders too, where they are more than names.
            with self._work.asking("deleting"):
                self._work.fs.rm(self._work.base, recursive=True)


def _ours(names: Iterable[str]) -> set[str]:
    return {name for name in names if _OURS.fullmatch(name)}


class _Kept:
    """A small object, kept in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.data = bytearray()

    def put(self, offset: int, data: memoryview) -> None:
        """Keep ``data``."""
        with self._lock:
            self.data.extend(bytes(max(0, offset + len(data) - len(self.data))))
            self.data[offset : offset + len(data)] = data

    def finish(self, size: int) -> None:
        """Do nothing: it becomes durable with the documents."""


class _Upload:
    """One object on its way: pieces come in any order from several threads, and go out in order.

    A piece that comes early is copied and kept, and nobody waits for another thread: a thread that failed before it
    came here can't hold up the rest. Few are kept, since a sealer has at most eight segments in flight.
    """

    def __init__(self, prefix: Prefix, file: Any) -> None:
        self._prefix, self._file = prefix, file
        self._lock = threading.Lock()
        self._early: dict[int, memoryview] = {}
        self._writing = False
        self._failed: BaseException | None = None
        self.size = 0

    def put(self, offset: int, data: memoryview) -> None:
        """Send ``data`` and what came early after it, or keep a copy until its turn."""
        with self._lock:
            if self._failed is not None:
                raise self._failed
            if self._writing or offset != self.size:
                self._early[offset] = memoryview(bytes(data))
                return
            self._writing = True
        piece: memoryview | None = data
        while piece is not None:
            try:
                self._send(piece)
            except BaseException as error:
                self._failed = error
                raise
            with self._lock:
                self.size += len(piece)
                piece = self._early.pop(self.size, None)
                self._writing = piece is not None

    def _send(self, piece: memoryview) -> None:
        with self._prefix.asking("uploading"):
            while piece:
                done = self._file.write(piece)
                piece = piece[done:] if isinstance(done, int) else piece[:0]

    def finish(self, size: int) -> None:
        """End the upload.

        :raises StorageError: the storage refused, or pieces are missing.
        """
        if self._failed is not None:
            raise self._failed
        if self._early or self.size != size:
            raise StorageError("an object was to be finished before all of it was sent")
        with self._prefix.asking("finishing an upload"):
            self._file.close()

    def abandon(self) -> None:
        """Give the upload up."""
        self._early.clear()
        with suppress(Exception):
            # The parts of an upload that isn't finished or aborted are kept, and cost money.
            self._file.discard()
        with suppress(Exception):
            # fsspec's own files finish an upload when they are closed, even by the garbage collector.
            self._file.closed = True
        with suppress(Exception):
            self._file.close()
