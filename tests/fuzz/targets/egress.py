"""Targets of egress: documents of policies, and what a governor's process reads from a broker it doesn't believe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.audit.entries import make_entry
from strongroom.audit.facts import Producer
from strongroom.core.canonical import encode, parse
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.egress.mirror import Mirror
from strongroom.egress.odometer import Block
from strongroom.egress.policies import EgressPolicies, changes
from strongroom.release.metering import Metered, odometer_facts, read_reading, read_resumption, read_seen
from support.egress import ATLAS, BOREAS, LOTS, policy
from support.logs import AT, GENESIS, KEEPER
from support.metered import policies

METERED: Final = Metered(request=Digest.of(b"request"), use=1, model=ATLAS)


def document(data: bytes) -> None:
    """Do all that is done with a document before it is signed or adopted."""
    parsed = EgressPolicies.parse(data)
    parsed.check()
    changes({ATLAS: policy()}, parsed.by_model, metered=(BOREAS,))


def reading(data: bytes) -> None:
    """Read an answer, and fold it."""
    found = read_reading(data, KEEPER.public_key, metered=METERED)
    Mirror(ATLAS).after(found.entry)


def asked(data: bytes) -> None:
    """Read what a governor's process asks with, as the keeper does."""
    with Fields(parse(data), "asked") as fields:
        Block.read(fields)


@cache
def _entries() -> tuple[bytes, ...]:
    opened = Mirror(ATLAS).open(epoch=1, limit=1000, day=LOTS, seen=None, now=AT)
    facts = odometer_facts(METERED, opened, policy().digest)
    made = make_entry(EventName.ODOMETER_ADVANCED, at=AT, by=Producer.KEEPER, seq=7, facts=facts, signer=KEEPER)
    resumed = make_entry(
        EventName.MODEL_RESUMED,
        at=AT,
        by=Producer.KEEPER,
        seq=8,
        facts={"model": ATLAS, "request": Digest.of(b"resume")},
        signer=KEEPER,
    )
    return made, resumed


def _asked() -> Iterable[bytes]:
    yield encode(Block(model=ATLAS, run=1, through=9, settled=4, tokens=3, verified=2).to_json())


EGRESS: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "egress-asked": Target(read=asked, seeds=_asked),
        "egress-policies": Target(
            read=document, seeds=lambda: (policies(GENESIS, policy(), policy(BOREAS)).to_bytes(),), changes=200
        ),
        "egress-reading": Target(read=reading, seeds=_entries, changes=200),
        "egress-seen": Target(read=lambda data: read_seen(data, KEEPER.public_key, ATLAS), seeds=_entries, changes=200),
        "egress-resumption": Target(
            read=lambda data: read_resumption(data, KEEPER.public_key, ATLAS), seeds=_entries, changes=200
        ),
    }
)
