"""Precautions as responders of a room sign them."""

from __future__ import annotations

from dataclasses import replace

from strongroom.audit.facts import Fact
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.release.precautions import DAY, PRECAUTION_TYPE, Cause, Precaution, PrecautionKind
from strongroom.release.statements import StatementKind
from support.deployment import MODEL, signer
from support.room import Room

INCIDENT = f"inc-{'0' * 32}"
ESCROW_FACTS: dict[str, Fact] = {
    "authority": Digest.of(b"an order"),
    "generation": 1,
    "escrow": Digest.of(b"an escrow"),
    "custodians": ("sam", "rina"),
    "threshold": 2,
}
"""What the log says of root shares that a hold keeps."""
_SUBJECTS: dict[PrecautionKind, str] = {
    PrecautionKind.APPROVER: "dana",
    PrecautionKind.SAMPLING: MODEL,
    PrecautionKind.HOLD: MODEL,
}


def said(room: Room, kind: PrecautionKind = PrecautionKind.APPROVER, by: str = "dana", **members: object) -> Envelope:
    """Return a precaution that a responder signed: about dana, the model, or everything."""
    now = room.clock.now()
    made = Precaution(
        genesis=room.genesis.digest,
        kind=kind,
        subject=_SUBJECTS[kind],
        cause=Cause.INCIDENT,
        incident=INCIDENT,
        at=now,
        until=None if kind is PrecautionKind.HOLD else now + DAY,
    )
    return sign(PRECAUTION_TYPE, replace(made, **members).to_bytes(), signer(by))  # type: ignore[arg-type]


async def take(
    room: Room, kind: PrecautionKind = PrecautionKind.APPROVER, by: str = "dana", **members: object
) -> Digest:
    """Have a precaution taken; returns its name."""
    envelope = said(room, kind, by, **members)
    await room.people.state(StatementKind.PRECAUTION, envelope)
    return envelope.digest
