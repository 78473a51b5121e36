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
incident            one active responder, person or agent: how far an incident's record has come
assessment          one assessor: that an assessment was made, and which level it found
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.assurance.notice import ASSESSOR, NOTICE_TYPE, AssessmentNotice
from strongroom.audit.facts import Fact
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, verify
from strongroom.core.errors import ConflictError, DeniedError, MalformedError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.intake.reviews import REVIEW_TYPE, Decision, Review
from strongroom.intake.reviews import REVIEWER as INTAKE_REVIEWER
from strongroom.intake.states import Record, State, check_first, check_follows
from strongroom.personnel.enrolment import ENROLMENT_TYPE, Enrolment, check_attested
from strongroom.personnel.lifecycle import Employment
from strongroom.personnel.roster import Person, Roster
from strongroom.personnel.statements import (
    ACCESS_REVIEW_TYPE,
    BREAK_GLASS_REVIEW_TYPE,
    ERASURE_TYPE,
    OBJECTION_TYPE,
    AccessReview,
    BreakGlassReview,
    Erasure,
    Objection,
)
from strongroom.personnel.vetting import OFFICER, OFFICERS, VETTING_TYPE, VettingRecord
from strongroom.release.destruction_ledger import Share
from strongroom.release.documents import Documents
from strongroom.release.drop import REVIEWER as DROP_REVIEWER
from strongroom.release.drop_statements import DROP_KEY_TYPE, DROP_REVIEW_TYPE, DropKey, DropReview
from strongroom.release.heartbeat import RESPONDER
from strongroom.release.incident_statements import INCIDENT_TYPE, IncidentStanding
from strongroom.release.intake_ledger import RecordedDelivery
from strongroom.release.intake_statements import INTAKE_RECORD_TYPE, OPERATOR, IntakeRecord
from strongroom.release.ledger import Ledger
from strongroom.release.people import person_facts
from strongroom.release.share_statements import SHARE_DESTROYED_TYPE, ShareDestroyed

REVIEWER: Final = "access-reviewer"
REVIEWERS: Final = 2
ASSESSMENT_SECONDS: Final = 3600
"""How long after an assessment it may be recorded."""


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
    SHARE_DESTROYED = "share-destroyed"
    INCIDENT = "incident"
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
    StatementKind.SHARE_DESTROYED: SHARE_DESTROYED_TYPE,
    StatementKind.INCIDENT: INCIDENT_TYPE,
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
class _Case:
    envelope: Envelope
    genesis: Genesis
    documents: Documents
    ledger: Ledger
    now: Instant

    def roster(self) -> Roster:
        if self.documents.roster is None:
            raise StatementRefusedError("no roster is in force", reason="no-documents")
        return self.documents.roster

    def new(self) -> None:
        # Whoever has seen a signed statement could fill the log with it.
        if self.envelope.digest in self.ledger.said:
            raise ConflictError("this statement is in the log already", reason="statement-known")

    def same_deployment(self, genesis: Digest) -> None:
        if genesis != self.genesis.digest:
            raise MalformedError("the statement belongs to another deployment")


def examine_statement(
    kind: StatementKind,
    envelope: Envelope,
    *,
    genesis: Genesis,
    documents: Documents,
    ledger: Ledger,
    now: Instant,
) -> Judged:
    """Judge one statement.

    :raises SignatureError: a bad signature, or another type.
    :raises MalformedError: another form or deployment.
    :raises StatementRefusedError: too few signers who may say so.
    :raises ConflictError: it is recorded already, or overtaken.
    """
    case = _Case(envelope=envelope, genesis=genesis, documents=documents, ledger=ledger, now=now)
    return _JUDGES[kind](case)


# --- who signed -------------------------------------------------------------------------------------------------------


def _signers(case: _Case, kind: StatementKind, may: Callable[[Person], str]) -> tuple[PersonId, ...]:
    """Return the distinct people who signed; ``may`` says why one may not, or nothing."""
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


def _some_signers(case: _Case, kind: StatementKind, may: Callable[[Person], str]) -> tuple[PersonId, ...]:
    people = _signers(case, kind, may)
    if not people:
        raise StatementRefusedError("nobody signed it", reason="signer-missing")
    return people


