"""Statements about people and access, judged before the keeper records them: who signed, and may they say that.

vetting             two vetting officers, neither the person; or the root quorum, which vets the first officers
enrolment           two vetting officers, neither the person; each key attested by a maker that the roster pins
erasure             two vetting officers, neither the person
objection           one person who may approve something under the policy in force
break-glass-review  two people of another unit than the requester's, neither of whom took part
access-review       one reviewer, who holds none of the grants that are decided on
drop-key            the person whose key it is
drop-review         one reviewer of drops, who isn't the drop's researcher
intake-record       the publisher who takes the delivery in
intake-review       one reviewer of deliveries, who isn't the delivery's operator
share-destroyed     the custodian whose share of an old root key it is
copy                one registrar: what became of a copy of a model
incident            one active responder, person or agent: how far an incident's record has come
precaution          one active responder, person or agent: what is to be taken away for a while
assessment          one assessor: that an assessment was made, and which level it found
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.assurance.notice import NOTICE_TYPE
from strongroom.audit.facts import Fact
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, verify
from strongroom.core.errors import ConflictError, DeniedError, MalformedError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.intake.copies.register import COPY_TYPE
from strongroom.intake.reviews import REVIEW_TYPE
from strongroom.personnel.enrolment import ENROLMENT_TYPE
from strongroom.personnel.lifecycle import Employment
from strongroom.personnel.roster import Person, Roster
from strongroom.personnel.statements import (
    ACCESS_REVIEW_TYPE,
    BREAK_GLASS_REVIEW_TYPE,
    ERASURE_TYPE,
    OBJECTION_TYPE,
)
from strongroom.personnel.vetting import OFFICER, OFFICERS, VETTING_TYPE, VettingRecord
from strongroom.release.documents import Documents
from strongroom.release.drop_statements import DROP_KEY_TYPE, DROP_REVIEW_TYPE
from strongroom.release.errors import STATEMENT_KNOWN
from strongroom.release.incident_statements import INCIDENT_TYPE
from strongroom.release.intake_statements import INTAKE_RECORD_TYPE
from strongroom.release.ledger import Ledger
from strongroom.release.people import person_facts
from strongroom.release.precautions import PRECAUTION_TYPE
from strongroom.release.share_statements import SHARE_DESTROYED_TYPE


class StatementKind(StrEnum):
    """The kinds of statement; also path segments of the API."""

    VETTING = "vetting"
    ENROLMENT = "enrolment"
    ERASURE = "erasure"
    OBJECTION = "objection"
    BREAK_GLASS_REVIEW = "break-glass-review"
    ACCESS_REVIEW = "access-review"
    DROP_KEY = "drop-key"
    DROP_REVIEW = "drop-review"
    INTAKE_RECORD = "intake-record"
    INTAKE_REVIEW = "intake-review"
    COPY = "copy"
    SHARE_DESTROYED = "share-destroyed"
    INCIDENT = "incident"
    PRECAUTION = "precaution"
    ASSESSMENT = "assessment"


STATEMENT_TYPES: Final[Mapping[StatementKind, str]] = {
    StatementKind.VETTING: VETTING_TYPE,
    StatementKind.ENROLMENT: ENROLMENT_TYPE,
    StatementKind.ERASURE: ERASURE_TYPE,
    StatementKind.OBJECTION: OBJECTION_TYPE,
    StatementKind.BREAK_GLASS_REVIEW: BREAK_GLASS_REVIEW_TYPE,
    StatementKind.ACCESS_REVIEW: ACCESS_REVIEW_TYPE,
    StatementKind.DROP_KEY: DROP_KEY_TYPE,
    StatementKind.DROP_REVIEW: DROP_REVIEW_TYPE,
    StatementKind.INTAKE_RECORD: INTAKE_RECORD_TYPE,
    StatementKind.INTAKE_REVIEW: REVIEW_TYPE,
    StatementKind.COPY: COPY_TYPE,
    StatementKind.SHARE_DESTROYED: SHARE_DESTROYED_TYPE,
    StatementKind.INCIDENT: INCIDENT_TYPE,
    StatementKind.PRECAUTION: PRECAUTION_TYPE,
    StatementKind.ASSESSMENT: NOTICE_TYPE,
}


class StatementRefusedError(DeniedError):
    """A statement that its signers may not make, or that contradicts what the log holds. ``reason`` says which."""

    code = "statement-refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A statement that may be recorded: the event, its facts, and for vetting the record itself."""

    kind: StatementKind
    event: EventName
    facts: Mapping[str, Fact]
    person: PersonId | None = None
    """Whom it is about."""
    record: VettingRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One statement, and what it is judged by."""

    envelope: Envelope
    genesis: Genesis
    documents: Documents
    ledger: Ledger
    now: Instant

    def roster(self) -> Roster:
        """Return the roster in force.

        :raises StatementRefusedError: there is none yet.
        """
        if self.documents.roster is None:
            raise StatementRefusedError("no roster is in force", reason="no-documents")
        return self.documents.roster

    def new(self) -> None:
        """Refuse what was recorded before.

        :raises ConflictError: it was.
        """
        # Whoever has seen a signed statement could fill the log with it.
        if self.envelope.digest in self.ledger.said:
            raise ConflictError("this statement is in the log already", reason=STATEMENT_KNOWN)

    def same_deployment(self, genesis: Digest) -> None:
        """Refuse what was signed for another deployment.

        :raises MalformedError: it was.
        """
        if genesis != self.genesis.digest:
            raise MalformedError("the statement belongs to another deployment")


def signers(case: Case, kind: StatementKind, may: Callable[[Person], str]) -> tuple[PersonId, ...]:
    """Return the distinct people who signed; ``may`` says why one may not, or nothing.

    :raises StatementRefusedError: one may not. :raises SignatureError: a bad signature, or another type.
    """
    roster, found = case.roster(), {}
    for signature in case.envelope.signatures:
        person, key = roster.holder(signature.key_id)
        verify(
            Envelope(case.envelope.kind, case.envelope.payload, (signature,)),
            STATEMENT_TYPES[kind],
            [key],
            threshold=1,
        )
        facts = person_facts(person, case.documents, case.ledger, case.now)
        employed = facts.employment == Employment.ACTIVE.value
        if not facts.active or not employed or not facts.human or case.now >= facts.vetted_until or facts.conflict:
            raise StatementRefusedError(
                f"`{person.id}` may not sign it: only active, employed people with current vetting may",
                reason="signer-not-cleared",
            )
        objection = may(person)
        if objection:
            raise StatementRefusedError(f"`{person.id}` may not sign it: {objection}", reason="signer-may-not")
        found[person.id] = person
    return tuple(sorted(found))


def lacks(person: Person, role: str) -> str:
    """Return why a person may not sign what takes a role, or nothing."""
    return "" if role in person.roles else f"the role `{role}` is missing"


def some_signers(case: Case, kind: StatementKind, may: Callable[[Person], str]) -> tuple[PersonId, ...]:
    """Return the distinct people who signed, one at least.

    :raises StatementRefusedError: nobody did, or somebody may not.
    """
    people = signers(case, kind, may)
    if not people:
        raise StatementRefusedError("nobody signed it", reason="signer-missing")
    return people


def vetting_officers(case: Case, kind: StatementKind, subject: PersonId) -> tuple[PersonId, ...]:
    """Return the vetting officers who signed what is about ``subject``.

    :raises StatementRefusedError: too few, or somebody may not.
    """

    def may(person: Person) -> str:
        return lacks(person, OFFICER) or ("nobody vouches for themselves" if person.id == subject else "")

    officers = signers(case, kind, may)
    if len(officers) < OFFICERS:
        raise StatementRefusedError(
            f"{len(officers)} vetting officers signed; {OFFICERS} different ones must",
            reason="officers-missing",
            remedy="have another vetting officer sign the same file",
        )
    return officers


Judge = Callable[[Case], Judged]
"""Judges one kind of statement; raises what :func:`strongroom.release.examining.examine_statement` does."""
