"""How a sealed model is opened: whom to believe, which version at least, and where its data key comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import PublicKey
from strongroom.keys.adapters.identity_file import open_identity
from strongroom.release.stanzas import open_stanza
from strongroom.sealing.errors import NoStanzaError, OlderVersionError
from strongroom.sealing.manifest import ManifestExpectation, VerifiedManifest, verify_manifest
from strongroom.sealing.recipients import MAX_RECIPIENTS_FILE, RECIPIENTS_NAME, Recipients
from strongroom.sealing.store import SealedStore, envelope_in


class Checking(Enum):
    """How much of what is read is checked. Nothing is ever handed out unauthenticated."""

    SEGMENTS = "segments"
    """Each segment is authentic at its place: whoever holds the data key is trusted as the publisher is."""
    WHOLE = "whole"
    """Also the signed digest over whole files, before anything of them is handed out. Needs all of each file."""


class KeySource(Protocol):
    """Where a model's data key comes from."""

    def data_key(self, manifest: VerifiedManifest, store: SealedStore) -> SecretBytes:
        """Return the data key of the version that ``manifest`` describes; the caller wipes it.

        :raises StrongroomError: there is none to be had.
        """
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """A local key: a recipient identity in a file of this user's, for whom the model has a stanza."""

    path: Path
    passphrase: Callable[[], SecretBytes] | None = None

    def data_key(self, manifest: VerifiedManifest, store: SealedStore) -> SecretBytes:
        """Open the stanza.

        :raises NoStanzaError: the model has none for this identity.
        :raises StrongroomError: the identity can't be used, or the stanza was changed.
        """
        try:
            data = store.document(RECIPIENTS_NAME, most=MAX_RECIPIENTS_FILE + 1)
        except FileNotFoundError:
            raise NoStanzaError(
                "the sealed model has no recipients but its keeper",
                remedy="ask the keeper for a release, or have its owner add you: strongroom rewrap --add",
            ) from None
        return open_stanza(Recipients.parse(data), open_identity(self.path, self.passphrase), manifest)


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key that is here already: what a release delivered to this enclave, or a test's own.

    ``make`` returns a fresh copy at each call.
    """

    make: Callable[[], SecretBytes]

    def data_key(self, manifest: VerifiedManifest, store: SealedStore) -> SecretBytes:  # noqa: ARG002 - a port's signature
        """Return a copy of the key."""
        return self.make()


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What it takes to open one model. All of it comes from the caller; what the sealed model says isn't believed."""

    keys: KeySource
    publisher: PublicKey
    """Who must have signed the manifest."""
    genesis: Digest
    """The deployment, or :func:`strongroom.loaders.saving.own_domain` of a publisher without one."""
    model: ModelId
    least_version: int = 1
    """Older versions are refused: a rollback. Raise it when a new one is in use."""
    digest: Digest | None = None
    """The one manifest to take, where it is known."""
    checking: Checking = Checking.SEGMENTS

    def verified(self, store: SealedStore) -> VerifiedManifest:
        """Read and verify the manifest.

        :raises OlderVersionError: older than ``least_version``.
        :raises StrongroomError: as :func:`~strongroom.sealing.manifest.verify_manifest`.
        """
        expect = ManifestExpectation(genesis=self.genesis, model=self.model, version=None, digest=self.digest)
        manifest = verify_manifest(envelope_in(store), self.publisher, expect=expect)
        if manifest.version < self.least_version:
            raise OlderVersionError(
                f"`{self.model}` version {manifest.version} is there; at least {self.least_version} is asked for",
                remedy="fetch the current version; an old one may have been put back on purpose",
            )
        return manifest
