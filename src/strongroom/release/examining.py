"""Which statement is judged by what; what responders and assessors say, often by programs, right here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.assurance.notice import ASSESSOR, AssessmentNotice
from strongroom.audit.facts import Fact
from strongroom.core.clock import Instant, format_instant
from strongroom.core.envelope import Envelope, verify
from strongroom.core.errors import ConflictError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.release.documents import Documents
from strongroom.release.examining_models import ABOUT_MODELS
from strongroom.release.examining_people import ABOUT_PEOPLE
from strongroom.release.heartbeat import RESPONDER
from strongroom.release.incident_statements import IncidentStanding
from strongroom.release.ledger import Ledger
from strongroom.release.people import person_facts
from strongroom.release.precaution_ledger import MAX_PRECAUTIONS
from strongroom.release.precautions import LEAST_SECONDS, TAKEN_SECONDS, Precaution, check_form
from strongroom.release.standing_precautions import subject_known
from strongroom.release.statements import (
    STATEMENT_TYPES,
    Case,
    Judge,
    Judged,
    StatementKind,
    StatementRefusedError,
    lacks,
    some_signers,
)

ASSESSMENT_SECONDS: Final = 3600
"""How long after an assessment it may be recorded."""


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
    case = Case(envelope=envelope, genesis=genesis, documents=documents, ledger=ledger, now=now)
    return _JUDGES[kind](case)


def _incident(case: Case) -> Judged:
    standing = IncidentStanding.parse(case.envelope.payload)
    case.same_deployment(standing.genesis)
    case.new()
    person = _responder(case, StatementKind.INCIDENT)
    told: dict[str, Fact] = {
        "incident": standing.incident,
        "entry": standing.entry,
        "entries": standing.entries,
        "phase": standing.phase,
        "drill": int(standing.drill),
        "person": person,
        "statement": case.envelope.digest,
    }
    return Judged(kind=StatementKind.INCIDENT, event=EventName.INCIDENT_RECORDED, facts=told, person=person)


def _responder(case: Case, kind: StatementKind) -> PersonId:
    """Return the one active responder who signed.

    :raises StatementRefusedError: nobody did, more did, or who did may not. :raises SignatureError: a bad signature.
    """
    if len(case.envelope.signatures) != 1:
        raise StatementRefusedError("one responder signs it", reason="signer-missing")
    # Not by `signers`: what detects theft is an agent, which no officer vets as a person. It reports, and takes away.
    person, key = case.roster().holder(case.envelope.signatures[0].key_id)
    verify(case.envelope, STATEMENT_TYPES[kind], [key], threshold=1)
    if not person_facts(person, case.documents, case.ledger, case.now).active:
        raise StatementRefusedError(f"`{person.id}` isn't active", reason="signer-not-cleared")
    objection = lacks(person, RESPONDER)
    if objection:
        raise StatementRefusedError(objection, reason="signer-may-not")
    return person.id


def _precaution(case: Case) -> Judged:
    said = Precaution.parse(case.envelope.payload)
    case.same_deployment(said.genesis)
    case.new()
    person = _responder(case, StatementKind.PRECAUTION)
    # One that was signed before and kept back, or refused as standing already, must not bring back what people lifted.
    if (
        abs(case.now - said.at) > TAKEN_SECONDS
        or (said.until is not None and said.until < case.now + LEAST_SECONDS)
        or said.at <= case.ledger.precautions.lifted.get((said.kind, said.subject), 0)
    ):
        raise StatementRefusedError(
            "the precaution wasn't signed within the hour and after its like was lifted, or is over in a minute",
            reason="statement-not-current",
            remedy="sign it again",
        )
    check_form(said.kind, said.subject, case.now, said.until)
    if not subject_known(said.kind, said.subject, case.roster(), case.documents.policy):
        raise StatementRefusedError(
            f"neither roster nor policy knows `{said.subject}`", reason="precaution-subject-unknown"
        )
    before = case.ledger.precautions.of(said.kind, said.subject, case.now)
    if before is not None and before.covers(said.until):
        raise ConflictError("this precaution stands already, for as long", reason="precaution-stands")
    if before is None and len(case.ledger.precautions.standing(case.now)) >= MAX_PRECAUTIONS:
        raise StatementRefusedError(
            f"{MAX_PRECAUTIONS} precautions stand, and no reader takes more",
            reason="precautions-too-many",
            remedy="have people lift those that nobody needs",
        )
    told: dict[str, Fact] = {
        "kind": said.kind.value,
        "subject": said.subject,
        "cause": said.cause.value,
        "incident": said.incident,
        "until": None if said.until is None else format_instant(said.until),
        "person": person,
        "statement": case.envelope.digest,
    }
    return Judged(kind=StatementKind.PRECAUTION, event=EventName.PRECAUTION_TAKEN, facts=told, person=person)


def _assessment(case: Case) -> Judged:
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
    people = some_signers(case, StatementKind.ASSESSMENT, lambda person: lacks(person, ASSESSOR))
    facts: dict[str, Fact] = {
        "assessment": notice.assessment,
        "held": notice.held,
        "goal": notice.goal.rank,
        "made": format_instant(notice.at),
        "statement": case.envelope.digest,
        "person": people[0],
    }
    return Judged(kind=StatementKind.ASSESSMENT, event=EventName.ASSESSMENT_RECORDED, facts=facts)


_JUDGES: Final[Mapping[StatementKind, Judge]] = {
    **ABOUT_PEOPLE,
    **ABOUT_MODELS,
    StatementKind.INCIDENT: _incident,
    StatementKind.PRECAUTION: _precaution,
    StatementKind.ASSESSMENT: _assessment,
}
