"""Entries of an odometer as a keeper signs them, for one release."""

from __future__ import annotations

from typing import Final

from strongroom.audit.entries import make_entry
from strongroom.audit.facts import Fact, Producer
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.core.signature import Ed25519Signer
from support.logs import AT, KEEPER, sample_facts

REQUEST: Final = Digest.of(b"request")
MODEL: Final = ModelId("atlas")
USE: Final = 3


def odometer_entry(through: int, *, signer: Ed25519Signer = KEEPER, **changes: Fact) -> bytes:
    """Return an entry that lets ``through`` bits of run 1 of the release leave."""
    facts: dict[str, Fact] = sample_facts(EventName.ODOMETER_ADVANCED) | {
        "request": REQUEST,
        "use": USE,
        "model": MODEL,
        "run": 1,
        "through": through,
        "settled": 0,
        "tokens": 0,
        "verified": 0,
        "total": through,
    }
    return make_entry(
        EventName.ODOMETER_ADVANCED, at=AT, by=Producer.KEEPER, seq=1, facts=facts | changes, signer=signer
    )