def _officers(case: _Case, kind: StatementKind, subject: PersonId) -> tuple[PersonId, ...]:
    def may(person: Person) -> str:
        if OFFICER not in person.roles:
            return f"the role `{OFFICER}` is missing"
        return "nobody vouches for themselves" if person.id == subject else ""

    officers = _signers(case, kind, may)
    if len(officers) < OFFICERS:
        raise StatementRefusedError(
            f"{len(officers)} vetting officers signed; {OFFICERS} different ones must",
            reason="officers-missing",
            remedy="have another vetting officer sign the same file",
        )
    return officers


# --- the kinds --------------------------------------------------------------------------------------------------------


def _vetting(case: _Case) -> Judged:
    record = VettingRecord.parse(case.envelope.payload)
    case.same_deployment(record.genesis)
    roots = {key.key_id for key in case.genesis.root_keys}
    officers: tuple[PersonId, ...] = ()
    if case.envelope.signatures and all(signature.key_id in roots for signature in case.envelope.signatures):
        case.genesis.verify_root(case.envelope, VETTING_TYPE)
    else:
        officers = _officers(case, StatementKind.VETTING, record.person)
    case.roster().person(record.person)
    before = case.ledger.vetting.get(record.person)
    expected = before.epoch + 1 if before else 1
    if record.serial != expected or record.person in case.ledger.erased:
        raise ConflictError(
            f"the next vetting record of `{record.person}` has serial {expected}, not {record.serial}",
            reason="vetting-out-of-order",
            remedy="draft it again: strongroom people vet",
        )
    if record.adjudicated_on > case.now:
        raise MalformedError("the vetting record was adjudicated in the future")
    # Else a record that was signed in time for a renewal, and kept back, would undo a suspension that came since.
    suspended = record.person in case.ledger.suspended
    if suspended and record.adjudicated_on < case.ledger.suspended_at.get(record.person, 0):
        raise StatementRefusedError(
            f"`{record.person}` was suspended after this was adjudicated",
            reason="vetting-before-suspension",
            remedy="adjudicate anew and draft another record: strongroom people vet",
        )
    facts: dict[str, Fact] = {
        "person": record.person,
        "serial": record.serial,
        "statement": case.envelope.digest,
        "officers": officers,
    }
    return Judged(
        kind=StatementKind.VETTING,
        event=EventName.VETTING_RECORDED,
        facts=facts,
        person=record.person,
        record=record,
    )


def _enrolment(case: _Case) -> Judged:
    enrolment = Enrolment.parse(case.envelope.payload)
    case.same_deployment(enrolment.genesis)
    case.new()
    officers = _officers(case, StatementKind.ENROLMENT, enrolment.person)
    keys = check_attested(enrolment, case.roster().authenticators)
    facts: dict[str, Fact] = {
        "person": enrolment.person,
        "statement": case.envelope.digest,
        "officers": officers,
        "keys": tuple(sorted(attested.key.key_id for attested in keys)),
    }
    return Judged(kind=StatementKind.ENROLMENT, event=EventName.KEYS_ENROLLED, facts=facts, person=enrolment.person)


def _erasure(case: _Case) -> Judged:
    erasure = Erasure.parse(case.envelope.payload)
    case.same_deployment(erasure.genesis)
    officers = _officers(case, StatementKind.ERASURE, erasure.person)
    if erasure.person not in case.ledger.vetting or erasure.person in case.ledger.erased:
        raise ConflictError(f"there is nothing of `{erasure.person}` to erase", reason="nothing-to-erase")
    facts: dict[str, Fact] = {"person": erasure.person, "statement": case.envelope.digest, "officers": officers}
    return Judged(kind=StatementKind.ERASURE, event=EventName.PERSON_ERASED, facts=facts, person=erasure.person)


