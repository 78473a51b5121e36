"""Who somebody is today: the roster, the vetting record in force and the log, brought together as facts."""

from __future__ import annotations

from dataclasses import replace

from strongroom.access.facts import PersonFacts
from strongroom.core.clock import Instant
from strongroom.core.ids import PersonId
from strongroom.personnel.lifecycle import Employment
from strongroom.personnel.roster import Person, PersonKind, Roster
from strongroom.personnel.vetting import VettingRecord
from strongroom.release.documents import Documents
from strongroom.release.ledger import Ledger


def present(person: Person, roster: Roster, ledger: Ledger) -> bool:
    """Tell whether a person is with us: active in the roster, not suspended; for an agent, the sponsor as well."""
    if not person.active or person.id in ledger.suspended:
        return False
    if person.kind is not PersonKind.AGENT:
        return True
    sponsor = next((one for one in roster.people if one.id == person.sponsor), None)
    return sponsor is not None and sponsor.kind is PersonKind.HUMAN and present(sponsor, roster, ledger)


def record_in_force(person: PersonId, documents: Documents, ledger: Ledger) -> VettingRecord | None:
    """Return the vetting record that the log has in force, if the keeper holds that very one."""
    record, adopted = documents.vetting.get(person), ledger.vetting.get(person)
    if record is None or adopted is None or record.serial != adopted.epoch:
        return None
    return record


def person_facts(person: Person, documents: Documents, ledger: Ledger, now: Instant) -> PersonFacts:
    """Return what is known of a person at ``now``; without a vetting record, nobody is cleared."""
    roster = documents.roster
    bare = PersonFacts(
        id=person.id,
        org=person.org,
        roles=person.roles,
        human=person.kind is PersonKind.HUMAN,
        active=roster is not None and present(person, roster, ledger),
    )
    record = record_in_force(person.id, documents, ledger)
    if record is None:
        return bare
    return replace(
        bare,
        # Who left is gone, whatever else their last record says.
        active=bare.active and record.employment is not Employment.LEFT,
        employment=record.employment.value,
        tier=record.tier,
        vetted_until=record.cleared_until,
        copy_until=record.copy_until,
        conflict=record.conflict is not None,
        nda=record.nda is not None,
        courses=record.courses(now),
    )
