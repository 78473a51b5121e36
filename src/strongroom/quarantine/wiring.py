"""Where a delivery's gate is put together: its folder, its copy under the wallet's key, the walls, the log."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from strongroom.client.publish import SealVersion
from strongroom.client.requests import require_own_key
from strongroom.client.service import Session
from strongroom.client.wiring import finished_version
from strongroom.core.digest import Digest
from strongroom.core.errors import LockedError, PendingError, TamperedError
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Signer
from strongroom.intake.adapters.delivered_folder import more_files, open_delivery
from strongroom.intake.adapters.trust import Trust, verify_signature
from strongroom.intake.formats.identify import Format
from strongroom.intake.signatures import SignedBy
from strongroom.intake.source import Source
from strongroom.intake.states import Standing, State
from strongroom.intake.verdict import FileList
from strongroom.keys.wrapping import new_key
from strongroom.quarantine.adapters.converting import ConvertedFiles, new_names
from strongroom.quarantine.adapters.copies import DeliveredFiles, copy_sources, make_copy, open_copy
from strongroom.quarantine.adapters.delivery_folder import DeliveryFolder
from strongroom.quarantine.adapters.reading import judge_walled, walled_reader
from strongroom.quarantine.adapters.scanning import scan
from strongroom.quarantine.copies import copy_expectation, copy_facts, kept_about
from strongroom.quarantine.gate import Gate, Hands, checks, copy_manifest, terms_of
from strongroom.quarantine.terms import SignatureTerms, Terms
from strongroom.sealing.adapters.job import PlainFiles, Progress
from strongroom.sealing.adapters.reseal import reseal_directory
from strongroom.sealing.model import OpenedModel
from strongroom.sealing.write import SealedDirectory, VersionFacts

TakeIn = Callable[[Terms], tuple[FileList, Digest]]


def new_delivery() -> str:
    """Return an id for a delivery."""
    return os.urandom(16).hex()


def begin_delivery(session: Session, folder: DeliveryFolder, terms: Terms) -> None:
    """Fix a delivery's terms, and make the key that its copy is encrypted under. Both, or the next call does the rest.

    :raises DeniedError: the roster doesn't list the wallet's publishing key.
    """
    identity = session.wallet.identity
    require_own_key(session.refresh(), identity.person, identity.require_publishing_key(), called="publishing key")
    folder.fix(terms)
    ensure_key(session, folder)


def ensure_key(session: Session, folder: DeliveryFolder) -> None:
    """Make the copy's key, unless something was recorded already: then there was one, and its end is final."""
    terms = folder.terms()
    if not folder.records() and folder.proposed() is None and session.wallet.kept(terms.delivery) is None:
        with new_key(os.urandom) as key:
            session.wallet.keep(terms.delivery, key, kept_about(terms))


def gate(session: Session, folder: DeliveryFolder, take_in: TakeIn | None = None) -> Gate:
    """Return the gate of a delivery; ``take_in`` makes its encrypted copy, where it isn't made yet."""

    def verify(terms: SignatureTerms, listed: FileList) -> SignedBy:
        return verify_signature(folder.document(terms.bundle), listed, _trust(folder, terms), now=session.clock.now())

    @contextmanager
    def opened(manifest: Digest) -> Iterator[Mapping[str, Source]]:
        with opened_copy(session, folder, manifest) as model, copy_sources(model) as sources:
            yield sources

    hands = Hands(take_in=take_in or _nothing_to_take_in, opened=opened, verify=verify, judge=judge_walled, scan=scan)
    return Gate(session, folder, hands)


def from_folder(session: Session, folder: DeliveryFolder, source: Path, progress: Progress | None) -> TakeIn:
    """Return what takes in the delivered folder ``source``."""

    def take_in(terms: Terms) -> tuple[FileList, Digest]:
        with open_delivery(source, leave_out=terms.leave_out) as delivered:
            return copied(session, folder, terms, DeliveredFiles(delivered), progress)

    return take_in