def _objection(case: _Case) -> Judged:
    objection = Objection.parse(case.envelope.payload)
    case.same_deployment(objection.genesis)
    policy = case.documents.policy
    approving = {factor.role for rule in policy.rules for factor in rule.factors} if policy else set()

    def may(person: Person) -> str:
        return "" if person.roles & approving else "only approvers may stop a change"

    people = _some_signers(case, StatementKind.OBJECTION, may)
    if objection.document not in case.ledger.proposals or objection.document in case.ledger.stopped:
        raise ConflictError("no such change is waiting", reason="change-not-waiting")
    facts: dict[str, Fact] = {
        "document": objection.document,
        "statement": case.envelope.digest,
        "person": people[0],
    }
    return Judged(kind=StatementKind.OBJECTION, event=EventName.CHANGE_STOPPED, facts=facts)


def _break_glass_review(case: _Case) -> Judged:
    review = BreakGlassReview.parse(case.envelope.payload)
    case.same_deployment(review.genesis)
    opened = case.ledger.break_glass.get(review.request)
    if opened is None:
        raise ConflictError("no break-glass opening of this request waits for a review", reason="nothing-to-review")
    roster = case.roster()
    units = {person.org for person in roster.people if person.id in opened.people}

    def may(person: Person) -> str:
        if person.id in opened.people:
            return "who took part doesn't review"
        return "a second team reviews: another unit than those who took part" if person.org in units else ""

    reviewers = _signers(case, StatementKind.BREAK_GLASS_REVIEW, may)
    if len(reviewers) < REVIEWERS:
        raise StatementRefusedError(f"{REVIEWERS} people of a second team must sign", reason="reviewers-missing")
    facts: dict[str, Fact] = {
        "request": review.request,
        "statement": case.envelope.digest,
        "reviewers": reviewers,
        "outcome": review.outcome.value,
    }
    return Judged(kind=StatementKind.BREAK_GLASS_REVIEW, event=EventName.BREAK_GLASS_REVIEWED, facts=facts)


def _access_review(case: _Case) -> Judged:
    review = AccessReview.parse(case.envelope.payload)
    case.same_deployment(review.genesis)
    case.new()
    holders = set()
    for decision in review.decisions:
        grant = case.ledger.grants.get(decision.grant)
        if grant is None:
            raise ConflictError("the review decides on a grant that isn't in the log", reason="grant-unknown")
        holders.add(grant.requester)

    def may(person: Person) -> str:
        if REVIEWER not in person.roles:
            return f"the role `{REVIEWER}` is missing"
        return "nobody reviews a grant of their own" if person.id in holders else ""

    reviewers = _some_signers(case, StatementKind.ACCESS_REVIEW, may)
    removed = tuple(sorted((one.grant for one in review.decisions if not one.keep), key=str))
    facts: dict[str, Fact] = {
        "statement": case.envelope.digest,
        "reviewer": reviewers[0],
        "kept": len(review.decisions) - len(removed),
        "removed": removed,
    }
    return Judged(kind=StatementKind.ACCESS_REVIEW, event=EventName.ACCESS_REVIEWED, facts=facts)


def _drop_key(case: _Case) -> Judged:
    key = DropKey.parse(case.envelope.payload)
    case.same_deployment(key.genesis)
    # One that was replaced, for being lost or stolen, must not come back by being handed in again.
    case.new()
    _some_signers(
        case,
        StatementKind.DROP_KEY,
        lambda person: "" if person.id == key.person else "nobody names a key for somebody else",
    )
    facts: dict[str, Fact] = {
        "person": key.person,
        "statement": case.envelope.digest,
        "key": Digest.of(key.public),
    }
    return Judged(kind=StatementKind.DROP_KEY, event=EventName.DROP_KEY_RECORDED, facts=facts, person=key.person)


def _drop_review(case: _Case) -> Judged:
    review = DropReview.parse(case.envelope.payload)
    case.same_deployment(review.genesis)
    drop = case.ledger.drops.charged.get((review.request, review.drop))
    if drop is None or drop.outcome:
        raise ConflictError("no such drop waits for a review", reason="nothing-to-review")

    def may(person: Person) -> str:
        if DROP_REVIEWER not in person.roles:
            return f"the role `{DROP_REVIEWER}` is missing"
        return "nobody reviews a drop of their own" if person.id == drop.person else ""

    reviewers = _some_signers(case, StatementKind.DROP_REVIEW, may)
    facts: dict[str, Fact] = {
        "request": review.request,
        "drop": review.drop,
        "statement": case.envelope.digest,
        "reviewer": reviewers[0],
        "outcome": review.outcome.value,
    }
    return Judged(kind=StatementKind.DROP_REVIEW, event=EventName.DROP_REVIEWED, facts=facts)


