"""The odometer's other side: the keeper writes what may leave a model into the log before it leaves.

Whoever asks shows the delivery that the release was answered with. The keeper signed it, and handed it to nobody else
than to who had answered the challenge; the log knows its request, use and recipient key, but not its bytes. So neither
a stranger nor another release moves a model's odometer, or freezes the model.

Nothing is awaited between a decision and the moment its entry is queued, as everywhere in the keeper: no block slips
past a freeze, and no two governors get the same one. The answer waits for the entry to be durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.access.request import Purpose
from strongroom.audit.facts import Fact
from strongroom.core.clock import Clock, Instant
from strongroom.core.envelope import Envelope
from strongroom.core.errors import DeniedError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.egress.bits import MILLI
from strongroom.egress.errors import Limit, MeterSupersededError
from strongroom.egress.odometer import Block, OdometerEntry
from strongroom.egress.policy import EgressPolicy
from strongroom.keeper.journal import Recorded
from strongroom.keeper.leases import Leases
from strongroom.keeper.service import Keeper
from strongroom.release.metering import Metered, odometer_facts, read_seen

BURST: Final = 32
"""Entries of one model that may come at once; after that one a second. Governors want one an hour, and one for each
answer that is larger than what is left of an hour's block."""


class NoEgressPolicyError(DeniedError):
    """No egress policy of this model is in force: nothing leaves it."""

    code = "egress-policy-missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """How far a model's odometer stands."""

    total: int
    """Bits."""
    recent: int
    """Bits that left within the last day, or may still leave."""
    run: int
    index: int | None
    """Where its newest entry stands in the log; None before the first."""
    resumed: int | None
    """Where the entry stands that resumed the model last."""
    frozen: bool


def policy_of(keeper: Keeper, model: ModelId) -> EgressPolicy:
    """Return the egress policy in force of a model.

    :raises NoEgressPolicyError: there is none.
    """
    policy = keeper.documents.egress.get(model)
    if policy is None:
        raise NoEgressPolicyError(
            f"no egress policy of `{model}` is in force",
            remedy="have the root quorum sign one: strongroom egress propose",
        )
    return policy


