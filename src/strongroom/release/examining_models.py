"""Statements about where models are, judged: drops, deliveries, copies, and shares of the root key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.access.invariants import Reason
from strongroom.audit.facts import Fact
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError
from strongroom.core.events import EventName
from strongroom.intake.copies.register import OUT_OF_HANDS, REGISTRAR
from strongroom.intake.copies.register import Statement as CopyStatement
from strongroom.intake.reviews import REVIEWER as INTAKE_REVIEWER
from strongroom.intake.reviews import Decision, Review
from strongroom.intake.states import Record, State, check_first, check_follows
from strongroom.personnel.roster import Person
from strongroom.release.destruction_ledger import Share
from strongroom.release.drop import REVIEWER as DROP_REVIEWER
from strongroom.release.drop_statements import DropKey, DropReview
from strongroom.release.errors import STATEMENT_KNOWN
from strongroom.release.intake_ledger import RecordedDelivery
from strongroom.release.intake_statements import OPERATOR, IntakeRecord
from strongroom.release.share_statements import ShareDestroyed
from strongroom.release.standing_precautions import require_shares_free
from strongroom.release.statements import (
    Case,
    Judge,
    Judged,
    StatementKind,
    StatementRefusedError,
    lacks,
    signers,
    some_signers,
)

CLOCK_SECONDS: Final = 300
"""How far a registrar's clock may be ahead of the keeper's."""


def _drop_key(case: Case) -> Judged:
    key = DropKey.parse(case.envelope.payload)
    case.same_deployment(key.genesis)
    # One that was replaced, for being lost or stolen, must not come back by being handed in again.
    case.new()
    some_signers(
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


def _drop_review(case: Case) -> Judged:
    review = DropReview.parse(case.envelope.payload)
    case.same_deployment(review.genesis)
    drop = case.ledger.drops.charged.get((review.request, review.drop))
    if drop is None or drop.outcome:
        raise ConflictError("no such drop waits for a review", reason="nothing-to-review")

    def may(person: Person) -> str:
        return lacks(person, DROP_REVIEWER) or (
            "nobody reviews a drop of their own" if person.id == drop.person else ""
        )

    reviewers = some_signers(case, StatementKind.DROP_REVIEW, may)
    facts: dict[str, Fact] = {
        "request": review.request,
        "drop": review.drop,
        "statement": case.envelope.digest,
        "reviewer": reviewers[0],
        "outcome": review.outcome.value,
    }
    return Judged(kind=StatementKind.DROP_REVIEW, event=EventName.DROP_REVIEWED, facts=facts)


def _intake_record(case: Case) -> Judged:
    said = IntakeRecord.parse(case.envelope.payload)
    case.same_deployment(said.genesis)
    record = said.record
    before = case.ledger.intake.deliveries.get(record.delivery)
    if before is not None and before.position.record == record.digest:
        raise ConflictError("this record is in the log already", reason="intake-record-known")

    def may(person: Person) -> str:
        other = before is not None and before.operator != person.id
        return lacks(person, OPERATOR) or ("another person took this delivery in" if other else "")

    people = some_signers(case, StatementKind.INTAKE_RECORD, may)
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


def _intake_founded(case: Case, before: RecordedDelivery, record: Record) -> None:
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


def _intake_review(case: Case) -> Judged:
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
        return lacks(person, INTAKE_REVIEWER) or ("nobody reviews what they took in" if person.id == operator else "")

    reviewers = signers(case, StatementKind.INTAKE_REVIEW, may)
    if reviewers != (review.reviewer,):
        raise StatementRefusedError("it isn't signed by its reviewer alone", reason="signer-may-not")
    accepts = review.decision is Decision.ACCEPT
    if accepts and reviewers[0] in {person for person, _statement in found.accepted}:
        raise ConflictError(f"`{reviewers[0]}` accepted it before", reason=STATEMENT_KNOWN)
    facts: dict[str, Fact] = {
        "delivery": review.delivery,
        "record": review.records,
        "statement": case.envelope.digest,
        "reviewer": reviewers[0],
        "outcome": review.decision.value,
    }
    return Judged(kind=StatementKind.INTAKE_REVIEW, event=EventName.INTAKE_REVIEWED, facts=facts)


def _copy(case: Case) -> Judged:
    said = CopyStatement.parse(case.envelope.payload)
    case.same_deployment(said.genesis)
    # Later than it was made is fine: nobody has to be online to say it first in a file. A proof of tomorrow isn't.
    if said.at > case.now + CLOCK_SECONDS:
        raise StatementRefusedError(
            "the statement is from the future", reason="statement-not-current", remedy="see the registrar's clock"
        )
    people = some_signers(case, StatementKind.COPY, lambda person: lacks(person, REGISTRAR))
    if len(people) != 1:
        raise StatementRefusedError("a register has one registrar", reason="signer-may-not")
    facts = {**case.ledger.copies.facts(said, people[0]), "hold": _hold_since(case, said)}
    return Judged(kind=StatementKind.COPY, event=EventName.COPY_RECORDED, facts=facts, person=people[0])


def _hold_since(case: Case, said: CopyStatement) -> Digest | None:
    """Return the hold that began after a copy ended and before that is told, if one did.

    :raises StatementRefusedError: it stood when the copy ended, as the registrar says.
    """
    if said.ending not in OUT_OF_HANDS:
        return None
    model = case.ledger.copies.copies[said.copy].model
    # By when it was said: what ended before the hold began is told all the same, and holds up nothing said after it.
    # The time is the registrar's word: so the entry names the hold, whoever watches the log is told, and people ask.
    hold = case.ledger.precautions.hold_at(model, said.at)
    if hold is not None:
        raise StatementRefusedError(
            "a hold stands: a copy of the model isn't destroyed or given back",
            reason=Reason.HELD.value,
            remedy=f"keep it until people lift it: strongroom precaution lift {hold.name}. Is it gone? Say `lost`",
        )
    since = case.ledger.precautions.hold(model)
    return None if since is None else since.name


def _share_destroyed(case: Case) -> Judged:
    said = ShareDestroyed.parse(case.envelope.payload)
    case.same_deployment(said.genesis)
    told = case.ledger.destructions
    share = Share(custodian=said.custodian, generation=said.generation)
    if said.generation >= case.ledger.keys.generation:
        raise ConflictError("this generation of the root key is in force", reason="generation-in-force")
    if share not in told.shares or share in told.answers:
        raise ConflictError(f"no share of `{said.custodian}` waits for this word", reason="no-such-share")
    some_signers(
        case,
        StatementKind.SHARE_DESTROYED,
        lambda person: "" if person.id == said.custodian else "nobody speaks for another custodian",
    )
    require_shares_free(case.ledger.precautions.any_hold())
    facts: dict[str, Fact] = {
        "custodian": said.custodian,
        "generation": said.generation,
        "statement": case.envelope.digest,
    }
    return Judged(
        kind=StatementKind.SHARE_DESTROYED, event=EventName.ESCROW_ANSWERED, facts=facts, person=said.custodian
    )


ABOUT_MODELS: Final[Mapping[StatementKind, Judge]] = {
    StatementKind.DROP_KEY: _drop_key,
    StatementKind.DROP_REVIEW: _drop_review,
    StatementKind.INTAKE_RECORD: _intake_record,
    StatementKind.INTAKE_REVIEW: _intake_review,
    StatementKind.COPY: _copy,
    StatementKind.SHARE_DESTROYED: _share_destroyed,
}