def _intake_record(case: _Case) -> Judged:
    said = IntakeRecord.parse(case.envelope.payload)
    case.same_deployment(said.genesis)
    record = said.record
    before = case.ledger.intake.deliveries.get(record.delivery)
    if before is not None and before.position.record == record.digest:
        raise ConflictError("this record is in the log already", reason="intake-record-known")

    def may(person: Person) -> str:
        if OPERATOR not in person.roles:
            return f"the role `{OPERATOR}` is missing"
        return "another person took this delivery in" if before and before.operator != person.id else ""

    people = _some_signers(case, StatementKind.INTAKE_RECORD, may)
    if len(people) != 1:
        raise StatementRefusedError("a delivery has one operator", reason="signer-may-not")
    if before is None:
        check_first(record)
    else:
        check_follows(before.position, record)
        _intake_founded(case, before, record)
    facts: dict[str, Fact] = {
        "delivery": record.delivery,
        "model": record.model,
        "state": record.state.value,
        "made": format_instant(record.at),
        "record": record.digest,
        "artifact": record.artifact,
        "statement": case.envelope.digest,
        "person": people[0],
    }
    return Judged(kind=StatementKind.INTAKE_RECORD, event=EventName.INTAKE_RECORDED, facts=facts, person=people[0])


def _intake_founded(case: _Case, before: RecordedDelivery, record: Record) -> None:
    """Check what a record rests on that the log knows better than its operator: reviews, and registered versions."""
    if record.state is State.REVIEWED:
        accepted = {statement for _person, statement in before.accepted}
        # Waived or not: what a reviewer denied is never let in.
        named = set(record.documents)
        known = named <= accepted and len(named) == len(record.documents)
        if before.denied or not known or record.waived == bool(named):
            raise StatementRefusedError(
                "the record names other reviews than those in the log, or somebody denied the delivery",
                reason="intake-not-reviewed",
            )
    elif record.state is State.SEALED:
        # Since it was reviewed: a version from before can't have been made of it.
        registered = {one.manifest for one in case.ledger.versions.get(record.model, ())[before.versions :]}
        if len(record.documents) != 1 or record.documents[0] not in registered:
            raise StatementRefusedError("no such version was registered since", reason="intake-not-registered")


def _intake_review(case: _Case) -> Judged:
    review = Review.parse(case.envelope.payload)
    case.same_deployment(review.genesis)
    case.new()
    found = case.ledger.intake.deliveries.get(review.delivery)
    waits = found is not None and found.position.state is State.SCANNED and found.denied is None
    if (
        found is None
        or not waits
        or (review.records, review.artifact)
        != (
            found.position.record,
            found.position.artifact,
        )
    ):
        raise ConflictError("no such delivery waits for a review", reason="nothing-to-review")
    operator = found.operator

    def may(person: Person) -> str:
        if INTAKE_REVIEWER not in person.roles:
            return f"the role `{INTAKE_REVIEWER}` is missing"
        return "nobody reviews what they took in" if person.id == operator else ""

    reviewers = _signers(case, StatementKind.INTAKE_REVIEW, may)
    if reviewers != (review.reviewer,):
        raise StatementRefusedError("it isn't signed by its reviewer alone", reason="signer-may-not")
    accepts = review.decision is Decision.ACCEPT
    if accepts and reviewers[0] in {person for person, _statement in found.accepted}:
        raise ConflictError(f"`{reviewers[0]}` accepted it before", reason="statement-known")
    facts: dict[str, Fact] = {
        "delivery": review.delivery,
        "record": review.records,
        "statement": case.envelope.digest,
        "reviewer": reviewers[0],
        "outcome": review.decision.value,
    }
    return Judged(kind=StatementKind.INTAKE_REVIEW, event=EventName.INTAKE_REVIEWED, facts=facts)


