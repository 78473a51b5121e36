"""Model directories: sealed into ``NAME.sealed/``, opened from it, and looked at without a key.

``manifest.json`` (the signed envelope), ``index.sealed``, ``objects/`` with one sealed object for each file, and
``recipients.json`` where somebody but the keeper can open it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from strongroom.core.envelope import Envelope
from strongroom.core.errors import ConflictError, UsageError
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Signer
from strongroom.sealing.adapters.engine import local_engine
from strongroom.sealing.adapters.files import FdReadable, folder, regular_file, storage, walk, write_all
from strongroom.sealing.adapters.local_store import local_store
from strongroom.sealing.adapters.publish import LocalTarget, local_target
from strongroom.sealing.adapters.resume import JournalFile, good_segments
from strongroom.sealing.canary import Canary
from strongroom.sealing.errors import (
    NoSpaceError,
    NothingToSealError,
    OtherManifestError,
    SourceChangedError,
    TooManyFilesError,
)
from strongroom.sealing.header import HEADER_LENGTH, Geometry, SealedHeader
from strongroom.sealing.inspect import DirectoryFacts, verify_ciphertext
from strongroom.sealing.journal import Begun
from strongroom.sealing.manifest import MAX_OBJECTS, VerifiedManifest, object_name, read_manifest
from strongroom.sealing.model import OpenedModel, object_source
from strongroom.sealing.names import check_distinct, file_name
from strongroom.sealing.prelude import DEFAULT_SEGMENT_BITS, ID_LENGTH
from strongroom.sealing.recipients import Stanza
from strongroom.sealing.seal import ObjectSealer, RandomBytes, Stream
from strongroom.sealing.source import PositionalSource, exactly
from strongroom.sealing.store import SealedStore, check_listing, envelope_in
from strongroom.sealing.write import ModelWriter, SealedDirectory, VersionFacts, as_object

Progress = Callable[[int, int], object]
"""Told (plaintext bytes done, plaintext bytes in all) after each segment."""


def seal_directory(
    source: Path,
    destination: Path,
    *,
    facts: VersionFacts,
    data_key: SecretBytes,
    signer: Signer,
    random_bytes: RandomBytes,
    canaries: Sequence[Canary] = (),
    stanzas: Sequence[Stanza] = (),
    progress: Progress | None = None,
    segment_bits: int = DEFAULT_SEGMENT_BITS,
    threads: int | None = None,
    replace: bool = False,
) -> SealedDirectory:
    """Seal every file under ``source`` into a new directory ``destination``, and sign its manifest.

    ``data_key`` must be new for this version; it isn't wiped here. ``destination`` appears whole or not at all. The
    plaintext at ``source`` stays where it is. With ``replace`` a directory at ``destination`` is exchanged in one step.
    Called again with the same facts and data key after an interruption, it goes on where it was.

    :raises DestinationExistsError: ``destination`` is there already, and ``replace`` is False.
    :raises DestinationBusyError: another process is sealing to it.
    :raises SymlinkError: a symbolic link under ``source``, or ``source`` itself.
    :raises SpecialFileError: something under ``source`` that is neither a folder nor a regular file.
    :raises UnsafeNameError: a name that can't be restored safely (NameCollisionError: two that are one).
    :raises SourceChangedError: ``source`` changed meanwhile.
    :raises NoSpaceError: the disk, the quota or the file size limit ran out; nothing was published.
    :raises StorageError: the file system refused for another reason.
    """
    destination = Path(os.path.abspath(destination))  # noqa: PTH100 - resolve() would follow a link at the end
    if destination.parent.resolve().is_relative_to(source.resolve()):
        raise UsageError("the sealed directory can't lie inside the directory that is sealed")
    with storage("sealing", destination.parent), folder(source) as source_fd:
        names = [file_name(name) for name in walk(source_fd)]
        sizes = _sizes(source_fd, names)
        with local_engine(threads) as engine, local_target(destination, replace=replace) as target:
            journal = JournalFile(target, facts, data_key=data_key, random_bytes=random_bytes)
            writer = ModelWriter(
                target, facts, data_key=data_key, random_bytes=random_bytes, engine=engine, segment_bits=segment_bits
            )
            job = _SealJob(source_fd, target, writer, journal, data_key, _reporter(progress, sum(sizes)))
            try:
                job.check_room(destination, names, sizes)
                objects = {object_name(job.file(name).object_id) for name in names}
                if walk(source_fd) != names:
                    raise SourceChangedError("files appeared or vanished meanwhile", remedy="seal again")
                journal.remove_others(objects)
                return writer.finish(signer, canaries=canaries, stanzas=stanzas)
            except BaseException as error:
                # The source changed, the destination appeared, or nothing was begun: nothing to go on from.
                if isinstance(error, ConflictError) or journal.empty:
                    target.discard()
                raise
            finally:
                journal.close()


def _sizes(source_fd: int, names: list[str]) -> list[int]:
    if not names:
        raise NothingToSealError("there is no file to seal")
    if len(names) > MAX_OBJECTS:
        raise TooManyFilesError(f"{len(names)} files; one sealed directory holds at most {MAX_OBJECTS}")
    check_distinct(names)
    return [os.stat(name, dir_fd=source_fd, follow_symlinks=False).st_size for name in names]


def _reporter(progress: Progress | None, total: int) -> Callable[[int], object]:
    done = 0

    def report(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, total)

    return report


@dataclass(frozen=True, slots=True)
class _SealJob:
    """One sealing of a directory: each file anew, from where it was, or not at all because it is finished."""

    source_fd: int
    target: LocalTarget
    writer: ModelWriter
    journal: JournalFile
    data_key: SecretBytes
    report: Callable[[int], object]

    def check_room(self, destination: Path, names: list[str], sizes: list[int]) -> None:
        """Refuse before anything is written, where the file system says that it won't fit.

        :raises NoSpaceError: it won't.
        """
        needed = sum(self.writer.sealed_size(size) for size in sizes)
        for name in names:
            begun = self.journal.begun(name, os.stat(name, dir_fd=self.source_fd, follow_symlinks=False))
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
        with regular_file(name, within=self.source_fd) as fd:
            before = os.fstat(fd)
            mode = stat.S_IMODE(before.st_mode) & 0o777
            record = self.journal.begun(name, before)
            if record is None or not self._went_on(record, fd, mode):
                record = self._anew(name, fd, before, mode)
            after = os.fstat(fd)
        if (before.st_size, before.st_ctime_ns) != (after.st_size, after.st_ctime_ns):
            raise SourceChangedError(f"`{ascii(name)[1:-1]}` changed while it was sealed", remedy="seal again")
        return record

    def _anew(self, name: str, fd: int, found: os.stat_result, mode: int) -> Begun:
        object_id = self.writer.random_bytes(ID_LENGTH)
        record = Begun(name=name, object_id=object_id, size=found.st_size, changed=found.st_ctime_ns)
        self.journal.append(record)
        with self.target.create(object_name(object_id), size=self.writer.sealed_size(found.st_size)) as sink:
            stream = Stream.begun(self.writer.prelude(object_id), self.data_key, self.writer.random_bytes)
            sealer = self.writer.sealer(sink.put, stream, self.report)
            self._finish(record, fd, mode, sealer, sink.finish)
        return record

    def _went_on(self, record: Begun, fd: int, mode: int) -> bool:
        sealed = self.journal.finished(record)
        if sealed is not None:
            self.writer.add(record.name, mode, sealed, record.size)
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
                os.lseek(fd, done, os.SEEK_SET)
                self.report(done)
                sealer = self.writer.sealer(sink.put, good, self.report)
                self._finish(record, fd, mode, sealer, sink.finish)
        except FileNotFoundError:
            return False
        return True

    def _finish(
        self, record: Begun, fd: int, mode: int, sealer: ObjectSealer, durable: Callable[[int], object]
    ) -> None:
        with sealer:
            sealer.fill(FdReadable(fd))
            facts = sealer.finish()
        if facts.plain_size != record.size:
            raise SourceChangedError(f"`{ascii(record.name)[1:-1]}` changed while it was sealed", remedy="seal again")
        durable(facts.size)
        sealed = as_object(record.object_id, facts)
        self.journal.finish(sealed)
        self.writer.add(record.name, mode, sealed, facts.plain_size)


def read_envelope(path: Path) -> Envelope:
    """Read a sealed directory's manifest envelope. It proves nothing: see verify_manifest.

    :raises IncompleteSealError: there is no manifest.
    :raises MalformedError: it isn't an envelope.
    :raises StorageError: the directory can't be read.
    """
    with local_store(path) as store:
        return envelope_in(store)


def open_directory(
    path: Path, *, data_key: SecretBytes, manifest: VerifiedManifest, threads: int | None = None
) -> OpenedModel:
    """Open a sealed directory: its listing, manifest, every header and the whole index are checked before this returns.

    ``data_key`` stays the caller's, who wipes it after closing what is returned.

    :raises StrongroomError: as :class:`~strongroom.sealing.model.OpenedModel`.
    :raises StorageError: the directory can't be read.
    """
    with ExitStack() as undo:
        store = undo.enter_context(local_store(path))
        engine = undo.enter_context(local_engine(threads))
        model = OpenedModel(store, manifest=manifest, data_key=data_key, engine=engine)
        model.resources.push(undo.pop_all())
        return model


def write_file(model: OpenedModel, name: str, fd: int, *, progress: Callable[[int], object] | None = None) -> None:
    """Write a file's plaintext to ``fd``, an empty regular file on memory-backed storage; emptied on any failure.

    Nobody but the caller may be able to read ``fd`` until this returns. ``progress`` is told the bytes of each chunk.

    :raises NoSuchFileError: no such file.
    :raises UsageError: ``fd`` isn't an empty regular file.
    :raises SealedObjectError: what a check of :mod:`strongroom.sealing.open` found.
    """
    target = os.fstat(fd)
    if not stat.S_ISREG(target.st_mode) or target.st_size:
        # What was written to a pipe couldn't be taken back when a later segment turns out to be forged.
        raise UsageError("plaintext is written to an empty regular file only")
    try:
        for chunk in model.chunks(name):
            with storage("writing plaintext", Path(model.store.place)):
                write_all(fd, chunk)
            if progress:
                progress(len(chunk))
    except BaseException:
        os.ftruncate(fd, 0)
        raise


def inspect_store(store: SealedStore) -> DirectoryFacts:
    """Return what a sealed model says of itself. Nothing is verified.

    :raises IncompleteSealError: no manifest.
    :raises MalformedError: the manifest or a header isn't one.
    :raises SealedObjectError: an object is missing, or its header isn't one.
    """
    envelope = envelope_in(store)
    manifest = read_manifest(envelope)
    headers = {}
    for item in (manifest.index, *manifest.objects):
        name = manifest.expectation(item).name
        with object_source(store.source, manifest, item) as source:
            headers[name] = _header(source, name)
    return DirectoryFacts(manifest, manifest.digest, tuple(s.key_id for s in envelope.signatures), headers)


def inspect_directory(path: Path) -> DirectoryFacts:
    """Return what a sealed directory says of itself, as :func:`inspect_store`."""
    with local_store(path) as store:
        return inspect_store(store)


def _header(source: PositionalSource, name: str) -> SealedHeader:
    raw = bytes(exactly(source, 0, min(source.size, HEADER_LENGTH), object_name=name))
    header = SealedHeader.parse(raw, object_name=name)
    Geometry.of_object(source.size, 1 << header.prelude.segment_bits, object_name=name)
    return header


def verify_directory(path: Path, manifest: VerifiedManifest, *, progress: Progress | None = None) -> None:
    """Check every byte of ciphertext, and the listing, against the manifest, without the data key.

    :raises SealedObjectError: the subclass says what doesn't fit, and where.
    :raises OtherManifestError: the directory's manifest isn't ``manifest``.
    """
    report = _reporter(progress, manifest.size)
    with local_store(path) as store, local_engine() as engine:
        if not envelope_in(store).digest.matches(manifest.digest):
            raise OtherManifestError("the directory holds another manifest than the verified one")
        check_listing(store, manifest)
        for item in (manifest.index, *manifest.objects):
            with object_source(store.source, manifest, item) as source:
                verify_ciphertext(source, manifest, item, engine)
            report(item.size)
