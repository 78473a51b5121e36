"""Sealing many files into one directory: each anew, from where it was, or not at all because it is finished.

Where the plaintext comes from is a port: a folder, or a sealed directory that is open (:mod:`.reseal`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from strongroom.core.errors import ConflictError
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Signer
from strongroom.sealing.adapters.engine import local_engine
from strongroom.sealing.adapters.publish import LocalTarget, local_target
from strongroom.sealing.adapters.resume import JournalFile, good_segments
from strongroom.sealing.canary import Canary
from strongroom.sealing.errors import NoSpaceError, NothingToSealError, SourceChangedError, TooManyFilesError
from strongroom.sealing.journal import Begun
from strongroom.sealing.manifest import MAX_OBJECTS, object_name
from strongroom.sealing.names import check_distinct
from strongroom.sealing.prelude import ID_LENGTH
from strongroom.sealing.recipients import Stanza
from strongroom.sealing.seal import ObjectSealer, RandomBytes, Readable, Stream
from strongroom.sealing.write import ModelWriter, SealedDirectory, VersionFacts, as_object

Progress = Callable[[int, int], object]
"""Told (plaintext bytes done, plaintext bytes in all) after each segment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A file before it is opened: its size in bytes, and a number that is another one whenever its bytes are."""

    name: str
    size: int
    changed: int


class PlainFile(Readable, Protocol):
    """A file's plaintext, read once, from its beginning."""

    @property
    def name(self) -> str:
        """Its name in the model."""
        ...

    @property
    def size(self) -> int:
        """Bytes of it."""
        ...

    @property
    def changed(self) -> int:
        """Another number whenever its bytes are others."""
        ...

    @property
    def mode(self) -> int:
        """Its permissions."""
        ...

    def skip(self, count: int) -> None:
        """Go past the first ``count`` bytes, which are sealed already. Called before anything is read."""
        ...

    def check(self) -> None:
        """Refuse if it changed since it was opened.

        :raises SourceChangedError: it did.
        """
        ...


class PlainFiles(Protocol):
    """What is sealed."""

    def looks(self) -> list[Look]:
        """Return every file."""
        ...

    def open(self, name: str) -> AbstractContextManager[PlainFile]:
        """Open a file."""
        ...

    def check(self) -> None:
        """Refuse if files came or went.

        :raises SourceChangedError: they did.
        """
        ...


def absolute(destination: Path) -> Path:
    """Return a path as it is from the root, with a link at its end unfollowed."""
    return Path(os.path.abspath(destination))  # noqa: PTH100 - resolve() would follow a link at the end


def changed(name: str) -> SourceChangedError:
    """Return the error of a file that is another one than when its sealing began."""
    return SourceChangedError(f"`{ascii(name)[1:-1]}` changed while it was sealed", remedy="seal again")


def seal_files(
    source: PlainFiles,
    destination: Path,
    *,
    facts: VersionFacts,
    data_key: SecretBytes,
    signer: Signer,
    random_bytes: RandomBytes,
    canaries: Sequence[Canary],
    stanzas: Sequence[Stanza],
    progress: Progress | None,
    segment_bits: int,
    threads: int | None,
    replace: bool,
) -> SealedDirectory:
    """Seal every file of ``source``; what is promised, and raised, is :func:`.directory.seal_directory`'s."""
    looks = source.looks()
    _require_files([look.name for look in looks])
    with local_engine(threads) as engine, local_target(destination, replace=replace) as target:
        journal = JournalFile(target, facts, data_key=data_key, random_bytes=random_bytes)
        writer = ModelWriter(
            target, facts, data_key=data_key, random_bytes=random_bytes, engine=engine, segment_bits=segment_bits
        )
        report = reporter(progress, sum(look.size for look in looks))
        job = _SealJob(source, target, writer, journal, data_key, report)
        try:
            job.check_room(destination, looks)
            objects = {object_name(job.file(look.name).object_id) for look in looks}
            source.check()
            journal.remove_others(objects)
            return writer.finish(signer, canaries=canaries, stanzas=stanzas)
        except BaseException as error:
            # The source changed, the destination appeared, or nothing was begun: nothing to go on from.
            if isinstance(error, ConflictError) or journal.empty:
                target.discard()
            raise
        finally:
            journal.close()


