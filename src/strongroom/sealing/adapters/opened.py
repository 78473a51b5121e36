"""A sealed directory that is open: its listing, its manifest, its files."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Self

from strongroom.core.envelope import MAX_PAYLOAD, Envelope
from strongroom.core.errors import UsageError
from strongroom.core.secret import SecretBytes
from strongroom.sealing.adapters.files import (
    FileSource,
    regular_file,
    storage,
    walk,
    write_all,
)
from strongroom.sealing.errors import (
    IncompleteSealError,
    MissingObjectError,
    NoSuchFileError,
    SealedIndexError,
    UnexpectedObjectError,
)
from strongroom.sealing.index import MAX_INDEX, Index, SealedFile
from strongroom.sealing.inspect import verify_ciphertext
from strongroom.sealing.manifest import (
    INDEX_NAME,
    Manifest,
    ManifestObject,
    VerifiedManifest,
)
from strongroom.sealing.open import ObjectReader, check_header
from strongroom.sealing.source import BytesSource, read_exactly

MANIFEST_NAME: Final = "manifest.json"
_MAX_SEALED_INDEX: Final = MAX_INDEX + (1 << 16)
"""The index's plaintext, its header, and 32 bytes for each of its segments, with room to spare."""


def envelope_in(fd: int) -> Envelope:
    """Read the manifest envelope of an open sealed directory.

    :raises IncompleteSealError: there is none.
    :raises MalformedError: it isn't an envelope.
    """
    try:
        with regular_file(MANIFEST_NAME, within=fd) as file:
            # One byte more than an envelope may have: parsing refuses it, and no size on disk is trusted.
            return Envelope.parse(b"".join(_chunks(file, 2 * MAX_PAYLOAD + 1)))
    except FileNotFoundError:
        raise IncompleteSealError(
            "there is no manifest: an interrupted seal, or not a sealed directory",
            remedy="seal the model again; a sealed directory is complete only with its manifest",
        ) from None


def _chunks(fd: int, most: int) -> Iterator[bytes]:
    while most and (data := os.read(fd, min(most, 1 << 20))):
        most -= len(data)
        yield data


def check_listing(fd: int, manifest: Manifest) -> None:
    """Check that the directory holds exactly what the manifest names.

    :raises MissingObjectError: something is missing.
    :raises UnexpectedObjectError: something is there that the manifest doesn't name.
    """
    wanted = {MANIFEST_NAME, INDEX_NAME, *(item.name for item in manifest.objects)}
    found = set(walk(fd))
    for name in sorted(wanted - found):
        raise MissingObjectError("named by the manifest, but not there", object_name=name)
    for name in sorted(found - wanted):
        raise UnexpectedObjectError("there, but not named by the manifest", object_name=ascii(name)[1:-1])


@contextmanager
def object_source(fd: int, manifest: Manifest, item: ManifestObject) -> Iterator[FileSource]:
    """Open one object of a sealed directory.

    :raises MissingObjectError: it isn't there.
    """
    name = manifest.expectation(item).name
    try:
        with regular_file(name, within=fd) as file:
            yield FileSource(file)
    except FileNotFoundError:
        raise MissingObjectError("named by the manifest, but not there", object_name=name) from None