class Meters:
    """Opens and advances odometers, and freezes models at a breach. Bound to the keeper's event loop."""

    def __init__(self, keeper: Keeper, leases: Leases, clock: Clock) -> None:
        self._keeper, self._leases, self._clock = keeper, leases, clock
        self._pace: dict[ModelId, tuple[Instant, int]] = {}

    async def open(self, delivery: Envelope, seen: bytes | None) -> Recorded:
        """Begin a run for the governor of a release (step 1). Returns where its entry stands, and the signed entry.

        :param seen: the newest entry of the model's odometer that the governor kept.
        :raises EntryError: ``seen`` isn't a log entry. :raises EntryForgedError: this keeper didn't sign it.
        :raises OdometerForgedError: it is of something else than this model's odometer.
        :raises SignatureError: the delivery isn't the keeper's.
        :raises DeniedError: no such release is in the log, or it is for research.
        :raises LeaseEndedError: it doesn't hold any more; a frozen model's doesn't.
        :raises UnavailableError: its lease isn't known to be live, or entries come too fast.
        :raises NoEgressPolicyError: nothing says what may leave the model.
        """
        metered, policy = self._standing(delivery)
        ledger, now = self._keeper.journal.ledger, self._now()
        mirror = ledger.odometers.of(metered.model)
        limit, day = policy.lifetime_bits, policy.model_day_bits
        known = None if seen is None else read_seen(seen, self._keeper.genesis.keeper_key, metered.model)
        entry = mirror.open(epoch=ledger.key_epoch, limit=limit, day=day, seen=known, now=now)
        return await self._record(metered, policy, entry, mirror.total)

    async def advance(self, delivery: Envelope, block: Block) -> Recorded:
        """Append the entry that answers a block (step 3). The same block again gives nothing more.

        :raises MeterSupersededError: another governor opened the model's odometer since.
        :raises OdometerRegressedError: the block's readings go back, or the log never saw its run.
        :raises LimitReachedError: there is nothing left of the model's life, or blocks run too far ahead of the days.
        :raises StrongroomError: as :meth:`open`.
        """
        metered, policy = self._standing(delivery)
        ledger, now = self._keeper.journal.ledger, self._now()
        model = metered.model
        mirror = ledger.odometers.of(model)
        if block.run == mirror.run and ledger.odometers.meters.get(model) != metered:
            raise MeterSupersededError(f"run {block.run} of `{model}` is another release's")
        limit, day = policy.lifetime_bits, policy.model_day_bits
        entry = mirror.advance(block, epoch=ledger.key_epoch, limit=limit, day=day, now=now)
        return await self._record(metered, policy, entry, mirror.total)

    async def breach(self, delivery: Envelope, cause: str) -> Recorded | None:
        """Freeze a model out of which something came that nothing explains; None when it is frozen already.

        Whoever was released to may say so at any time, also when its lease is over: it only takes away.

        :raises SignatureError: the delivery isn't the keeper's.
        :raises DeniedError: no such release is in the log.
        """
        self._keeper.require_unlocked()
        released = self._leases.delivered(delivery)
        if released.model in self._keeper.journal.ledger.frozen:
            return None
        facts: dict[str, Fact] = {
            "request": released.request,
            "use": released.use,
            "model": released.model,
            "cause": cause,
        }
        return await self._keeper.record_pinned(EventName.EGRESS_BREACHED, facts)

    def spent(self, model: ModelId) -> Spent:
        """Return how far a model's odometer stands."""
        ledger = self._keeper.journal.ledger
        mirror = ledger.odometers.of(model)
        return Spent(
            total=mirror.total,
            recent=mirror.recent(self._now()),
            run=mirror.run,
            index=ledger.odometers.newest.get(model),
            resumed=ledger.resumed.get(model),
            frozen=model in ledger.frozen,
        )

    # --- inside -------------------------------------------------------------------------------------------------------

    def _standing(self, delivery: Envelope) -> tuple[Metered, EgressPolicy]:
        self._keeper.require_unlocked()
        released = self._leases.delivered(delivery)
        if self._leases.require_live(released).purpose is Purpose.RESEARCH:
            # A workspace's way out is its drop. Whoever runs one must not end, or use up, what others serve.
            raise DeniedError(
                "a release for research serves nobody: what leaves a workspace is a drop",
                reason="egress-purpose",
                remedy="ask for the model for another purpose",
            )
        policy = policy_of(self._keeper, released.model)
        return Metered(request=released.request, use=released.use, model=released.model), policy

    async def _record(self, metered: Metered, policy: EgressPolicy, entry: OdometerEntry, before: int) -> Recorded:
        self._keep_pace(metered.model)
        recording = self._keeper.record(EventName.ODOMETER_ADVANCED, odometer_facts(metered, entry, policy.digest))
        waiting: list[asyncio.Future[Recorded]] = [recording]
        for mark in _passed(policy, before, entry):
            warned: dict[str, Fact] = {
                "model": metered.model,
                "limit": Limit.LIFETIME.value,
                "permille": mark,
                "used": entry.total,
                "of": entry.limit,
            }
            waiting.append(self._keeper.record(EventName.EGRESS_WARNED, warned))
        return (await asyncio.gather(*waiting))[0]

    def _keep_pace(self, model: ModelId) -> None:
        # A gateway that was taken over must not fill the log.
        now = self._clock.now()
        last, used = self._pace.get(model, (now, 0))
        used = max(0, used - max(0, now - last))
        if used >= BURST:
            raise UnavailableError(
                f"the odometer of `{model}` was asked too often", reason="egress-busy", remedy="ask again in a second"
            )
        self._pace[model] = max(now, last), used + 1

    def _now(self) -> Instant:
        return max(self._clock.now(), self._keeper.journal.ledger.latest)


def _passed(policy: EgressPolicy, before: int, entry: OdometerEntry) -> Iterator[int]:
    """Yield the marks of the model's life that an entry passed: worked out from the log, so a restart repeats none."""
    for mark in policy.warn_permille:
        if before * MILLI < mark * entry.limit <= entry.total * MILLI:
            yield mark