def _require_files(names: list[str]) -> None:
    if not names:
        raise NothingToSealError("there is no file to seal")
    if len(names) > MAX_OBJECTS:
        raise TooManyFilesError(f"{len(names)} files; one sealed directory holds at most {MAX_OBJECTS}")
    check_distinct(names)


def reporter(progress: Progress | None, total: int) -> Callable[[int], object]:
    """Return what adds up the bytes that are done, and tells ``progress`` of them."""
    done = 0

    def report(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, total)

    return report


@dataclass(frozen=True, slots=True)
class _SealJob:
    """One sealing."""

    source: PlainFiles
    target: LocalTarget
    writer: ModelWriter
    journal: JournalFile
    data_key: SecretBytes
    report: Callable[[int], object]

    def check_room(self, destination: Path, looks: list[Look]) -> None:
        """Refuse before anything is written, where the file system says that it won't fit.

        :raises NoSpaceError: it won't.
        """
        needed = sum(self.writer.sealed_size(look.size) for look in looks)
        for look in looks:
            begun = self.journal.begun(look.name, size=look.size, changed=look.changed)
            if begun is not None:
                needed -= self._blocks(object_name(begun.object_id))
        room = os.statvfs(destination.parent)
        free = room.f_bavail * room.f_frsize
        if needed > free:
            raise NoSpaceError(
                f"sealing takes at least {needed} more bytes and {free} are free",
                remedy=f"free at least {needed - free} bytes on the file system of `{destination.parent}`",
            )

    def _blocks(self, name: str) -> int:
        try:
            return os.stat(name, dir_fd=self.target.fd, follow_symlinks=False).st_blocks * 512
        except OSError:
            return 0

    def file(self, name: str) -> Begun:
        """Seal one file; returns the record of the object that it is in."""
        with self.source.open(name) as file:
            record = self.journal.begun(name, size=file.size, changed=file.changed)
            if record is None or not self._went_on(record, file):
                record = self._anew(file)
            file.check()
        return record

    def _anew(self, file: PlainFile) -> Begun:
        object_id = self.writer.random_bytes(ID_LENGTH)
        record = Begun(name=file.name, object_id=object_id, size=file.size, changed=file.changed)
        self.journal.append(record)
        with self.target.create(object_name(object_id), size=self.writer.sealed_size(file.size)) as sink:
            stream = Stream.begun(self.writer.prelude(object_id), self.data_key, self.writer.random_bytes)
            sealer = self.writer.sealer(sink.put, stream, self.report)
            self._finish(record, file, sealer, sink.finish)
        return record

    def _went_on(self, record: Begun, file: PlainFile) -> bool:
        sealed = self.journal.finished(record)
        if sealed is not None:
            self.writer.add(record.name, file.mode, sealed, record.size)
            self.report(record.size)
            return True
        try:
            with self.target.reopen(object_name(record.object_id), size=self.writer.sealed_size(record.size)) as (
                sink,
                out,
            ):
                prelude = self.writer.prelude(record.object_id)
                good = good_segments(
                    out, prelude, plain_size=record.size, data_key=self.data_key, place=Path(record.name)
                )
                if good is None:
                    return False
                done = len(good.leaves) * prelude.parameters.plaintext_length
                file.skip(done)
                self.report(done)
                sealer = self.writer.sealer(sink.put, good, self.report)
                self._finish(record, file, sealer, sink.finish)
        except FileNotFoundError:
            return False
        return True

    def _finish(self, record: Begun, file: PlainFile, sealer: ObjectSealer, durable: Callable[[int], object]) -> None:
        with sealer:
            sealer.fill(file)
            facts = sealer.finish()
        if facts.plain_size != record.size:
            raise changed(record.name)
        durable(facts.size)
        sealed = as_object(record.object_id, facts)
        self.journal.finish(sealed)
        self.writer.add(record.name, file.mode, sealed, facts.plain_size)
