"""Statements about people and access, judged: vetting, keys, erasure, objections and reviews."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.audit.facts import Fact
from strongroom.core.errors import ConflictError, MalformedError
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.personnel.enrolment import Enrolment, check_attested
from strongroom.personnel.roster import Person
from strongroom.personnel.statements import (
    AccessReview,
    BreakGlassReview,
    Erasure,
    Objection,
)
from strongroom.personnel.vetting import VETTING_TYPE, VettingRecord
from strongroom.release.statements import (
    Case,
    Judge,
    Judged,
    StatementKind,
    StatementRefusedError,
    lacks,
    signers,
    some_signers,
    vetting_officers,
)

REVIEWER: Final = "access-reviewer"
REVIEWERS: Final = 2


def _vetting(case: Case) -> Judged:
    record = VettingRecord.parse(case.envelope.payload)
    case.same_deployment(record.genesis)
    roots = {key.key_id for key in case.genesis.root_keys}
    officers: tuple[PersonId, ...] = ()
    if case.envelope.signatures and all(signature.key_id in roots for signature in case.envelope.signatures):
        case.genesis.verify_root(case.envelope, VETTING_TYPE)
    else:
        officers = vetting_officers(case, StatementKind.VETTING, record.person)
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


def _enrolment(case: Case) -> Judged:
    enrolment = Enrolment.parse(case.envelope.payload)
    case.same_deployment(enrolment.genesis)
    case.new()
    officers = vetting_officers(case, StatementKind.ENROLMENT, enrolment.person)
    keys = check_attested(enrolment, case.roster().authenticators)
    facts: dict[str, Fact] = {
        "person": enrolment.person,
        "statement": case.envelope.digest,
        "officers": officers,
        "keys": tuple(sorted(attested.key.key_id for attested in keys)),
    }
    return Judged(kind=StatementKind.ENROLMENT, event=EventName.KEYS_ENROLLED, facts=facts, person=enrolment.person)


def _erasure(case: Case) -> Judged:
    erasure = Erasure.parse(case.envelope.payload)
    case.same_deployment(erasure.genesis)
    officers = vetting_officers(case, StatementKind.ERASURE, erasure.person)
    if erasure.person not in case.ledger.vetting or erasure.person in case.ledger.erased:
        raise ConflictError(f"there is nothing of `{erasure.person}` to erase", reason="nothing-to-erase")
    hold = case.ledger.precautions.any_hold()
    if hold is not None:
        raise StatementRefusedError(
            "a hold stands: what was judged of a person may be evidence, whichever model it is about",
            reason="person-held",
            remedy=f"have people lift it first: strongroom precaution lift {hold.name}",
        )
    facts: dict[str, Fact] = {"person": erasure.person, "statement": case.envelope.digest, "officers": officers}
    return Judged(kind=StatementKind.ERASURE, event=EventName.PERSON_ERASED, facts=facts, person=erasure.person)


def _objection(case: Case) -> Judged:
    objection = Objection.parse(case.envelope.payload)
    case.same_deployment(objection.genesis)
    policy = case.documents.policy
    approving = {factor.role for rule in policy.rules for factor in rule.factors} if policy else set()

    def may(person: Person) -> str:
        return "" if person.roles & approving else "only approvers may stop a change"

    people = some_signers(case, StatementKind.OBJECTION, may)
    if objection.document not in case.ledger.proposals or objection.document in case.ledger.stopped:
        raise ConflictError("no such change is waiting", reason="change-not-waiting")
    facts: dict[str, Fact] = {
        "document": objection.document,
        "statement": case.envelope.digest,
        "person": people[0],
    }
    return Judged(kind=StatementKind.OBJECTION, event=EventName.CHANGE_STOPPED, facts=facts)


def _break_glass_review(case: Case) -> Judged:
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

    reviewers = signers(case, StatementKind.BREAK_GLASS_REVIEW, may)
    if len(reviewers) < REVIEWERS:
        raise StatementRefusedError(f"{REVIEWERS} people of a second team must sign", reason="reviewers-missing")
    facts: dict[str, Fact] = {
        "request": review.request,
        "statement": case.envelope.digest,
        "reviewers": reviewers,
        "outcome": review.outcome.value,
    }
    return Judged(kind=StatementKind.BREAK_GLASS_REVIEW, event=EventName.BREAK_GLASS_REVIEWED, facts=facts)


def _access_review(case: Case) -> Judged:
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
        return lacks(person, REVIEWER) or ("nobody reviews a grant of their own" if person.id in holders else "")

    reviewers = some_signers(case, StatementKind.ACCESS_REVIEW, may)
    removed = tuple(sorted((one.grant for one in review.decisions if not one.keep), key=str))
    facts: dict[str, Fact] = {
        "statement": case.envelope.digest,
        "reviewer": reviewers[0],
        "kept": len(review.decisions) - len(removed),
        "removed": removed,
    }
    return Judged(kind=StatementKind.ACCESS_REVIEW, event=EventName.ACCESS_REVIEWED, facts=facts)


ABOUT_PEOPLE: Final[Mapping[StatementKind, Judge]] = {
    StatementKind.VETTING: _vetting,
    StatementKind.ENROLMENT: _enrolment,
    StatementKind.ERASURE: _erasure,
    StatementKind.OBJECTION: _objection,
    StatementKind.BREAK_GLASS_REVIEW: _break_glass_review,
    StatementKind.ACCESS_REVIEW: _access_review,
}