class OpenedModel:
    """A sealed directory, opened. A context manager; made by :func:`open_directory`."""

    def __init__(self, path: Path, fd: int, manifest: VerifiedManifest, data_key: SecretBytes, pool: Executor) -> None:
        self._path = path
        self._fd = fd
        self.manifest = manifest
        self._key = data_key
        self._pool = pool
        self.resources = ExitStack()
        """What :meth:`close` lets go of; filled by whoever opened them."""
        self._objects = {item.object_id: item for item in manifest.objects}
        self._files = {item.name: item for item in self._read_index().files}

    def _read_index(self) -> Index:
        item, expected = self.manifest.index, self.manifest.expectation(self.manifest.index)
        if item.size > _MAX_SEALED_INDEX:
            raise SealedIndexError(f"the manifest gives the index {item.size} bytes; at most {MAX_INDEX} are read")
        with object_source(self._fd, self.manifest, item) as file:
            check_header(file, expected)
            raw = bytearray(item.size)
            read_exactly(file, 0, memoryview(raw), object_name=expected.name)
        # The tree root too, not only the tags: whoever else holds the data key could forge an index that opens, and
        # with it every plaintext digest.
        source = BytesSource(raw)
        verify_ciphertext(source, self.manifest, item)
        with ObjectReader(source, expected, self._key) as reader:
            plain = bytearray(reader.plain_size)
            reader.read_into(0, memoryview(plain))
        return Index.parse(bytes(plain), self.manifest)

    def files(self) -> tuple[SealedFile, ...]:
        """Return the model's files in order of their names."""
        return tuple(self._files.values())

    def _file(self, name: str) -> SealedFile:
        try:
            return self._files[name]
        except KeyError:
            raise NoSuchFileError("the sealed model has no file of that name") from None

    @contextmanager
    def _reader(self, file: SealedFile) -> Iterator[ObjectReader]:
        item = self._objects[file.object_id]
        with (
            storage("reading a sealed object", self._path),
            object_source(self._fd, self.manifest, item) as source,
            ObjectReader(source, self.manifest.expectation(item), self._key, pool=self._pool) as reader,
        ):
            yield reader

    def read_file(self, name: str) -> Iterator[memoryview]:
        """Yield a file's plaintext in order. Every check on the whole file is done before the first byte is handed out.

        That reads the object twice; :meth:`write_file` and :meth:`read_into` read it once. Each chunk is read-only and
        valid until the next one is asked for.

        :raises NoSuchFileError: no such file.
        :raises SealedObjectError: what a check of :mod:`strongroom.sealing.open` found.
        """
        file = self._file(name)
        with self._reader(file) as reader:
            for _chunk in reader.checked(file.digest):
                pass
            # The second pass checks all of it again: the storage may have changed in between.
            yield from reader.checked(file.digest)

    def write_file(self, name: str, fd: int, *, progress: Callable[[int], object] | None = None) -> None:
        """Write a file's plaintext to ``fd``, an empty regular file on memory-backed storage; emptied on any failure.

        Nobody but the caller may be able to read ``fd`` until this returns. ``progress`` is told the bytes of each
        chunk.

        :raises NoSuchFileError: no such file.
        :raises UsageError: ``fd`` isn't an empty regular file.
        :raises SealedObjectError: what a check of :mod:`strongroom.sealing.open` found.
        """
        file = self._file(name)
        target = os.fstat(fd)
        if not stat.S_ISREG(target.st_mode) or target.st_size:
            # What was written to a pipe couldn't be taken back when a later segment turns out to be forged.
            raise UsageError("plaintext is written to an empty regular file only")
        try:
            with self._reader(file) as reader:
                for chunk in reader.checked(file.digest):
                    with storage("writing plaintext", self._path):
                        write_all(fd, chunk)
                    if progress:
                        progress(len(chunk))
        except BaseException:
            os.ftruncate(fd, 0)
            raise

    def read_into(self, name: str, buffer: memoryview) -> None:
        """Fill ``buffer``, which has exactly the file's size; wiped on any failure.

        :raises NoSuchFileError: no such file.
        :raises SealedObjectError: what a check of :mod:`strongroom.sealing.open` found.
        """
        file = self._file(name)
        with self._reader(file) as reader:
            reader.read_all(buffer, file.digest)

    def read_range(self, name: str, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` from ``offset``; only the segments touched are read, and step 9 can't be done for a part.

        :raises NoSuchFileError: no such file.
        :raises SealedObjectError: what a check of :mod:`strongroom.sealing.open` found.
        """
        with self._reader(self._file(name)) as reader:
            reader.read_into(offset, buffer)

    def check_headers(self) -> None:
        """Do steps 1 to 4 on every object."""
        for item in self.manifest.objects:
            with object_source(self._fd, self.manifest, item) as source:
                check_header(source, self.manifest.expectation(item))

    def close(self) -> None:
        """Let go of the directory. The data key is the caller's to wipe."""
        self.resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
