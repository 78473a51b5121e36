"""A sealed directory sealed anew, under another data key: segment by segment, and never in clear on a disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from strongroom.core.errors import UsageError
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Signer
from strongroom.sealing.adapters.files import storage
from strongroom.sealing.adapters.job import Look, Progress, absolute, seal_files
from strongroom.sealing.adapters.pieces import PiecedFile
from strongroom.sealing.canary import Canary
from strongroom.sealing.index import SealedFile
from strongroom.sealing.model import OpenedModel
from strongroom.sealing.prelude import DEFAULT_SEGMENT_BITS, key_commitment
from strongroom.sealing.recipients import Stanza
from strongroom.sealing.seal import RandomBytes
from strongroom.sealing.write import SealedDirectory, VersionFacts

Change = Callable[[SealedFile, Iterator[memoryview]], Iterator[memoryview]]
"""What is done to a file's plaintext on its way: as many bytes come out, and always the same ones."""


def unchanged(_file: SealedFile, chunks: Iterator[memoryview]) -> Iterator[memoryview]:
    """Leave a file as it is."""
    return chunks


def reseal_directory(
    model: OpenedModel,
    destination: Path,
    *,
    facts: VersionFacts,
    data_key: SecretBytes,
    signer: Signer,
    random_bytes: RandomBytes,
    stanzas: Sequence[Stanza] = (),
    change: Change = unchanged,
    canaries: Sequence[Canary] | None = None,
    progress: Progress | None = None,
    segment_bits: int = DEFAULT_SEGMENT_BITS,
    threads: int | None = None,
    replace: bool = False,
) -> SealedDirectory:
    """Seal every file of an open model as another version, or as another model's, and sign the manifest.

    A few segments are in memory at once, whatever the model's size. Each file's ciphertext is checked against the
    publisher's tree before its last segment is sealed; ``change`` is applied to what was decrypted. Its canaries come
    along unless others are given. Recipients aren't taken along: ``stanzas`` says who they are.
    Called again with the same facts and data key after an interruption, it goes on where it was; what comes before
    that place in a file is read and checked once more.

    :raises UsageError: ``destination`` lies in the model's own directory, or the data key is the one that it has.
    :raises SealedObjectError: what a check of :mod:`strongroom.sealing.open` found; nothing was published.
    :raises StrongroomError: as :func:`~strongroom.sealing.adapters.directory.seal_directory`.
    """
    destination = absolute(destination)
    if destination.parent.resolve().is_relative_to(Path(model.store.place).resolve()):
        raise UsageError("the sealed directory can't lie inside the directory that is sealed")
    if key_commitment(data_key) == model.manifest.commitment:
        raise UsageError("the new version's data key is the one that it is to be rid of")
    with storage("sealing", destination.parent):
        return seal_files(
            _SealedFiles(model, change),
            destination,
            facts=facts,
            data_key=data_key,
            signer=signer,
            random_bytes=random_bytes,
            canaries=model.canaries if canaries is None else canaries,
            stanzas=stanzas,
            progress=progress,
            segment_bits=segment_bits,
            threads=threads,
            replace=replace,
        )


class _SealedFiles:
    """What lies in a sealed directory, to be sealed anew. Its manifest fixes every byte of it."""

    def __init__(self, model: OpenedModel, change: Change) -> None:
        self._model, self._change = model, change

    def looks(self) -> list[Look]:
        return [Look(name=file.name, size=file.size, changed=self._changed(file)) for file in self._model.files()]

    @contextmanager
    def open(self, name: str) -> Iterator[PiecedFile]:
        file = self._model.file(name)
        with closing(self._model.chunks(name)) as chunks:
            # Decrypted to the end, and compared with what the publisher signed before the last segment is given.
            pieces = self._change(file, chunks)
            yield PiecedFile(file.name, size=file.size, mode=file.mode, changed=self._changed(file), pieces=pieces)

    def check(self) -> None:
        """Do nothing: the files are those that the manifest names."""

    def _changed(self, file: SealedFile) -> int:
        # Another version's file of the same name and size is another file. What changes it on its way is the same in
        # each call for one destination, model and data key.
        about = self._model.manifest.digest.value + file.object_id
        return int.from_bytes(hashlib.sha256(about).digest()[:6], "big")
