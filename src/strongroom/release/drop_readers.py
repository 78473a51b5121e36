"""Who may read a drop now: reviewers by the roster in force, and the researcher, each with a key they signed for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, verify
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import PersonId
from strongroom.personnel.lifecycle import Employment
from strongroom.personnel.roster import Person, UnknownPersonError
from strongroom.release.documents import Documents
from strongroom.release.drop import MAX_READERS, REVIEWER, Reader, WorkspaceRefusedError
from strongroom.release.drop_statements import DROP_KEY_TYPE, DropKey
from strongroom.release.ledger import Ledger
from strongroom.release.people import person_facts

_KEY_REMEDY: Final = "have them name a key: strongroom enclave workspace key"
Kept = Callable[[Digest], Envelope | None]


def readers_of(
    researcher: PersonId, *, documents: Documents, ledger: Ledger, kept: Kept, now: Instant
) -> tuple[tuple[Reader, ...], Reader]:
    """Return the reviewers of a researcher's drops, and the researcher.

    A reviewer is cleared today, holds the role and isn't the researcher. A key counts while it's signed by a key that
    the roster in force lists for the same person: who takes a stolen signing key out of the roster takes this with it.

    :param kept: returns the signed statement with a digest, if it was kept.
    :raises WorkspaceRefusedError: nobody could review, or the researcher couldn't read what was accepted.
    """
    roster = documents.roster
    if roster is None:
        raise WorkspaceRefusedError("no roster is in force", reason="no-documents")
    try:
        own = _reader(roster.person(researcher), ledger, kept)
    except UnknownPersonError:
        own = None
    if own is None:
        raise WorkspaceRefusedError(
            f"`{researcher}` has no key for drops", reason="drop-key-missing", remedy=_KEY_REMEDY
        )
    found = [
        reader
        for person in sorted(roster.people, key=lambda one: one.id)
        if person.id != researcher and REVIEWER in person.roles and _cleared(person, documents, ledger, now)
        for reader in (_reader(person, ledger, kept),)
        if reader is not None
    ]
    if not found:
        raise WorkspaceRefusedError(
            f"nobody else with the role `{REVIEWER}` is cleared and has a key for drops",
            reason="drop-reviewer-missing",
            remedy=_KEY_REMEDY,
        )
    return tuple(found[:MAX_READERS]), own


def _cleared(person: Person, documents: Documents, ledger: Ledger, now: Instant) -> bool:
    facts = person_facts(person, documents, ledger, now)
    employed = facts.employment == Employment.ACTIVE.value
    return facts.active and employed and facts.human and now < facts.vetted_until and not facts.conflict


def _reader(person: Person, ledger: Ledger, kept: Kept) -> Reader | None:
    name = ledger.drops.keys.get(person.id)
    envelope = kept(name) if name is not None else None
    if envelope is None or envelope.digest != name:
        return None
    try:
        verify(envelope, DROP_KEY_TYPE, person.keys, threshold=1)
        key = DropKey.parse(envelope.payload)
    except StrongroomError:
        return None
    return Reader(person.id, key.public) if key.person == person.id else None
