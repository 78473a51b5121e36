"""Precautions as a responder takes them: made, signed, handed in; and what stands, in words."""

from __future__ import annotations

from typing import Final

from strongroom.client.service import Session
from strongroom.client.told import Recorded
from strongroom.client.trust import Trust
from strongroom.core.clock import Instant, format_instant
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import DeniedError
from strongroom.core.ids import ModelId
from strongroom.release.precaution_ledger import Standing
from strongroom.release.precautions import MOST_SECONDS, PRECAUTION_TYPE, Cause, Precaution, PrecautionKind
from strongroom.release.statements import StatementKind

MARGIN_SECONDS: Final = 60
"""How much less than the most may be asked for: clocks differ."""
_ASKS: Final = {
    PrecautionKind.APPROVER: "one approver more for",
    PrecautionKind.SAMPLING: "every answer replayed of",
    PrecautionKind.HOLD: "nothing destroyed of",
}


def signed(
    session: Session,
    kind: PrecautionKind,
    subject: str | None,
    *,
    cause: Cause,
    incident: str | None,
    until: Instant | None,
) -> Envelope:
    """Return a precaution that the wallet's person signs now.

    :raises MalformedError: the members don't fit the kind. :raises StrongroomError: the wallet doesn't sign.
    """
    precaution = Precaution(
        genesis=session.wallet.genesis().digest,
        kind=kind,
        subject=subject,
        cause=cause,
        incident=incident,
        at=session.clock.now(),
        until=until,
    )
    return sign(PRECAUTION_TYPE, precaution.to_bytes(), session.wallet.signer())


def take(
    session: Session,
    kind: PrecautionKind,
    subject: str | None,
    *,
    cause: Cause,
    incident: str | None,
    until: Instant | None,
) -> Recorded:
    """Sign a precaution as the wallet's person, and have it recorded.

    :raises MalformedError: the members don't fit the kind. :raises ConflictError: it stands already, for as long.
    :raises StrongroomError: the deployment refused it, or doesn't answer.
    """
    envelope = signed(session, kind, subject, cause=cause, incident=incident, until=until)
    return session.api.hand_in(StatementKind.PRECAUTION, envelope)


def require_no_hold(trust: Trust, model: ModelId) -> None:
    """Refuse to destroy, or to give away, what may be evidence.

    :raises DeniedError: a hold on the model, or on the whole deployment, stands.
    """
    for one in trust.precautions:
        if one.kind is PrecautionKind.HOLD and one.subject in {None, model}:
            raise DeniedError(
                f"a hold stands on {f'`{model}`' if one.subject else 'the whole deployment'}: nothing is destroyed",
                reason="model-held",
                remedy=f"have people lift it first: strongroom precaution lift {one.name}",
            )


def longest(kind: PrecautionKind, now: Instant) -> Instant | None:
    """Return the latest end that a precaution may have now, for clocks that differ; None where none."""
    most = MOST_SECONDS[kind]
    return None if most is None else now + most - MARGIN_SECONDS


def precaution_text(one: Standing) -> str:
    """Say what stands, for a person."""
    ends = "until people lift it" if one.until is None else f"until {format_instant(one.until)}"
    why = f"{one.cause}, {one.incident}" if one.incident else one.cause
    return f"{_ASKS[one.kind]} {one.subject or 'the whole deployment'}, {ends}; {why}; by {one.person}; {one.name}"
