"""Making and opening the encrypted copy of a delivery. What is hashed is the very memory that is encrypted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Signer
from strongroom.intake.adapters.delivered_folder import DeliveredFolder, OpenFile
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.source import Source
from strongroom.intake.verdict import DeliveredFile, FileList
from strongroom.sealing.adapters.directory import open_directory, read_envelope
from strongroom.sealing.adapters.files import storage
from strongroom.sealing.adapters.job import Look, PlainFile, PlainFiles, Progress, changed, seal_files
from strongroom.sealing.adapters.memory import plaintext_buffer
from strongroom.sealing.floe import wipe
from strongroom.sealing.manifest import MAX_OBJECTS, ManifestExpectation, verify_manifest
from strongroom.sealing.model import OpenedModel
from strongroom.sealing.prelude import DEFAULT_SEGMENT_BITS
from strongroom.sealing.write import VersionFacts

_AHEAD: Final = 4 << 20
FILE_MODE: Final = 0o644
"""Of every file: what a supplier set, programs' bits among them, isn't taken along."""


@dataclass(frozen=True, slots=True)
class _Delivered:
    """A delivered file, read once."""

    file: OpenFile

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def size(self) -> int:
        return self.file.size

    @property
    def changed(self) -> int:
        return self.file.found.st_ctime_ns

    @property
    def mode(self) -> int:
        return FILE_MODE

    def readinto(self, buffer: memoryview, /) -> int:
        return os.readv(self.file.fd, [buffer])

    def skip(self, count: int) -> None:
        os.lseek(self.file.fd, count, os.SEEK_SET)

    def check(self) -> None:
        now = os.fstat(self.file.fd)
        if (now.st_size, now.st_ctime_ns) != (self.size, self.changed):
            raise changed(self.name)


class DeliveredFiles:
    """A delivered folder as something that is sealed."""

    def __init__(self, folder: DeliveredFolder) -> None:
        self._files = {one.name: _Delivered(one) for one in folder.files}

    def looks(self) -> list[Look]:
        """Return every file."""
        return [Look(name=one.name, size=one.size, changed=one.changed) for one in self._files.values()]

    @contextmanager
    def open(self, name: str) -> Iterator[PlainFile]:
        """Open a file."""
        os.lseek(self._files[name].file.fd, 0, os.SEEK_SET)
        yield self._files[name]

    def check(self) -> None:
        """Refuse if a file was written to meanwhile."""
        for one in self._files.values():
            one.check()


class _Hashing:
    """A file that is hashed as it is read. What was skipped wasn't read, and then there is no digest."""

    def __init__(self, file: PlainFile) -> None:
        self._file = file
        self.name, self.size, self.changed, self.mode = file.name, file.size, file.changed, file.mode
        self._made: Any = hashlib.sha256()
        self._read = 0

    def readinto(self, buffer: memoryview, /) -> int:
        got = self._file.readinto(buffer) or 0
        self._made.update(buffer[:got])
        self._read += got
        return got

    def skip(self, count: int) -> None:
        self._file.skip(count)

    def check(self) -> None:
        self._file.check()

    def digest(self) -> Digest | None:
        whole = self._read == self.size
        return Digest(DigestAlgorithm.SHA256, self._made.digest()) if whole else None


@dataclass(slots=True)
class _HashingFiles:
    """Files that are hashed as they are read."""

    files: PlainFiles
    digests: dict[str, Digest] = field(default_factory=dict)

    def looks(self) -> list[Look]:
        return self.files.looks()

    @contextmanager
    def open(self, name: str) -> Iterator[PlainFile]:
        with self.files.open(name) as file:
            hashing = _Hashing(file)
            yield hashing
            digest = hashing.digest()
        if digest is not None:
            self.digests[name] = digest

    def check(self) -> None:
        self.files.check()


