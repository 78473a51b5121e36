"""Where a person's client is put together: the wallet's folder, HTTPS, the system's clock and randomness."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from strongroom.client.adapters.http import HttpTransport, mutual_tls
from strongroom.client.adapters.wallet_folder import AskPassphrase, WalletFolder
from strongroom.client.api import BrokerApi, Transport
from strongroom.client.custody import CustodyApi
from strongroom.client.drops import DropApi
from strongroom.client.publish import SealVersion
from strongroom.client.resealing import Exported
from strongroom.client.service import Session
from strongroom.core.clock import Clock, SystemClock
from strongroom.core.errors import ConflictError, TamperedError
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Signer
from strongroom.intake.marks.marking import CopyName, PlainFile, check_markable, marked
from strongroom.release.stanzas import stanzas_for
from strongroom.sealing.adapters.directory import open_directory, read_envelope, seal_directory
from strongroom.sealing.adapters.job import Progress
from strongroom.sealing.adapters.reseal import Change, reseal_directory, unchanged
from strongroom.sealing.canary import Canary
from strongroom.sealing.index import SealedFile
from strongroom.sealing.manifest import ManifestExpectation, verify_manifest
from strongroom.sealing.model import OpenedModel
from strongroom.sealing.prelude import key_commitment
from strongroom.sealing.write import SealedDirectory, VersionFacts

Connect = Callable[[WalletFolder], Transport]


def seal_to_directory(
    source: Path,
    destination: Path,
    *,
    recipients: Sequence[bytes],
    canaries: Sequence[Canary],
    progress: Progress | None,
    replace: bool,
) -> SealVersion:
    """Return what seals ``source`` into ``destination``; called again after an interruption, it goes on.

    ``recipients`` are public keys of those who open it without the keeper.
    """

    def seal(facts: VersionFacts, data_key: SecretBytes, signer: Signer) -> SealedDirectory:
        finished = finished_version(destination, facts, data_key, signer)
        if finished is not None:
            return finished
        return seal_directory(
            source,
            destination,
            facts=facts,
            data_key=data_key,
            signer=signer,
            random_bytes=os.urandom,
            canaries=canaries,
            stanzas=stanzas_for(recipients, facts, data_key),
            progress=progress,
            replace=replace,
        )

    return seal


def reseal_to_directory(
    source: Path,
    destination: Path,
    *,
    exported: Callable[[], tuple[Exported, SecretBytes]],
    recipients: Sequence[bytes],
    canaries: Sequence[Canary] | None = None,
    progress: Progress | None,
    replace: bool,
) -> SealVersion:
    """Return what seals the sealed directory ``source`` anew into ``destination``; called again, it goes on.

    ``exported`` gives the data key of ``source``; it is asked for once the new one is there, and wiped here. Sealed as
    a version of another model than that of ``source``, it is a copy, and bears that model's mark: the caller has
    checked that the policy names it as one. The original's canaries come along unless ``canaries`` are given.
    """

    def seal(facts: VersionFacts, data_key: SecretBytes, signer: Signer) -> SealedDirectory:
        finished = finished_version(destination, facts, data_key, signer)
        if finished is not None:
            return finished
        before, old = exported()
        with old:
            if facts.model == before.model and facts.predecessor != before.manifest:
                raise ConflictError("another version came meanwhile", remedy="ask for an export of the current one")
            expect = ManifestExpectation(
                genesis=facts.genesis, model=before.model, version=before.version, digest=before.manifest
            )
            manifest = verify_manifest(read_envelope(source), before.publisher_key, expect=expect)
            with open_directory(source, data_key=old, manifest=manifest) as model:
                return reseal_directory(
                    model,
                    destination,
                    facts=facts,
                    data_key=data_key,
                    signer=signer,
                    random_bytes=os.urandom,
                    stanzas=stanzas_for(recipients, facts, data_key),
                    change=unchanged if facts.model == before.model else _marking(model, facts),
                    canaries=canaries,
                    progress=progress,
                    replace=replace,
                )

    return seal


def _marking(model: OpenedModel, facts: VersionFacts) -> Change:
    """Return what puts the mark of the copy that ``facts`` describe into a model's weights.

    :raises UnmarkableError: the model can't bear one.
    """
    check_markable([plain_file(model, file) for file in model.files()])
    copy = CopyName(facts.genesis, facts.model)
    return lambda file, chunks: marked(file.name, file.size, chunks, copy)


def plain_file(model: OpenedModel, file: SealedFile) -> PlainFile:
    """Return a file of an open model, as attribution reads it."""

    def read(offset: int, length: int) -> bytes:
        data = bytearray(length)
        model.reader(file.name).read_into(offset, memoryview(data))
        return bytes(data)

    return PlainFile(file.name, file.size, read)


def finished_version(
    destination: Path, facts: VersionFacts, data_key: SecretBytes, signer: Signer
) -> SealedDirectory | None:
    """Return what is at ``destination`` if it is this very version, sealed before an interruption."""
    if not destination.is_dir():
        return None
    envelope = read_envelope(destination)
    expect = ManifestExpectation(genesis=facts.genesis, model=facts.model, version=facts.version, digest=None)
    try:
        manifest = verify_manifest(envelope, signer.public_key, expect=expect)
    except TamperedError:  # an older version, or somebody else's: it's about to be replaced
        return None
    same = (manifest.data_key_id, manifest.commitment) == (facts.data_key_id, key_commitment(data_key))
    return SealedDirectory(manifest, envelope) if same else None


def connect(wallet: WalletFolder) -> HttpTransport:
    """Connect to the deployment that a wallet is bound to; nothing is sent yet.

    :raises WalletError: it isn't bound, or has no certificate.
    """
    wallet.genesis()
    authority, certificate, key = wallet.tls_files()
    return HttpTransport(wallet.identity.url, mutual_tls(authority=authority, certificate=certificate, key=key))


@contextmanager
def open_session(path: Path, *, passphrase: AskPassphrase, clock: Clock | None = None) -> Iterator[Session]:
    """Open a wallet and a session with its deployment.

    :raises WalletError: the wallet can't be used.
    """
    wallet = WalletFolder(path, passphrase)
    with connect(wallet) as transport:
        yield Session(BrokerApi(transport), wallet, clock or SystemClock())


@contextmanager
def open_drops(path: Path, *, passphrase: AskPassphrase) -> Iterator[tuple[Session, DropApi]]:
    """Open a wallet, a session with its deployment, and its workspaces' routes.

    :raises WalletError: the wallet can't be used.
    """
    wallet = WalletFolder(path, passphrase)
    with connect(wallet) as transport:
        yield Session(BrokerApi(transport), wallet, SystemClock()), DropApi(transport)


@contextmanager
def open_custody(wallet: WalletFolder) -> Iterator[CustodyApi]:
    """Open the routes of escrow with a wallet's certificate. The keeper may be locked: nothing else is asked.

    :raises WalletError: it isn't bound, or has no certificate.
    """
    with connect(wallet) as transport:
        yield CustodyApi(transport)
