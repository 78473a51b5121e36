"""Sealing on save: a model goes from memory into sealed objects, and no plaintext touches a disk.

Here the publisher makes the data key and encrypts it to recipients, without a keeper. Where a keeper decides,
``strongroom.client.publish`` gets the data key from it, and the same writer does the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.core.digest import Digest
from strongroom.core.errors import LockedError, UsageError
from strongroom.core.ids import ModelId, PersonId, model_id
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import PublicKey, Signer
from strongroom.keys.recipient import parse_public
from strongroom.loaders.upload import remote_target
from strongroom.release.stanzas import stanzas_for
from strongroom.sealing.adapters.engine import local_engine
from strongroom.sealing.adapters.publish import LocalTarget, local_target
from strongroom.sealing.canary import Canary
from strongroom.sealing.seal import ObjectSealer
from strongroom.sealing.write import FILE_MODE, ModelWriter, SealedDirectory, VersionFacts

_DOMAIN_LABEL: Final = b"strongroom publisher without a deployment v1\0"
_KEY_BYTES: Final = 32


def own_domain(publisher: PublicKey) -> Digest:
    """Return what stands in the place of a deployment's genesis for a publisher who has none."""
    return Digest.of(_DOMAIN_LABEL + str(publisher).encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """What a model is sealed as, by whom, and for whom."""

    model: ModelId
    publisher: PersonId
    signer: Signer
    recipients: Sequence[bytes]
    """Public recipient keys, 1,216 bytes each: who can open it."""
    version: int = 1
    predecessor: Digest | None = None
    """Digest of the manifest of ``version`` - 1."""
    canaries: Sequence[Canary] = field(default=())

    @classmethod
    def by_wallet(
        cls,
        wallet: Path,
        *,
        model: str,
        recipients: Sequence[Path],
        passphrase: Callable[[], SecretBytes] | None = None,
        version: int = 1,
        predecessor: Digest | None = None,
        canaries: Sequence[Canary] = (),
    ) -> Self:
        """Publish under the publishing key of a wallet, to the public keys in the files ``recipients``.

        :raises StrongroomError: the wallet can't be opened, or a file holds no recipient's public key.
        """
        opened = WalletFolder(wallet, passphrase or _no_passphrase)
        return cls(
            model=model_id(model),
            publisher=opened.identity.person,
            signer=opened.publishing_signer(),
            recipients=[parse_public(file.read_text("ascii").strip()) for file in recipients],
            version=version,
            predecessor=predecessor,
            canaries=canaries,
        )

    def facts(self) -> VersionFacts:
        """Return the facts of the version."""
        return VersionFacts(
            genesis=own_domain(self.signer.public_key),
            model=self.model,
            version=self.version,
            predecessor=self.predecessor,
            data_key_id=f"{self.model}-{self.version}",
            publisher=self.publisher,
        )


def _no_passphrase() -> SecretBytes:
    raise LockedError("the wallet is protected by a passphrase", remedy="give `passphrase=`")


class SealedOutput:
    """A sealed model being written. Made by :func:`seal_to`; complete when its block ends without an error."""

    def __init__(self, writer: ModelWriter) -> None:
        self._writer = writer
        self.made: SealedDirectory | None = None
        """Manifest and envelope, once it is complete."""

    @contextmanager
    def file(self, name: str, *, size: int | None = None, mode: int = FILE_MODE) -> Iterator[ObjectSealer]:
        """Seal one file: write its plaintext into what this gives (``write``, ``fill``, ``lend``)."""
        with self._writer.file(name, size=size, mode=mode) as sealer:
            yield sealer

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Seal one file from memory."""
        with self.file(name, size=len(data)) as sealer:
            sealer.write(data)


@contextmanager
def seal_to(place: str | Path, publishing: Publishing, *, replace: bool = False) -> Iterator[SealedOutput]:
    """Seal files into a new sealed model at ``place``: a directory, or the address of a prefix (fsspec).

    It appears whole when the block ends without an error, or not at all.

    :raises UsageError: no recipients: nobody could open it.
    :raises StrongroomError: as :class:`~strongroom.sealing.write.ModelWriter`.
    """
    if not publishing.recipients:
        raise UsageError("a model without recipients could never be opened", remedy="name at least one")
    with SecretBytes(bytearray(os.urandom(_KEY_BYTES))) as data_key, local_engine() as engine:
        facts = publishing.facts()
        if "://" in str(place):
            opened = remote_target(str(place), replace=replace)
        else:
            opened = _new_local(Path(place), replace=replace)
        with opened as target:
            writer = ModelWriter(target, facts, data_key=data_key, random_bytes=os.urandom, engine=engine)
            output = SealedOutput(writer)
            yield output
            output.made = writer.finish(
                publishing.signer,
                canaries=publishing.canaries,
                stanzas=stanzas_for(publishing.recipients, facts, data_key),
            )


@contextmanager
def _new_local(place: Path, *, replace: bool) -> Iterator[LocalTarget]:
    with local_target(Path(os.path.abspath(place)), replace=replace) as target:  # noqa: PTH100 - no links followed
        target.clear()
        try:
            yield target
        except BaseException:
            # The data key dies with this call: nobody could go on with what is there.
            target.discard()
            raise
