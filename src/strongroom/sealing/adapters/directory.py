"""Model directories: sealed into ``NAME.sealed/``, opened from it, and looked at without a key.

``manifest.json`` (the signed envelope), ``index.sealed``, ``objects/`` with one sealed object for each file, and
``recipients.json`` where somebody but the keeper can open it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from strongroom.core.envelope import Envelope
from strongroom.core.errors import UsageError
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Signer
from strongroom.sealing.adapters.engine import local_engine
from strongroom.sealing.adapters.files import folder, regular_file, storage, walk, write_all
from strongroom.sealing.adapters.job import Look, Progress, absolute, changed, reporter, seal_files
from strongroom.sealing.adapters.local_store import local_store
from strongroom.sealing.canary import Canary
from strongroom.sealing.errors import OtherManifestError, SourceChangedError
from strongroom.sealing.header import HEADER_LENGTH, Geometry, SealedHeader
from strongroom.sealing.inspect import DirectoryFacts, verify_ciphertext
from strongroom.sealing.manifest import VerifiedManifest, read_manifest
from strongroom.sealing.model import OpenedModel, object_source
from strongroom.sealing.names import file_name
from strongroom.sealing.prelude import DEFAULT_SEGMENT_BITS
from strongroom.sealing.recipients import Stanza
from strongroom.sealing.seal import RandomBytes
from strongroom.sealing.source import PositionalSource, exactly
from strongroom.sealing.store import SealedStore, check_listing, envelope_in
from strongroom.sealing.write import SealedDirectory, VersionFacts


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
    destination = absolute(destination)
    if destination.parent.resolve().is_relative_to(source.resolve()):
        raise UsageError("the sealed directory can't lie inside the directory that is sealed")
    with storage("sealing", destination.parent), folder(source) as source_fd:
        return seal_files(
            _FolderFiles(source_fd),
            destination,
            facts=facts,
            data_key=data_key,
            signer=signer,
            random_bytes=random_bytes,
            canaries=canaries,
            stanzas=stanzas,
            progress=progress,
            segment_bits=segment_bits,
            threads=threads,
            replace=replace,
        )


@dataclass(frozen=True, slots=True)
class _FolderFile:
    """A file of a folder, open for sealing."""

    name: str
    found: os.stat_result
    fd: int

    @property
    def size(self) -> int:
        return self.found.st_size

    @property
    def changed(self) -> int:
        # When its inode last changed: unlike the modification time, nobody can set that.
        return self.found.st_ctime_ns

    @property
    def mode(self) -> int:
        return stat.S_IMODE(self.found.st_mode) & 0o777

    def readinto(self, buffer: memoryview, /) -> int:
        return os.readv(self.fd, [buffer])

    def skip(self, count: int) -> None:
        os.lseek(self.fd, count, os.SEEK_SET)

    def check(self) -> None:
        after = os.fstat(self.fd)
        if (self.size, self.changed) != (after.st_size, after.st_ctime_ns):
            raise changed(self.name)


class _FolderFiles:
    """What lies in a folder, to be sealed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._names = [file_name(name) for name in walk(fd)]

    def looks(self) -> list[Look]:
        found = {name: os.stat(name, dir_fd=self._fd, follow_symlinks=False) for name in self._names}
        return [Look(name=name, size=one.st_size, changed=one.st_ctime_ns) for name, one in found.items()]

    @contextmanager
    def open(self, name: str) -> Iterator[_FolderFile]:
        with regular_file(name, within=self._fd) as fd:
            yield _FolderFile(name, os.fstat(fd), fd)

    def check(self) -> None:
        if walk(self._fd) != self._names:
            raise SourceChangedError("files appeared or vanished meanwhile", remedy="seal again")


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
    report = reporter(progress, manifest.size)
    with local_store(path) as store, local_engine() as engine:
        if not envelope_in(store).digest.matches(manifest.digest):
            raise OtherManifestError("the directory holds another manifest than the verified one")
        check_listing(store, manifest)
        for item in (manifest.index, *manifest.objects):
            with object_source(store.source, manifest, item) as source:
                verify_ciphertext(source, manifest, item, engine)
            report(item.size)
