"""Statements that the log names, judged again: who signed them, and might they say that then? Pure.

By the roster that was in force at the entry, and by the log before it: a role that somebody got or lost since counts
for nothing. Whether their vetting was current isn't seen: only the keeper has that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from strongroom.assurance.notice import ASSESSOR
from strongroom.audit.entries import Entry
from strongroom.audit.facts import plain
from strongroom.core.clock import format_instant
from strongroom.core.envelope import verify
from strongroom.core.ids import PersonId
from strongroom.intake.copies.register import REGISTRAR
from strongroom.intake.copies.register import Statement as CopyStatement
from strongroom.intake.reviews import REVIEWER as INTAKE_REVIEWER
from strongroom.personnel.roster import PersonKind
from strongroom.personnel.vetting import OFFICER
from strongroom.release.chronicle import DECIDING_SECONDS
from strongroom.release.drop import REVIEWER as DROP_REVIEWER
from strongroom.release.errors import ExhibitError, agree
from strongroom.release.examining_people import REVIEWER
from strongroom.release.heartbeat import RESPONDER
from strongroom.release.incident_statements import IncidentStanding
from strongroom.release.intake_statements import OPERATOR
from strongroom.release.people import present
from strongroom.release.precautions import TAKEN_SECONDS, Precaution
from strongroom.release.standing_precautions import subject_known
from strongroom.release.statements import STATEMENT_TYPES, Case, StatementKind, lacks

_SIGNERS: Final = ("officers", "reviewers", "reviewer", "custodian", "person")
"""The facts that name who signed; of those that an entry has the first. `person` may be whom it is about."""
_ROLES: Final[Mapping[StatementKind, str]] = {
    StatementKind.ENROLMENT: OFFICER,
    StatementKind.ACCESS_REVIEW: REVIEWER,
    StatementKind.DROP_REVIEW: DROP_REVIEWER,
    StatementKind.INTAKE_RECORD: OPERATOR,
    StatementKind.INTAKE_REVIEW: INTAKE_REVIEWER,
    StatementKind.COPY: REGISTRAR,
    StatementKind.INCIDENT: RESPONDER,
    StatementKind.PRECAUTION: RESPONDER,
    StatementKind.ASSESSMENT: ASSESSOR,
}
"""What takes a role. The other kinds hang on who somebody is: whose key or share it is, or of which unit they are."""
_BY_RESPONDERS: Final = frozenset({StatementKind.INCIDENT, StatementKind.PRECAUTION})
"""Signed by one, who may be a program."""


def judge_said(case: Case, kind: StatementKind, entry: Entry) -> bool:
    """Judge a statement at the entry that names it; False where what it would be judged by isn't at hand.

    :param case: the statement, and the ledger and documents as they were before the entry.
    :raises StrongroomError: it isn't signed by those whom the entry names, they might not say so, or it says something
        else than the entry does.
    """
    if case.documents.roster is None:
        return False
    fact = next(name for name in _SIGNERS if name in entry.facts)
    people = entry.texts(fact) if fact in {"officers", "reviewers"} else (entry.text(fact),)
    for name in people:
        _require_might(case, kind, PersonId(name))
    if kind in _BY_RESPONDERS and len(case.envelope.signatures) != 1:
        raise ExhibitError("one responder signs such a statement, and nobody else", reason="statement-by-another")
    further = _FURTHER.get(kind)
    return further is None or further(case, entry)


def _require_might(case: Case, kind: StatementKind, name: PersonId) -> None:
    roster = case.roster()
    person = roster.person(name)
    verify(case.envelope, STATEMENT_TYPES[kind], person.keys, threshold=1)
    role = _ROLES.get(kind)
    if not present(person, roster, case.ledger):
        lack = "wasn't active"
    elif person.kind is not PersonKind.HUMAN and kind not in _BY_RESPONDERS:
        lack = "is a program"
    elif role is not None and lacks(person, role):
        lack = f"didn't hold the role `{role}`"
    else:
        return
    raise ExhibitError(
        f"`{name}`, whom the entry names as signer, {lack} then: a {kind.value} isn't theirs to say",
        reason="statement-by-another",
    )


def _copy(case: Case, entry: Entry) -> bool:
    # As the keeper must have made them: the next statement of this registrar, and nothing but what it says.
    facts = case.ledger.copies.facts(CopyStatement.parse(case.envelope.payload), PersonId(entry.text("person")))
    agree(what="copy's statement", **{name: (plain(said), entry.facts[name]) for name, said in facts.items()})
    return True


def _incident(case: Case, entry: Entry) -> bool:
    said = IncidentStanding.parse(case.envelope.payload)
    agree(
        what="incident's statement",
        genesis=(said.genesis, case.genesis.digest),
        incident=(said.incident, entry.text("incident")),
        entry=(said.entry, entry.digest("entry")),
        entries=(said.entries, entry.integer("entries")),
        phase=(said.phase, entry.text("phase")),
        drill=(int(said.drill), entry.integer("drill")),
    )
    return True


def _precaution(case: Case, entry: Entry) -> bool:
    """Check that this very precaution was asked for, here, lately, and about somebody who was known."""
    said = Precaution.parse(case.envelope.payload)
    agree(
        what="precaution",
        genesis=(said.genesis, case.genesis.digest),
        kind=(said.kind.value, entry.facts["kind"]),
        subject=(said.subject, entry.facts["subject"]),
        cause=(said.cause.value, entry.facts["cause"]),
        incident=(said.incident, entry.facts["incident"]),
        until=(None if said.until is None else format_instant(said.until), entry.facts["until"]),
    )
    # A little more than the keeper allows: it judged it a moment before it dated the entry.
    late = abs(entry.at - said.at) > TAKEN_SECONDS + DECIDING_SECONDS
    if late or said.at <= case.ledger.precautions.lifted.get((said.kind, said.subject), 0):
        raise ExhibitError(
            "the precaution was signed long before, or before its like was lifted", reason="precaution-not-current"
        )
    if case.documents.policy is None:
        return False
    if not subject_known(said.kind, said.subject, case.roster(), case.documents.policy):
        raise ExhibitError("neither roster nor policy knew whom it is about", reason="precaution-subject-unknown")
    return True


_FURTHER: Final[Mapping[StatementKind, Callable[[Case, Entry], bool]]] = {
    StatementKind.COPY: _copy,
    StatementKind.INCIDENT: _incident,
    StatementKind.PRECAUTION: _precaution,
}
