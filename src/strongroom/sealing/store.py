"""Where sealed models lie and where new ones go, as this shelf sees it: a directory, or a prefix in an object store."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final, Protocol

from strongroom.core.envelope import MAX_PAYLOAD, Envelope
from strongroom.sealing.errors import IncompleteSealError, MissingObjectError, UnexpectedObjectError
from strongroom.sealing.manifest import INDEX_NAME, Manifest
from strongroom.sealing.recipients import RECIPIENTS_NAME
from strongroom.sealing.source import PositionalSource

MANIFEST_NAME: Final = "manifest.json"
OBJECTS_NAME: Final = "objects"


class SealedStore(Protocol):
    """A sealed model's files, by their names relative to it. Nothing that it returns is believed."""

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        ...

    def names(self) -> set[str]:
        """Return the names of all files, folders' included.

        :raises StorageError: the storage refused.
        """
        ...

    def document(self, name: str, *, most: int) -> bytes:
        """Return a small file, cut off after ``most`` bytes.

        :raises FileNotFoundError: it isn't there.
        :raises StorageError: the storage refused.
        """
        ...

    def source(self, name: str) -> AbstractContextManager[PositionalSource]:
        """Open an object; its pieces are copies that nobody else can change.

        :raises FileNotFoundError: it isn't there.
        :raises StorageError: the storage refused.
        """
        ...

    def shared_source(self, name: str) -> AbstractContextManager[PositionalSource]:
        """Open an object by the fastest way that is safe for authenticated decryption alone: perhaps mapped memory.

        :raises FileNotFoundError: it isn't there.
        :raises StorageError: the storage refused.
        """
        ...


class Sink(Protocol):
    """One object being written."""

    def put(self, offset: int, data: memoryview) -> None:
        """Take all of ``data``; called from several threads, in any order."""
        ...

    def finish(self, size: int) -> None:
        """Make the object durable; it has ``size`` bytes."""
        ...


class SealedTarget(Protocol):
    """A sealed model being written. It becomes visible as a whole, with :meth:`publish`, or not at all."""

    def create(self, name: str, *, size: int | None) -> AbstractContextManager[Sink]:
        """Begin an object; ``size`` is how many bytes it will have, where that is known.

        :raises NoSpaceError: no room.
        """
        ...

    def publish(self, documents: dict[str, bytes]) -> None:
        """Write ``documents``, the manifest last, and make the model visible."""
        ...


def envelope_in(store: SealedStore) -> Envelope:
    """Read the manifest envelope of a sealed model. It proves nothing: see verify_manifest.

    :raises IncompleteSealError: there is none.
    :raises MalformedError: it isn't an envelope.
    """
    try:
        # One byte more than an envelope may have: parsing refuses it, and no size that a storage states is trusted.
        return Envelope.parse(store.document(MANIFEST_NAME, most=2 * MAX_PAYLOAD + 1))
    except FileNotFoundError:
        raise IncompleteSealError(
            "there is no manifest: an interrupted seal, or not a sealed directory",
            remedy="seal the model again; a sealed directory is complete only with its manifest",
        ) from None


def check_listing(store: SealedStore, manifest: Manifest) -> None:
    """Check that a sealed model has exactly the files that its manifest names, and perhaps its recipients.

    :raises MissingObjectError: something is missing.
    :raises UnexpectedObjectError: something is there that the manifest doesn't name.
    """
    wanted = {MANIFEST_NAME, INDEX_NAME, *(item.name for item in manifest.objects)}
    found = store.names()
    for name in sorted(wanted - found):
        raise MissingObjectError("named by the manifest, but not there", object_name=name)
    for name in sorted(found - wanted - {RECIPIENTS_NAME}):
        raise UnexpectedObjectError("there, but not named by the manifest", object_name=ascii(name)[1:-1])
