"""What the log says of people: who is vetted, suspended, gone, silent, and what each of them said.

Part of :class:`strongroom.release.ledger.Ledger`, which folds the entries in. Whoever is suspended loses what they
asked for and agreed to, so requests and voices are folded here, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from strongroom.audit.entries import Entry
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.ids import PersonId
from strongroom.release.errors import LedgerError
from strongroom.release.ledger_parts import Adopted, Created


@dataclass(slots=True)
class PeopleLedger:
    """What is known of people, and what they said."""

    vetting: dict[PersonId, Adopted] = field(default_factory=dict)
    """Each person's vetting record in force; ``epoch`` is its serial number."""
    suspended: set[PersonId] = field(default_factory=set)
    """Who lost everything, until two officers sign a newer vetting record."""
    suspended_at: dict[PersonId, Instant] = field(default_factory=dict)
    """When somebody was suspended last: what was adjudicated before doesn't bring them back."""
    enrolled: dict[PersonId, set[str]] = field(default_factory=dict)
    """The ids of each person's security keys that were enrolled before two officers."""
    erased: set[PersonId] = field(default_factory=set)
    silent: set[PersonId] = field(default_factory=set)
    """Responders that weren't heard in time, and weren't heard since."""
    said: set[Digest] = field(default_factory=set)
    """Enrolments, access reviews, incidents, precautions: each is recorded once. Others end what they are about."""
    created: dict[Digest, Created] = field(default_factory=dict)
    """Every recorded request."""
    fallen: set[Digest] = field(default_factory=set)
    """Requests whose maker was suspended since: coming back revives none of them."""
    voices: dict[Digest, PersonId] = field(default_factory=dict)
    """Approvals and denials, whole, and whose: each is recorded once."""
    approvals: dict[Digest, dict[PersonId, Instant]] = field(default_factory=dict)
    """Request -> person -> when the approval was recorded."""


def vetting(ledger: PeopleLedger, index: int, entry: Entry) -> None:
    """Fold in a vetting record.

    :raises LedgerError: an older one again, or one of somebody who was erased.
    """
    person, serial = PersonId(entry.text("person")), entry.integer("serial")
    before = ledger.vetting.get(person)
    # A serial that stands still or falls would bring an older, better record back.
    if serial != (before.epoch + 1 if before else 1) or person in ledger.erased:
        raise LedgerError(f"entry {index} records vetting {serial} of `{person}` out of order")
    ledger.vetting[person] = Adopted(epoch=serial, document=entry.digest("statement"))
    ledger.suspended.discard(person)


def suspend(ledger: PeopleLedger, _index: int, entry: Entry) -> None:
    """Fold in a suspension."""
    _fall(ledger, PersonId(entry.text("person")), entry.at)


def _fall(ledger: PeopleLedger, person: PersonId, at: Instant) -> None:
    ledger.suspended.add(person)
    ledger.suspended_at[person] = at
    # For good: who comes back asks and agrees anew. A key that was stolen may have signed what stands here.
    ledger.fallen.update(name for name, created in ledger.created.items() if created.requester == person)
    for people in ledger.approvals.values():
        people.pop(person, None)
    ledger.voices = {voice: whose for voice, whose in ledger.voices.items() if whose != person}


def erase(ledger: PeopleLedger, _index: int, entry: Entry) -> None:
    """Fold in an erasure."""
    person = PersonId(entry.text("person"))
    ledger.erased.add(person)
    _fall(ledger, person, entry.at)


def silent(ledger: PeopleLedger, _index: int, entry: Entry) -> None:
    """Fold in that a responder wasn't heard."""
    ledger.silent.add(PersonId(entry.text("responder")))


def heard(ledger: PeopleLedger, _index: int, entry: Entry) -> None:
    """Fold in that a responder was heard again."""
    ledger.silent.discard(PersonId(entry.text("responder")))


def enrol_keys(ledger: PeopleLedger, _index: int, entry: Entry) -> None:
    """Fold in security keys that were enrolled."""
    ledger.said.add(entry.digest("statement"))
    ledger.enrolled.setdefault(PersonId(entry.text("person")), set()).update(entry.texts("keys"))