def _share_destroyed(case: _Case) -> Judged:
    said = ShareDestroyed.parse(case.envelope.payload)
    case.same_deployment(said.genesis)
    told = case.ledger.destructions
    share = Share(custodian=said.custodian, generation=said.generation)
    if said.generation >= case.ledger.keys.generation:
        raise ConflictError("this generation of the root key is in force", reason="generation-in-force")
    if share not in told.shares or share in told.answers:
        raise ConflictError(f"no share of `{said.custodian}` waits for this word", reason="no-such-share")
    _some_signers(
        case,
        StatementKind.SHARE_DESTROYED,
        lambda person: "" if person.id == said.custodian else "nobody speaks for another custodian",
    )
    facts: dict[str, Fact] = {
        "custodian": said.custodian,
        "generation": said.generation,
        "statement": case.envelope.digest,
    }
    return Judged(
        kind=StatementKind.SHARE_DESTROYED, event=EventName.ESCROW_ANSWERED, facts=facts, person=said.custodian
    )


def _incident(case: _Case) -> Judged:
    standing = IncidentStanding.parse(case.envelope.payload)
    case.same_deployment(standing.genesis)
    case.new()
    if len(case.envelope.signatures) != 1:
        raise StatementRefusedError("one responder signs it", reason="signer-missing")
    # Not by `_signers`: what detects theft is an agent, which no officer vets as a person. It only reports.
    person, key = case.roster().holder(case.envelope.signatures[0].key_id)
    verify(case.envelope, INCIDENT_TYPE, [key], threshold=1)
    facts = person_facts(person, case.documents, case.ledger, case.now)
    if not facts.active:
        raise StatementRefusedError(f"`{person.id}` isn't active", reason="signer-not-cleared")
    if RESPONDER not in person.roles:
        raise StatementRefusedError(f"the role `{RESPONDER}` is missing", reason="signer-may-not")
    told: dict[str, Fact] = {
        "incident": standing.incident,
        "entry": standing.entry,
        "entries": standing.entries,
        "phase": standing.phase,
        "drill": int(standing.drill),
        "person": person.id,
        "statement": case.envelope.digest,
    }
    return Judged(kind=StatementKind.INCIDENT, event=EventName.INCIDENT_RECORDED, facts=told, person=person.id)


def _assessment(case: _Case) -> Judged:
    notice = AssessmentNotice.parse(case.envelope.payload)
    case.same_deployment(notice.genesis)
    case.new()
    # Else one that was made when things were better could be recorded as today's, or one of tomorrow's today.
    if not 0 <= case.now - notice.at <= ASSESSMENT_SECONDS:
        raise StatementRefusedError(
            "the assessment isn't of the last hour",
            reason="assessment-not-current",
            remedy="assess again: strongroom assess --record",
        )
    people = _some_signers(
        case,
        StatementKind.ASSESSMENT,
        lambda person: "" if ASSESSOR in person.roles else f"the role `{ASSESSOR}` is missing",
    )
    facts: dict[str, Fact] = {
        "assessment": notice.assessment,
        "held": notice.held,
        "goal": notice.goal.rank,
        "made": format_instant(notice.at),
        "statement": case.envelope.digest,
        "person": people[0],
    }
    return Judged(kind=StatementKind.ASSESSMENT, event=EventName.ASSESSMENT_RECORDED, facts=facts)


_JUDGES: Final[Mapping[StatementKind, Callable[[_Case], Judged]]] = {
    StatementKind.VETTING: _vetting,
    StatementKind.ENROLMENT: _enrolment,
    StatementKind.ERASURE: _erasure,
    StatementKind.OBJECTION: _objection,
    StatementKind.BREAK_GLASS_REVIEW: _break_glass_review,
    StatementKind.ACCESS_REVIEW: _access_review,
    StatementKind.DROP_KEY: _drop_key,
    StatementKind.DROP_REVIEW: _drop_review,
    StatementKind.INTAKE_RECORD: _intake_record,
    StatementKind.INTAKE_REVIEW: _intake_review,
    StatementKind.SHARE_DESTROYED: _share_destroyed,
    StatementKind.INCIDENT: _incident,
    StatementKind.ASSESSMENT: _assessment,
}
