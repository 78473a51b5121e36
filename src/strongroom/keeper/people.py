"""What the keeper records about people: statements that others signed, and suspensions, which need no signature.

Suspending is cheap and fails safe: whoever may speak to the keeper can have somebody suspended, and so stop them from
working. Nobody is reinstated but by a newer vetting record, which two officers sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.access.facts import AccessClass, cap_of
from strongroom.access.policy import Caps
from strongroom.audit.facts import Fact
from strongroom.core.canonical import Json, encode
from strongroom.core.clock import Clock, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, payload_type, sign
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.keeper.journal import Recorded
from strongroom.keeper.pins import DecisionStore
from strongroom.keeper.quotas import Quota
from strongroom.keeper.records import PersonRecords
from strongroom.keeper.service import Keeper
from strongroom.personnel.lifecycle import Employment, SuspensionCause
from strongroom.personnel.roster import Roster, UnknownPersonError
from strongroom.release.examining import examine_statement
from strongroom.release.judge import live_grants
from strongroom.release.people import person_facts, record_in_force
from strongroom.release.statements import Judged, StatementKind

FALLEN_TYPE: Final = payload_type("fallen.v1")
FALLEN: Final = "fallen"
MAX_GRANTS: Final = 1000
MAX_FELL: Final = 800
"""Grants, approvals and leases that a record of what fell names; the log's entry counts all. However much somebody
gathered, they are suspended, and the record can be read."""
_ALONE: Final = {
    StatementKind.INCIDENT: Quota.INCIDENT,
    StatementKind.PRECAUTION: Quota.PRECAUTION,
    StatementKind.INTAKE_RECORD: Quota.DELIVERY,
    StatementKind.COPY: Quota.COPY,
}
"""What one person alone has recorded, as often as they like but for this."""
_GONE: Final = {Employment.LEFT: SuspensionCause.LEFT, Employment.LEAVE: SuspensionCause.LEAVE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallen:
    """Everything that somebody lost at once. ``record`` is None when they had lost it before."""

    record: Recorded | None
    grants: int
    approvals: int
    leases: int


class People:
    """Statements and suspensions. ``live_leases`` says which leases a person's grants and approvals keep alive."""

    def __init__(self, keeper: Keeper, records: PersonRecords, decisions: DecisionStore, clock: Clock) -> None:
        self._keeper = keeper
        self._records = records
        self._decisions = decisions
        self._clock = clock
        self.live_leases: Callable[[PersonId], Sequence[Json]] = lambda _person: ()
        keeper.on_roster = self.roster_changed

    def load(self) -> None:
        """Take the vetting records that the log has in force off the disk; one that is lost clears nobody.

        :raises TamperedError: one was changed.
        """
        ledger = self._keeper.journal.ledger
        for person in ledger.erased:
            # A crash came between the record of an erasure and its effect, or an old copy was put back.
            if self._records.holds(person):
                self._erase(person)
        for person, adopted in ledger.vetting.items():
            if person in ledger.erased:
                continue
            record = self._records.load(person, adopted.epoch, adopted.document)
            if record is not None:
                self._keeper.documents.vetting[person] = record

    # --- statements -------------------------------------------------------------------------------------------------

    async def state(self, kind: StatementKind, envelope: Envelope) -> Recorded:
        """Judge and record a statement, and bring about what it says.

        :raises StrongroomError: as :func:`strongroom.release.examining.examine_statement`.
        """
        keeper = self._keeper
        keeper.require_unlocked()
        judged = examine_statement(
            kind,
            envelope,
            genesis=keeper.genesis,
            documents=keeper.documents,
            ledger=keeper.journal.ledger,
            now=self._clock.now(),
        )
        if kind in _ALONE and judged.person is not None:
            # No second person has to agree: so one person, stolen or confused, can't fill the log with it.
            keeper.quotas.take(_ALONE[kind], judged.person)
        if judged.record is not None:
            self._records.keep(judged.record, envelope)
        elif kind is not StatementKind.ERASURE:
            keeper.keep(kind.value, envelope)
        recording = keeper.record(judged.event, judged.facts)
        if judged.record is not None:
            # In force together with its entry: in between, its person would look like nobody whom anybody vetted.
            keeper.documents.vetting[judged.record.person] = judged.record
        recorded = await keeper.pinned(recording)
        if judged.record is not None:
            return await self._vetted(judged, recorded)
        if kind is StatementKind.ERASURE and judged.person is not None:
            self._erase(judged.person)
            keeper.documents.vetting.pop(judged.person, None)
        keeper.changed()
        return recorded

    def _erase(self, person: PersonId) -> None:
        # The records last: as long as they lie there, the next start does what a crash left undone.
        self._decisions.forget(person)
        self._records.erase(person)

    async def _vetted(self, judged: Judged, recorded: Recorded) -> Recorded:
        record = judged.record
        assert record is not None  # noqa: S101 - the caller looked
        if record.employment in _GONE:
            await self.suspend(record.person, _GONE[record.employment])
        self._keeper.changed()
        return recorded

    # --- suspensions ------------------------------------------------------------------------------------------------

    async def suspend(self, person: PersonId, cause: SuspensionCause) -> Fallen:
        """Take everything from a person at once; again, it changes nothing.

        :raises UnknownPersonError: neither roster nor log knows them.
        """
        keeper, ledger = self._keeper, self._keeper.journal.ledger
        keeper.require_unlocked()
        roster = keeper.documents.roster
        if person not in ledger.vetting and (roster is None or all(one.id != person for one in roster.people)):
            raise UnknownPersonError(f"neither the roster nor the log knows `{person}`")
        if person in ledger.suspended:
            return Fallen(record=None, grants=0, approvals=0, leases=0)
        now = self._clock.now()
        live = live_grants(ledger, now)
        grants = [name for name in live if ledger.grants[name].requester == person]
        approvals = [name for name in live if person in ledger.approvals.get(name, {})]
        leases = list(self.live_leases(person))
        fell: Json = {
            "v": 1,
            "genesis": str(keeper.genesis.digest),
            "person": person,
            "cause": cause.value,
            "at": format_instant(now),
            "grants": [str(name) for name in grants[:MAX_FELL]],
            "approvals": [str(name) for name in approvals[:MAX_FELL]],
            "leases": leases[:MAX_FELL],
            "sessions": f"person/{person}",
        }
        envelope = sign(FALLEN_TYPE, encode(fell), keeper.vault.signer)
        facts: dict[str, Fact] = {
            "person": person,
            "cause": cause.value,
            "fell": envelope.digest,
            "grants": len(grants),
            "approvals": len(approvals),
            "leases": len(leases),
        }
        # Queued before anything is waited for: from here on no release counts this person.
        recording = keeper.record(EventName.PERSON_SUSPENDED, facts)
        keeper.keep(FALLEN, envelope)
        recorded = await keeper.pinned(recording)
        return Fallen(record=recorded, grants=len(grants), approvals=len(approvals), leases=len(leases))

    async def roster_changed(self, before: Roster | None, after: Roster) -> None:
        """Record what fell with everybody whom a new roster drops or marks as gone."""
        staying = {person.id for person in after.people if person.active}
        for person in before.people if before else ():
            if person.active and person.id not in staying:
                await self.suspend(person.id, SuspensionCause.LEFT)

    # --- what may be shown ------------------------------------------------------------------------------------------

    def standing(self) -> list[Json]:
        """Return who is who today, without what only officers need to know."""
        documents, ledger, now = self._keeper.documents, self._keeper.journal.ledger, self._clock.now()
        shown: list[Json] = []
        for person in documents.roster.people if documents.roster else ():
            facts = person_facts(person, documents, ledger, now)
            record = record_in_force(person.id, documents, ledger)
            shown.append(
                {
                    "person": person.id,
                    "kind": person.kind.value,
                    "unit": person.org,
                    "roles": [*sorted(person.roles)],
                    "active": facts.active,
                    "suspended": person.id in ledger.suspended,
                    "tier": facts.tier,
                    "vetted_until": format_instant(facts.vetted_until) if record else None,
                    "serial": record.serial if record else 0,
                    "hardware_keys": sum(key.hardware for key in person.keys),
                }
            )
        return shown

    def caps(self) -> list[Json]:
        """Return each class of access, how many people hold live grants of it, and how many may at SL3 and above."""
        documents, ledger, now = self._keeper.documents, self._keeper.journal.ledger, self._clock.now()
        caps = documents.policy.caps if documents.policy else Caps()
        shown: list[Json] = []
        for access in AccessClass:
            cap = cap_of(caps, access)
            if cap is not None:
                live = (ledger.grants[name] for name in live_grants(ledger, now))
                holders = {grant.requester for grant in live if grant.access == access.value}
                shown.append({"access": access.value, "people": len(holders), "cap": cap})
        return shown

    def grants(self) -> list[Json]:
        """Return as many grants as are shown, newest first. Those that can be used come before those that can't.

        Whoever asks what is left to revoke misses none for others that were made, and ended, since.
        """
        ledger = self._keeper.journal.ledger
        usable = live_grants(ledger, self._clock.now())
        live = set(usable)
        over = [name for name in ledger.grants if name not in live]
        chosen = set([*over, *usable][-MAX_GRANTS:])
        shown: list[Json] = []
        for name in reversed([name for name in ledger.grants if name in chosen]):
            grant, uses = ledger.grants[name], ledger.uses.get(name, [])
            shown.append(
                {
                    "grant": str(name),
                    "requester": grant.requester,
                    "model": grant.model,
                    "access": grant.access,
                    "issued": format_instant(grant.at),
                    "expires": format_instant(grant.expires),
                    "uses": len(uses),
                    "last_used": format_instant(uses[-1].at) if uses else None,
                    "live": name in live,
                }
            )
        return shown

    def fallen(self, digest: Digest) -> Envelope | None:
        """Return the signed record of what fell with a suspension."""
        return self._keeper.kept(FALLEN, digest)
