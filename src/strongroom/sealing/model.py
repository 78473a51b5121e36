"""A sealed model that is open: its manifest, its files, and readers for them, over any storage."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Final, Self

from strongroom.core.secret import SecretBytes
from strongroom.sealing.canary import Canary
from strongroom.sealing.errors import (
    MissingObjectError,
    NoSuchFileError,
    OtherManifestError,
    SealedIndexError,
    WrongDataKeyError,
)
from strongroom.sealing.index import MAX_INDEX, Index, SealedFile
from strongroom.sealing.inspect import verify_ciphertext
from strongroom.sealing.manifest import Manifest, ManifestObject, VerifiedManifest
from strongroom.sealing.open import ObjectReader, check_header
from strongroom.sealing.plan import Part
from strongroom.sealing.prelude import key_commitment
from strongroom.sealing.source import BytesSource, PositionalSource, exactly
from strongroom.sealing.spread import Engine, spread
from strongroom.sealing.store import SealedStore, check_listing, envelope_in

_MAX_SEALED_INDEX: Final = MAX_INDEX + (1 << 16)
"""The index's plaintext, its header, and 32 bytes for each of its segments, with room to spare."""


Opening = Callable[[str], AbstractContextManager[PositionalSource]]


@contextmanager
def object_source(opening: Opening, manifest: Manifest, item: ManifestObject) -> Iterator[PositionalSource]:
    """Open one object of a sealed model.

    :raises MissingObjectError: it isn't there.
    """
    name = manifest.expectation(item).name
    try:
        with opening(name) as source:
            yield source
    except FileNotFoundError:
        raise MissingObjectError("named by the manifest, but not there", object_name=name) from None


class OpenedModel:
    """A sealed model, opened: manifest, listing, every header and the whole index are checked. A context manager.

    ``data_key`` stays the caller's, who wipes it after closing this. Threads may share one.

    :raises IncompleteSealError: no manifest.
    :raises OtherManifestError: the storage's manifest isn't ``manifest``.
    :raises WrongDataKeyError: ``data_key`` isn't the one that the manifest commits to.
    :raises MissingObjectError: an object that the manifest names isn't there.
    :raises UnexpectedObjectError: something is there that it doesn't name.
    :raises SealedObjectError: an object fails steps 1 to 4 of :mod:`strongroom.sealing.open`.
    :raises SealedIndexError: the index doesn't fit.
    """

    def __init__(
        self, store: SealedStore, *, manifest: VerifiedManifest, data_key: SecretBytes, engine: Engine
    ) -> None:
        if key_commitment(data_key) != manifest.commitment:
            raise WrongDataKeyError(
                "the data key isn't the one that the manifest commits to", remedy="ask for this version's own data key"
            )
        if not envelope_in(store).digest.matches(manifest.digest):
            raise OtherManifestError("the directory holds another manifest than the verified one")
        check_listing(store, manifest)
        self.manifest = manifest
        self.store = store
        self._key, self._engine = data_key, engine
        self.resources = ExitStack()
        """What :meth:`close` lets go of; filled by whoever opened them."""
        self._lock = threading.Lock()
        self._shared: dict[str, ObjectReader] = {}
        self._objects = {item.object_id: item for item in manifest.objects}
        index = self._read_index()
        self._files = {item.name: item for item in index.files}
        self.canaries: tuple[Canary, ...] = index.canaries
        spread(engine, manifest.objects, self._check_header, scratch=0, depth=8)

    def _check_header(self, item: ManifestObject, _scratch: memoryview) -> None:
        with object_source(self.store.source, self.manifest, item) as source:
            check_header(source, self.manifest.expectation(item))

    def _read_index(self) -> Index:
        item, expected = self.manifest.index, self.manifest.expectation(self.manifest.index)
        if item.size > _MAX_SEALED_INDEX:
            raise SealedIndexError(f"the manifest gives the index {item.size} bytes; at most {MAX_INDEX} are read")
        with object_source(self.store.source, self.manifest, item) as stored:
            check_header(stored, expected)
            raw = bytes(exactly(stored, 0, item.size, object_name=expected.name))
        # The tree root too, not only the tags: whoever else holds the data key could forge an index that opens.
        source = BytesSource(raw)
        verify_ciphertext(source, self.manifest, item, self._engine)
        with ObjectReader(source, expected, self._key) as reader:
            plain = bytearray(reader.plain_size)
            reader.read_into(0, memoryview(plain))
        return Index.parse(bytes(plain), self.manifest)

    def files(self) -> tuple[SealedFile, ...]:
        """Return the model's files in order of their names."""
        return tuple(self._files.values())

    def file(self, name: str) -> SealedFile:
        """Return one file.

        :raises NoSuchFileError: no such file.
        """
        try:
            return self._files[name]
        except KeyError:
            raise NoSuchFileError("the sealed model has no file of that name") from None

    @contextmanager
    def _reader(self, name: str) -> Iterator[ObjectReader]:
        item = self._objects[self.file(name).object_id]
        with (
            object_source(self.store.source, self.manifest, item) as source,
            self._open(source, item) as reader,
        ):
            yield reader

    def _open(self, source: PositionalSource, item: ManifestObject) -> ObjectReader:
        return ObjectReader(source, self.manifest.expectation(item), self._key, engine=self._engine)

    def reader(self, name: str) -> ObjectReader:
        """Return a reader for ranges of one file, opened at its first use and kept until :meth:`close`.

        Its reads do steps 1 to 8: they trust every holder of the data key as they trust the publisher.

        :raises NoSuchFileError: no such file.
        :raises SealedObjectError: what a check of :mod:`strongroom.sealing.open` found.
        """
        with self._lock:
            if name not in self._shared:
                item = self._objects[self.file(name).object_id]
                source = self.resources.enter_context(object_source(self.store.shared_source, self.manifest, item))
                self._shared[name] = self.resources.enter_context(self._open(source, item))
            return self._shared[name]

    def chunks(self, name: str) -> Generator[memoryview, None, None]:
        """Yield a file's plaintext in order, step 9 before the last chunk. On an error, throw away what came before.

        Each chunk is read-only and valid until the next one is asked for.

        :raises NoSuchFileError: no such file.
        :raises SealedObjectError: what a check of :mod:`strongroom.sealing.open` found.
        """
        with self._reader(name) as reader:
            yield from reader.segments()

    def read_parts_of_whole(self, name: str, parts: Sequence[Part]) -> None:
        """Fill ``parts`` of a file and check all of it, step 9 included. All parts are wiped on any failure.

        :raises NoSuchFileError: no such file.
        :raises SealedObjectError: what a check of :mod:`strongroom.sealing.open` found.
        """
        with self._reader(name) as reader:
            reader.read_parts_of_whole(parts)

    def close(self) -> None:
        """Let go of the storage and the derived keys. The data key is the caller's to wipe."""
        self.resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