def make_copy(
    files: PlainFiles,
    place: Path,
    *,
    facts: VersionFacts,
    data_key: SecretBytes,
    signer: Signer,
    progress: Progress | None,
) -> tuple[FileList, Digest]:
    """Encrypt ``files`` into ``place``, each read once; returns their list, and the copy's manifest digest.

    Called again after an interruption it goes on. What was read by an earlier call is hashed from the copy: the list
    is of what was stored, never of what was offered.

    :raises IntakeRefusedError: too-many-files.
    :raises StrongroomError: as :func:`~strongroom.sealing.adapters.directory.seal_directory`: a source that changed, a
        full disk, a place that somebody else works on.
    """
    if len(files.looks()) > MAX_OBJECTS:
        raise IntakeRefusedError(Rule.TOO_MANY_FILES, f"more than {MAX_OBJECTS} files; a sealed model has no more")
    expect = ManifestExpectation(genesis=facts.genesis, model=facts.model, version=facts.version, digest=None)
    hashing = _HashingFiles(files)
    if not place.is_dir():
        with storage("encrypting the delivery", place.parent):
            seal_files(
                hashing,
                place,
                facts=facts,
                data_key=data_key,
                signer=signer,
                random_bytes=os.urandom,
                canaries=(),
                stanzas=(),
                progress=progress,
                segment_bits=DEFAULT_SEGMENT_BITS,
                threads=None,
                replace=False,
            )
    with open_copy(place, expect=expect, data_key=data_key, signer=signer) as model:
        listed = [
            DeliveredFile(one.name, one.size, hashing.digests.get(one.name) or _digest(model, one.name))
            for one in model.files()
        ]
        return FileList.of(listed), model.manifest.digest


def _digest(model: OpenedModel, name: str) -> Digest:
    made = hashlib.sha256()
    for chunk in model.chunks(name):
        made.update(chunk)
    return Digest(DigestAlgorithm.SHA256, made.digest())


@contextmanager
def open_copy(
    place: Path, *, expect: ManifestExpectation, data_key: SecretBytes, signer: Signer
) -> Iterator[OpenedModel]:
    """Open a copy, to be read in memory.

    :raises StrongroomError: as :func:`~strongroom.sealing.adapters.directory.open_directory`, or the manifest isn't the
        one that this operator signed.
    """
    manifest = verify_manifest(read_envelope(place), signer.public_key, expect=expect)
    with open_directory(place, data_key=data_key, manifest=manifest) as model:
        yield model


class _Window:
    """What was decrypted ahead, of one file at a time."""

    def __init__(self) -> None:
        self.buffer = plaintext_buffer(_AHEAD)
        self.name = ""
        self.begin = self.end = 0


class _CopySource:
    """One file of a copy, decrypted as it is read, and a few segments ahead: judges read in small steps."""

    def __init__(self, model: OpenedModel, name: str, window: _Window) -> None:
        self._model, self._name, self._window = model, name, window
        self.size = model.file(name).size

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes.

        :raises SealedObjectError: the copy was changed.
        """
        window = self._window
        if length > _AHEAD // 2:
            found = bytearray(length)
            self._model.reader(self._name).read_into(offset, memoryview(found))
            return bytes(found)
        if window.name != self._name or offset < window.begin or offset + length > window.end:
            self._fill(offset)
        return bytes(window.buffer[offset - window.begin : offset - window.begin + length])

    def _fill(self, offset: int) -> None:
        reader, window = self._model.reader(self._name), self._window
        # From where a segment begins, so that few are decrypted twice.
        begin = offset - offset % reader.geometry.room
        end = min(begin + _AHEAD, self.size)
        window.name = ""
        reader.read_into(begin, window.buffer[: end - begin])
        window.name, window.begin, window.end = self._name, begin, end


@contextmanager
def copy_sources(model: OpenedModel) -> Iterator[Mapping[str, Source]]:
    """Give every file of a copy, by name; one at a time is best read from front to back."""
    window = _Window()
    try:
        yield {one.name: _CopySource(model, one.name, window) for one in model.files()}
    finally:
        wipe(window.buffer)
