"""Statements about people and access as their signers meet them: what is about to be signed, and whether to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.client.trust import StateMismatchError
from strongroom.core.clock import format_instant
from strongroom.core.envelope import Envelope
from strongroom.core.errors import UsageError
from strongroom.core.genesis import Genesis
from strongroom.personnel.statements import AccessReview, BreakGlassReview, Erasure, Objection
from strongroom.personnel.vetting import VettingRecord
from strongroom.release.statements import STATEMENT_TYPES, StatementKind

Statement = VettingRecord | Erasure | Objection | BreakGlassReview | AccessReview
_PARSERS: Final[Mapping[StatementKind, Callable[[bytes], Statement]]] = {
    StatementKind.VETTING: VettingRecord.parse,
    StatementKind.ERASURE: Erasure.parse,
    StatementKind.OBJECTION: Objection.parse,
    StatementKind.BREAK_GLASS_REVIEW: BreakGlassReview.parse,
    StatementKind.ACCESS_REVIEW: AccessReview.parse,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadStatement:
    """A statement that was parsed here: what is signed is what was read, never a digest from elsewhere."""

    kind: StatementKind
    statement: Statement
    envelope: Envelope

    @property
    def lines(self) -> tuple[str, ...]:
        """Everything that it says."""
        return (f"{self.kind.value}  {self.envelope.digest}", *(f"  {line}" for line in _lines(self.statement)))


def draft(kind: StatementKind, payload: bytes) -> Envelope:
    """Return a statement without signatures; parsed again, so that nothing is handed on that a signer can't read."""
    _PARSERS[kind](payload)
    return Envelope(STATEMENT_TYPES[kind], payload, ())


def read_statement(envelope: Envelope, genesis: Genesis) -> ReadStatement:
    """Parse a statement for the deployment that is pinned here.

    :raises UsageError: no such kind of statement.
    :raises MalformedError: another form.
    :raises StateMismatchError: for another deployment.
    """
    kind = next((kind for kind in _PARSERS if STATEMENT_TYPES[kind] == envelope.kind), None)
    if kind is None:
        raise UsageError(
            "the file holds no vetting record, erasure, objection or review",
            remedy="enrolments are signed with `strongroom key sign`, documents with `strongroom sign`",
        )
    statement = _PARSERS[kind](envelope.payload)
    if statement.genesis != genesis.digest:
        raise StateMismatchError("the statement belongs to another deployment than the one pinned in this wallet")
    return ReadStatement(kind=kind, statement=statement, envelope=envelope)


def _lines(statement: Statement) -> tuple[str, ...]:
    match statement:
        case VettingRecord():
            return _vetting(statement)
        case Erasure():
            return (
                f"erases    {statement.person}: the vetting records become unreadable, for good",
                "keeps     what the log says of this pseudonym",
            )
        case Objection():
            return (f"stops     the proposed document {statement.document}",)
        case BreakGlassReview():
            return (
                f"about     break-glass request {statement.request}",
                f"finds     {statement.outcome.value}",
                f"report    {statement.report}",
            )
        case AccessReview():
            return (
                f"at        {format_instant(statement.at)}",
                *(f"{'keeps' if one.keep else 'ENDS':<9} grant {one.grant}" for one in statement.decisions),
            )


def _vetting(record: VettingRecord) -> tuple[str, ...]:
    nda = f"version {record.nda.version}, {format_instant(record.nda.signed_on)}" if record.nda else "NOT SIGNED"
    courses = [f"course    {one.course} until {format_instant(one.expires)}" for one in record.training]
    return (
        f"person    {record.person}, record {record.serial}",
        f"tier      {record.tier} by scheme {record.scheme}",
        f"screened  {format_instant(record.adjudicated_on)}, again by {format_instant(record.rescreen_due)}",
        f"expires   {format_instant(record.expires_on)}",
        f"may copy  until {format_instant(record.copy_until)} (SL3 and above)",
        f"employed  {record.employment.value}",
        f"nda       {nda}",
        *courses,
        f"conflict  {'OPEN, ' + record.conflict if record.conflict else 'none open'}",
        f"case      {record.case or 'none'}",
    )
