"""Writing a sealed model, file by file, to any target: objects, then the index, then the signed manifest.

Sealing a directory, saving tensors, distributed checkpoints and file systems over object stores all go through here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import UsageError
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Signer
from strongroom.sealing.canary import Canary
from strongroom.sealing.errors import NothingToSealError, UnfinishedFileError
from strongroom.sealing.header import Geometry
from strongroom.sealing.index import Index, SealedFile
from strongroom.sealing.manifest import INDEX_NAME, Manifest, ManifestObject, manifest_envelope, object_name
from strongroom.sealing.names import check_distinct, file_name
from strongroom.sealing.prelude import DEFAULT_SEGMENT_BITS, ID_LENGTH, Prelude, key_commitment, model_version_id
from strongroom.sealing.recipients import RECIPIENTS_NAME, Recipients, Stanza
from strongroom.sealing.seal import ObjectSealer, Put, RandomBytes, SealedFacts, Stream
from strongroom.sealing.spread import Engine
from strongroom.sealing.store import MANIFEST_NAME, SealedTarget

FILE_MODE: Final = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFacts:
    """What a new version is."""

    genesis: Digest
    model: ModelId
    version: int
    predecessor: Digest | None
    data_key_id: str
    publisher: PersonId


@dataclass(frozen=True, slots=True)
class SealedDirectory:
    """What sealing a model gave: the manifest to register, and its signed envelope."""

    manifest: Manifest
    envelope: Envelope


class ModelWriter:
    """A new version being sealed: :meth:`file` for each file, in any order and from any thread, then :meth:`finish`.

    ``data_key`` must be new for this version; it isn't wiped here.
    """

    def __init__(
        self,
        target: SealedTarget,
        facts: VersionFacts,
        *,
        data_key: SecretBytes,
        random_bytes: RandomBytes,
        engine: Engine,
        segment_bits: int = DEFAULT_SEGMENT_BITS,
    ) -> None:
        self.facts = facts
        self.random_bytes = random_bytes
        self._target, self._key, self._engine = target, data_key, engine
        self._segment_bits = segment_bits
        self._commitment = key_commitment(data_key)
        self._model_version = model_version_id(facts.genesis, facts.model, facts.version)
        self._lock = threading.Lock()
        self._files: dict[str, SealedFile] = {}
        self._objects: list[ManifestObject] = []
        self._unfinished: set[bytes] = set()

    def prelude(self, object_id: bytes) -> Prelude:
        """Return the prelude of one of this version's objects."""
        return Prelude(
            model_version=self._model_version,
            object_id=object_id,
            commitment=self._commitment,
            segment_bits=self._segment_bits,
        )

    def sealed_size(self, plain_size: int) -> int:
        """Return how many bytes an object takes whose file has ``plain_size``."""
        return Geometry.of_plaintext(plain_size, 1 << self._segment_bits).size

    @contextmanager
    def file(
        self,
        name: str,
        *,
        size: int | None = None,
        mode: int = FILE_MODE,
        progress: Callable[[int], object] | None = None,
    ) -> Iterator[ObjectSealer]:
        """Seal one file: write its plaintext into what this gives. If the block ends with an error, so does the model.

        :raises UnsafeNameError: a name that can't be restored safely.
        :raises UsageError: a name that came before.
        """
        file_name(name)
        object_id = self.random_bytes(ID_LENGTH)
        reserve = None if size is None else self.sealed_size(size)
        with self._lock:
            self._unfinished.add(object_id)
        with (
            self._target.create(object_name(object_id), size=reserve) as sink,
            self._new(sink.put, object_id, progress) as sealer,
        ):
            yield sealer
            facts = sealer.finish()
            sink.finish(facts.size)
        self.add(name, mode, as_object(object_id, facts), facts.plain_size)

    def _new(self, put: Put, object_id: bytes, progress: Callable[[int], object] | None) -> ObjectSealer:
        return self.sealer(put, Stream.begun(self.prelude(object_id), self._key, self.random_bytes), progress)

    def sealer(self, put: Put, stream: Stream, progress: Callable[[int], object] | None) -> ObjectSealer:
        """Return a sealer with this writer's threads, memory and randomness."""
        return ObjectSealer(
            put,
            stream,
            random_bytes=self.random_bytes,
            pool=self._engine.pool,
            allocate=self._engine.allocate,
            progress=progress,
        )

    def add(self, name: str, mode: int, sealed: ManifestObject, plain_size: int) -> None:
        """Name a file whose object is finished.

        :raises UsageError: a name that came before.
        """
        with self._lock:
            if name in self._files:
                raise UsageError(f"`{ascii(name)[1:-1]}` is sealed already")
            self._unfinished.discard(sealed.object_id)
            self._files[name] = SealedFile(name=name, mode=mode, size=plain_size, object_id=sealed.object_id)
            self._objects.append(sealed)

    def finish(
        self, signer: Signer, *, canaries: Sequence[Canary] = (), stanzas: Sequence[Stanza] = ()
    ) -> SealedDirectory:
        """Seal the index, sign the manifest, and make the model visible.

        ``stanzas`` are for those who open it without the keeper.

        :raises UnfinishedFileError: a file failed or is still open.
        :raises NothingToSealError: no file was sealed.
        :raises NameCollisionError: two names that are one on some file systems.
        """
        if self._unfinished:
            raise UnfinishedFileError(
                f"{len(self._unfinished)} files failed or are still open; nothing was published",
                remedy="close each file before the model is finished, and write the model again",
            )
        if not self._files:
            raise NothingToSealError("there is no file to seal")
        check_distinct(self._files)
        files = tuple(self._files[name] for name in sorted(self._files))
        plain = Index(files, tuple(canaries)).to_bytes()
        object_id = self.random_bytes(ID_LENGTH)
        with (
            self._target.create(INDEX_NAME, size=self.sealed_size(len(plain))) as sink,
            self._new(sink.put, object_id, None) as sealer,
        ):
            sealer.write(plain)
            facts = sealer.finish()
            sink.finish(facts.size)
        manifest = Manifest(
            genesis=self.facts.genesis,
            model=self.facts.model,
            version=self.facts.version,
            predecessor=self.facts.predecessor,
            data_key_id=self.facts.data_key_id,
            publisher=self.facts.publisher,
            commitment=self._commitment,
            index=as_object(object_id, facts),
            objects=tuple(sorted(self._objects, key=lambda item: item.object_id)),
        )
        envelope = manifest_envelope(manifest, signer)
        documents = {MANIFEST_NAME: envelope.to_bytes()}
        if stanzas:
            recipients = Recipients.of(tuple(stanzas), commitment=self._commitment, data_key=self._key)
            documents[RECIPIENTS_NAME] = recipients.to_bytes()
        self._target.publish(documents)
        return SealedDirectory(manifest, envelope)


def as_object(object_id: bytes, facts: SealedFacts) -> ManifestObject:
    """Return what the manifest says of an object."""
    return ManifestObject(object_id=object_id, size=facts.size, header=facts.header, root=facts.root)
