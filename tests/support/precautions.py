"""Precautions that dana takes, who is a responder of every deployment here."""

from __future__ import annotations

import time

from strongroom.core.envelope import sign
from strongroom.release.precautions import PRECAUTION_TYPE, Cause, Precaution, PrecautionKind
from support.deployment import signer
from support.occupied import Occupied


def take(lab: Occupied, kind: PrecautionKind, subject: str | None, *, seconds: int | None) -> None:
    """Have a precaution taken, for so many seconds; None for one without an end."""
    now = int(time.time())
    made = Precaution(
        genesis=lab.deployment.genesis.digest, kind=kind, subject=subject, cause=Cause.INQUIRY, incident=None, at=now,
        until=None if seconds is None else now + seconds,
    )  # fmt: skip
    envelope = sign(PRECAUTION_TYPE, made.to_bytes(), signer("dana"))
    lab.post("statements/precaution", {"envelope": envelope.to_json()})
