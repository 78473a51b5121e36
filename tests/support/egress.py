"""Small egress policies, and an odometer that a log mirrors at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from strongroom.core.clock import Instant
from strongroom.core.ids import ImageId, ModelId
from strongroom.egress.governor import Governor, Served
from strongroom.egress.mirror import Mirror
from strongroom.egress.odometer import Block, Odometer
from strongroom.egress.policy import EgressPolicy, VerifiedBy
from support.logs import AT

LOTS = 10**12
"""A day's budget that is no bound."""
ATLAS, BOREAS = ModelId("atlas"), ModelId("boreas")
VERIFIED_BY = VerifiedBy(image=ImageId("second"), replay_permille=1000, differences_per_million=1000)
"""All answers are replayed."""


def policy(model: ModelId = ATLAS, **changes: Any) -> EgressPolicy:
    """Return a policy whose numbers are easy to count: 10 bits a token, 400,000 bits in all, 1,000 a day."""
    made = EgressPolicy.template(model, parameters=1_000_000, vocabulary=1024)
    small = replace(made, model_day_bits=1000, fleet_day_bits=1000, principal_day_bits=1000)
    return replace(small, **changes)


class Log:
    """One model's odometer entries."""

    def __init__(self, model: ModelId = ATLAS) -> None:
        self.mirror = Mirror(model)
        self.day = LOTS

    def served(self, rules: EgressPolicy, now: Instant = AT, *, block: int = 100) -> Served:
        """Open a run for a new governor."""
        self.day = rules.model_day_bits
        entry = self.mirror.open(epoch=1, limit=rules.lifetime_bits, day=rules.model_day_bits, seen=None, now=now)
        self.mirror = self.mirror.after(entry)
        return Served(policy=rules, odometer=Odometer(entry, block_bits=block), recent=entry.recent)

    def answer(self, governor: Governor, block: Block, *, limit: int, now: Instant) -> None:
        """Mirror a block, and hand it over."""
        entry = self.mirror.advance(block, epoch=1, limit=limit, day=self.day, now=now)
        self.mirror = self.mirror.after(entry)
        governor.mirrored(entry, now)


def governor(rules: EgressPolicy | None = None, now: Instant = AT, *, vouched: int = 100_000) -> Governor:
    """Return a governor of one model that a log vouches for at once."""
    rules = rules or policy()
    log = Log(rules.model)
    made = Governor([log.served(rules, now, block=vouched)], now)
    log.day = LOTS
    for block in made.wanted(now):
        log.answer(made, block, limit=rules.lifetime_bits, now=now)
    return made