def conversion(session: Session, before: DeliveryFolder) -> tuple[Standing, Terms]:
    """Return where a delivery stands, and the terms of another one that is converted from it.

    Nobody signed what is made here: that a signature was asked for stands in the delivery that it comes from.

    :raises PendingError: its checks aren't done, or it came to its end.
    """
    standing = gate(session, before).standing()
    terms = terms_of(before, standing)
    # Scanned too: what a scanner would find in a pickle isn't there any more afterwards.
    if standing.last.state not in {State.SCANNED, State.REVIEWED}:
        raise PendingError(
            f"a delivery that is `{standing.last.state.value}` can't be converted", reason="intake-unchecked"
        )
    # Before anything is recorded of the new one.
    new_names(_formats(before, standing))
    made = replace(
        terms,
        delivery=new_delivery(),
        leave_out=frozenset(),
        signature=None,
        attachments=(),
        converted_from=standing.last.digest,
    )
    return standing, made


def _formats(folder: DeliveryFolder, standing: Standing) -> dict[str, Format]:
    return {name: kind for name, (kind, _facts) in checks(folder, standing).items()}


def from_copy(
    session: Session, before: DeliveryFolder, standing: Standing, after: DeliveryFolder, progress: Progress | None
) -> TakeIn:
    """Return what takes in the copy of ``before``, which stands as :func:`conversion` said, converted."""

    def take_in(terms: Terms) -> tuple[FileList, Digest]:
        formats = _formats(before, standing)
        with (
            opened_copy(session, before, copy_manifest(standing)) as model,
            copy_sources(model) as sources,
            walled_reader(sources) as reader,
        ):
            return copied(session, after, terms, ConvertedFiles(sources, formats, terms, reader), progress)

    return take_in


def copied(
    session: Session, folder: DeliveryFolder, terms: Terms, files: PlainFiles, progress: Progress | None
) -> tuple[FileList, Digest]:
    """Encrypt ``files`` into a delivery's copy."""
    signer = session.wallet.publishing_signer()
    with _key(session, terms) as key:
        return make_copy(
            files,
            folder.copy,
            facts=copy_facts(terms, session.wallet.identity.person),
            data_key=key,
            signer=signer,
            progress=progress,
        )


@contextmanager
def opened_copy(session: Session, folder: DeliveryFolder, manifest: Digest) -> Iterator[OpenedModel]:
    """Open a delivery's copy.

    :raises LockedError: its key is gone: it was sealed, or refused.
    :raises TamperedError: it isn't the one that was recorded.
    """
    terms, signer = folder.terms(), session.wallet.publishing_signer()
    more_files()
    with (
        _key(session, terms) as key,
        open_copy(folder.copy, expect=copy_expectation(terms, manifest), data_key=key, signer=signer) as model,
    ):
        yield model


def seal_copy(session: Session, folder: DeliveryFolder, standing: Standing, progress: Progress | None) -> SealVersion:
    """Return what seals a delivery's copy as a version; called again after an interruption, it goes on."""

    def seal(facts: VersionFacts, data_key: SecretBytes, signer: Signer) -> SealedDirectory:
        finished = finished_version(folder.sealed, facts, data_key, signer)
        if finished is not None:
            return finished
        with opened_copy(session, folder, copy_manifest(standing)) as model:
            return reseal_directory(
                model,
                folder.sealed,
                facts=facts,
                data_key=data_key,
                signer=signer,
                random_bytes=os.urandom,
                progress=progress,
                # A version that was sealed here and never registered: another one came first.
                replace=True,
            )

    return seal


def _key(session: Session, terms: Terms) -> SecretBytes:
    kept = session.wallet.kept(terms.delivery)
    if kept is None:
        raise LockedError(
            "the wallet has no key for this delivery: it was sealed or refused, or another person's wallet has it",
            reason="quarantine-key",
        )
    about, key = kept
    if about != kept_about(terms):
        key.wipe()
        raise TamperedError("the wallet's key is for other terms", reason="quarantine-key")
    return key


def _trust(folder: DeliveryFolder, terms: SignatureTerms) -> Trust:
    return Trust(
        keys=tuple(folder.document(one) for one in terms.keys),
        anchors=tuple(folder.document(one) for one in terms.anchors),
        signers=frozenset(terms.signers),
        trusted_root=None if terms.trusted_root is None else folder.document(terms.trusted_root),
        identity=terms.identity,
        issuer=terms.issuer,
    )


def _nothing_to_take_in(_terms: Terms) -> tuple[FileList, Digest]:
    raise LockedError("the delivery wasn't taken in to its end", remedy="go on: strongroom intake receive")
