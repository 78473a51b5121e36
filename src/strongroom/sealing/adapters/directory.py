"""Model directories: sealed into ``NAME.sealed/``, opened from it, and looked at without a key.

``manifest.json`` (the signed envelope), ``index.sealed``, and ``objects/`` with one sealed object for each file.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import UsageError
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Signer
from strongroom.sealing.adapters.files import (
    FdReadable,
    folder,
    new_file,
    regular_file,
    storage,
    walk,
    write_all,
)
from strongroom.sealing.adapters.opened import MANIFEST_NAME, OpenedModel, check_listing, envelope_in, object_source
from strongroom.sealing.adapters.publish import published
from strongroom.sealing.errors import (
    NoSpaceError,
    NothingToSealError,
    OtherManifestError,
    SourceChangedError,
    TooManyFilesError,
    WrongDataKeyError,
)
from strongroom.sealing.header import Geometry, SealedHeader
from strongroom.sealing.index import Index, SealedFile
from strongroom.sealing.inspect import DirectoryFacts, verify_ciphertext
from strongroom.sealing.manifest import (
    INDEX_NAME,
    MAX_OBJECTS,
    Manifest,
    ManifestObject,
    VerifiedManifest,
    manifest_envelope,
    read_manifest,
)
from strongroom.sealing.names import check_distinct, file_name
from strongroom.sealing.prelude import DEFAULT_SEGMENT_BITS, ID_LENGTH, Prelude, key_commitment, model_version_id
from strongroom.sealing.seal import RandomBytes, Readable, seal_object
from strongroom.sealing.source import PositionalSource, read_exactly

Progress = Callable[[int, int], object]
"""Told (plaintext bytes done, plaintext bytes in all) after each segment."""

OBJECTS_NAME: Final = "objects"


def default_threads() -> int:
    """Return how many threads seal or open: more than four bring little, memory is the limit."""
    return min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class SealedDirectory:
    """What sealing a directory gave: the manifest to register, and its signed envelope."""

    manifest: Manifest
    envelope: Envelope


def seal_directory(
    source: Path,
    destination: Path,
    *,
    model: ModelId,
    version: int,
    predecessor: Digest | None,
    genesis: Digest,
    data_key: SecretBytes,
    data_key_id: str,
    signer: Signer,
    publisher: PersonId,
    random_bytes: RandomBytes,
    progress: Progress | None = None,
    segment_bits: int = DEFAULT_SEGMENT_BITS,
    threads: int | None = None,
    replace: bool = False,
) -> SealedDirectory:
    """Seal every file under ``source`` into a new directory ``destination``, and sign its manifest.

    ``data_key`` must be new for this version; it isn't wiped here. ``destination`` appears whole or not at all. The
    plaintext at ``source`` stays where it is. With ``replace`` a directory at ``destination`` is exchanged in one step.

    :raises DestinationExistsError: ``destination`` is there already, and ``replace`` is False.
    :raises SymlinkError: a symbolic link under ``source``, or ``source`` itself.
    :raises SpecialFileError: something under ``source`` that is neither a folder nor a regular file.
    :raises UnsafeNameError: a name that can't be restored safely (NameCollisionError: two that are one).
    :raises SourceChangedError: ``source`` changed meanwhile.
    :raises NoSpaceError: the disk, the quota or the file size limit ran out; nothing was published.
    :raises StorageError: the file system refused for another reason.
    """
    destination = Path(os.path.abspath(destination))  # noqa: PTH100 - resolve() would follow a link at the end
    inside = destination.parent.resolve()
    if inside.is_relative_to(source.resolve()):
        raise UsageError("the sealed directory can't lie inside the directory that is sealed")
    with storage("sealing", destination.parent), folder(source) as source_fd:
        names = [file_name(name) for name in walk(source_fd)]
        sizes = _sizes(source_fd, names)
        _check_room(destination.parent, sum(sizes))
        job = _SealJob(
            manifest_of=lambda index, objects: Manifest(
                genesis=genesis,
                model=model,
                version=version,
                predecessor=predecessor,
                data_key_id=data_key_id,
                commitment=key_commitment(data_key),
                publisher=publisher,
                index=index,
                objects=objects,
            ),
            model_version=model_version_id(genesis, model, version),
            data_key=data_key,
            random_bytes=random_bytes,
            segment_bits=segment_bits,
            report=_reporter(progress, sum(sizes)),
        )
        with (
            ThreadPoolExecutor(threads or default_threads()) as pool,
            published(destination, unique=random_bytes(8).hex(), replace=replace) as out_fd,
        ):
            manifest = job.run(source_fd, names, out_fd, pool)
            envelope = manifest_envelope(manifest, signer)
            with new_file(MANIFEST_NAME, within=out_fd) as fd:
                write_all(fd, memoryview(envelope.to_bytes()))
    return SealedDirectory(manifest, envelope)


def _sizes(source_fd: int, names: list[str]) -> list[int]:
    if not names:
        raise NothingToSealError("there is no file to seal")
    if len(names) > MAX_OBJECTS:
        raise TooManyFilesError(f"{len(names)} files; one sealed directory holds at most {MAX_OBJECTS}")
    check_distinct(names)
    return [os.stat(name, dir_fd=source_fd, follow_symlinks=False).st_size for name in names]


def _check_room(parent: Path, size: int) -> None:
    room = os.statvfs(parent)
    free = room.f_bavail * room.f_frsize
    if size > free:
        raise NoSpaceError(
            f"sealing takes at least {size} bytes and {free} are free; nothing was written",
            remedy=f"free at least {size - free} bytes on the file system of `{parent}`",
        )


def _reporter(progress: Progress | None, total: int) -> Callable[[int], object] | None:
    if progress is None:
        return None
    done = 0

    def report(more: int) -> None:
        nonlocal done
        done += more
        progress(done, total)

    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class _SealJob:
    """One sealing: the facts that every object shares."""

    manifest_of: Callable[[ManifestObject, tuple[ManifestObject, ...]], Manifest]
    model_version: bytes
    data_key: SecretBytes
    random_bytes: RandomBytes
    segment_bits: int
    report: Callable[[int], object] | None

    def run(self, source_fd: int, names: list[str], out_fd: int, pool: Executor) -> Manifest:
        """Seal all files, then the index; returns the manifest that names them."""
        os.mkdir(OBJECTS_NAME, dir_fd=out_fd)
        files, objects = [], []
        with folder(OBJECTS_NAME, within=out_fd) as objects_fd:
            for name in names:
                file, sealed = self._file(name, source_fd, objects_fd, pool)
                files.append(file)
                objects.append(sealed)
            os.fsync(objects_fd)
        if walk(source_fd) != names:
            raise SourceChangedError("files appeared or vanished while the directory was sealed", remedy="seal again")
        plain = io.BytesIO(Index(tuple(files)).to_bytes())
        with new_file(INDEX_NAME, within=out_fd) as fd:
            index = self._object(plain, fd, self.random_bytes(ID_LENGTH), pool, report=None)[0]
        return self.manifest_of(index, tuple(sorted(objects, key=lambda item: item.object_id)))

    def _file(self, name: str, source_fd: int, out_fd: int, pool: Executor) -> tuple[SealedFile, ManifestObject]:
        object_id = self.random_bytes(ID_LENGTH)
        with regular_file(name, within=source_fd) as fd, new_file(f"{object_id.hex()}.sealed", within=out_fd) as out:
            before = os.fstat(fd)
            sealed, size, digest = self._object(FdReadable(fd), out, object_id, pool, report=self.report)
            after = os.fstat(fd)
        if size != before.st_size or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise SourceChangedError(f"`{ascii(name)[1:-1]}` changed while it was sealed", remedy="seal again")
        mode = stat.S_IMODE(before.st_mode) & 0o777
        return SealedFile(name=name, mode=mode, size=size, digest=digest, object_id=object_id), sealed

    def _object(
        self, source: Readable, out: int, object_id: bytes, pool: Executor, *, report: Callable[[int], object] | None
    ) -> tuple[ManifestObject, int, Digest]:
        facts = seal_object(
            source,
            lambda data: write_all(out, data),
            prelude=Prelude(
                model_version=self.model_version,
                object_id=object_id,
                commitment=key_commitment(self.data_key),
                segment_bits=self.segment_bits,
            ),
            data_key=self.data_key,
            random_bytes=self.random_bytes,
            pool=pool,
            progress=report,
        )
        sealed = ManifestObject(object_id=object_id, size=facts.size, header=facts.header, root=facts.root)
        return sealed, facts.plain_size, facts.plain_digest


def read_envelope(path: Path) -> Envelope:
    """Read a sealed directory's manifest envelope. It proves nothing: see verify_manifest.

    :raises IncompleteSealError: there is no manifest.
    :raises MalformedError: it isn't an envelope.
    :raises StorageError: the directory can't be read.
    """
    with storage("reading the manifest", path), folder(path) as fd:
        return envelope_in(fd)


def open_directory(
    path: Path, *, data_key: SecretBytes, manifest: VerifiedManifest, threads: int | None = None
) -> OpenedModel:
    """Open a sealed directory: its listing, manifest, every header and the whole index are checked before this returns.

    ``data_key`` stays the caller's, who wipes it after closing what is returned.

    :raises IncompleteSealError: no manifest.
    :raises OtherManifestError: the directory's manifest isn't ``manifest``.
    :raises WrongDataKeyError: ``data_key`` isn't the one that the manifest commits to.
    :raises MissingObjectError: an object that the manifest names isn't there.
    :raises UnexpectedObjectError: something is there that it doesn't name.
    :raises SealedObjectError: an object fails steps 1 to 4 of :mod:`strongroom.sealing.open`.
    :raises SealedIndexError: the index doesn't fit.
    """
    if key_commitment(data_key) != manifest.commitment:
        raise WrongDataKeyError(
            "the data key isn't the one that the manifest commits to", remedy="ask for this version's own data key"
        )
    with storage("opening the sealed directory", path), ExitStack() as undo:
        fd = undo.enter_context(folder(path))
        if not read_manifest(envelope_in(fd)).digest.matches(manifest.digest):
            raise OtherManifestError("the directory holds another manifest than the verified one")
        check_listing(fd, manifest)
        pool = undo.enter_context(ThreadPoolExecutor(threads or default_threads()))
        model = OpenedModel(path, fd, manifest, data_key, pool)
        model.check_headers()
        model.resources = undo.pop_all()
        return model


def inspect_directory(path: Path) -> DirectoryFacts:
    """Return what a sealed directory says of itself. Nothing is verified.

    :raises IncompleteSealError: no manifest.
    :raises MalformedError: the manifest or a header isn't one.
    :raises SealedObjectError: an object is missing, or its header isn't one.
    """
    with storage("inspecting the sealed directory", path), folder(path) as fd:
        envelope = envelope_in(fd)
        manifest = read_manifest(envelope)
        headers = {}
        for item in (manifest.index, *manifest.objects):
            name = manifest.expectation(item).name
            with object_source(fd, manifest, item) as source:
                headers[name] = _header(source, name)
    return DirectoryFacts(manifest, manifest.digest, tuple(s.key_id for s in envelope.signatures), headers)


def _header(source: PositionalSource, name: str) -> SealedHeader:
    raw = bytearray(min(source.size, 4096))
    read_exactly(source, 0, memoryview(raw), object_name=name)
    header = SealedHeader.parse(bytes(raw), object_name=name)
    Geometry.of_object(source.size, 1 << header.prelude.segment_bits, object_name=name)
    return header


def verify_directory(path: Path, manifest: VerifiedManifest, *, progress: Progress | None = None) -> None:
    """Check every byte of ciphertext, and the listing, against the manifest, without the data key.

    :raises SealedObjectError: the subclass says what doesn't fit, and where.
    :raises OtherManifestError: the directory's manifest isn't ``manifest``.
    """
    report = _reporter(progress, manifest.size)
    with storage("verifying the sealed directory", path), folder(path) as fd:
        if not read_manifest(envelope_in(fd)).digest.matches(manifest.digest):
            raise OtherManifestError("the directory holds another manifest than the verified one")
        check_listing(fd, manifest)
        for item in (manifest.index, *manifest.objects):
            with object_source(fd, manifest, item) as source:
                verify_ciphertext(source, manifest, item)
            if report:
                report(item.size)
