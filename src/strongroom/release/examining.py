"""Which statement is judged by what; incidents and assessments, which others' programs speak of, right here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.assurance.notice import ASSESSOR, AssessmentNotice
from strongroom.audit.facts import Fact
from strongroom.core.clock import Instant, format_instant
from strongroom.core.envelope import Envelope, verify
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.release.documents import Documents
from strongroom.release.examining_models import ABOUT_MODELS
from strongroom.release.examining_people import ABOUT_PEOPLE
from strongroom.release.heartbeat import RESPONDER
from strongroom.release.incident_statements import INCIDENT_TYPE, IncidentStanding
from strongroom.release.ledger import Ledger
from strongroom.release.people import person_facts
from strongroom.release.statements import (
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
    if len(case.envelope.signatures) != 1:
        raise StatementRefusedError("one responder signs it", reason="signer-missing")
    # Not by `signers`: what detects theft is an agent, which no officer vets as a person. It only reports.
    person, key = case.roster().holder(case.envelope.signatures[0].key_id)
    verify(case.envelope, INCIDENT_TYPE, [key], threshold=1)
    facts = person_facts(person, case.documents, case.ledger, case.now)
    if not facts.active:
        raise StatementRefusedError(f"`{person.id}` isn't active", reason="signer-not-cleared")
    objection = lacks(person, RESPONDER)
    if objection:
        raise StatementRefusedError(objection, reason="signer-may-not")
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
    StatementKind.ASSESSMENT: _assessment,
}
