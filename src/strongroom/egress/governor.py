"""The governor: before an answer is forwarded its most is reserved everywhere, and what it didn't use goes back.

A state machine without input or output. One for each process that forwards answers; its calls are made one after the
other (one event loop, no await between), so that any interleaving of streams is some order of calls.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from strongroom.core.clock import Instant
from strongroom.core.errors import ConflictError, NotFoundError, TamperedError, UnavailableError, UsageError
from strongroom.core.ids import ModelId
from strongroom.egress.bits import MAX_UNITS, Output
from strongroom.egress.bound import check_policy
from strongroom.egress.buckets import DAY, Bucket, Burn
from strongroom.egress.errors import (
    EgressFrozenError,
    Limit,
    LimitReachedError,
    OutputNotAllowedError,
    OverspentError,
)
from strongroom.egress.marks import Crossing, Marks
from strongroom.egress.mirror import HOLD_SECONDS
from strongroom.egress.odometer import Block, Odometer, OdometerEntry
from strongroom.egress.policy import EgressPolicy

MAX_PRINCIPALS: Final = 65536
MAX_HELD: Final = 65536
"""Answers under way at once, over all models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model that a governor serves."""

    policy: EgressPolicy
    odometer: Odometer
    """Of a run that was opened for this governor."""
    recent: int
    """Bits that may have left within the last day, as the entry said that opened the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """An answer that may go ahead."""

    number: int
    model: ModelId
    principal: str
    output: Output
    most: int
    """Units that it may have."""
    bits: int
    """What they cost, held everywhere until it is settled."""
    expires_at: Instant
    """From then on nothing of it may leave."""
    crossed: tuple[Crossing, ...]
    """Marks that it passed, for the caller to record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """An answer that ended."""

    reservation: Reservation
    units: int
    verified: int
    """Of the units, how many were reproduced by a second engine."""
    bits: int
    """Charged."""
    refunded: int
    """Bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """How a model stands, as numbers that may leave as metrics. All but ``answers`` are bits."""

    day_left: int
    fleet_left: int
    life_left: int
    settled: int
    held: int
    hour: int
    """Charged within the last hour."""
    seconds_left: int | None
    """Until the odometer stops, at the last hour's pace; None if nothing was charged."""
    answers: int
    """Under way."""


@dataclass(slots=True)
class _Answer:
    reservation: Reservation
    policy: EgressPolicy
    """Under which it was reserved, and is charged."""
    units: int = 0


@dataclass(slots=True)
class _Lane:
    """One model's side of the governor."""

    policy: EgressPolicy
    odometer: Odometer
    recent: int
    since: Instant
    day: Bucket
    day_marks: Marks
    life_marks: Marks
    burn: Burn = field(default_factory=Burn)
    purses: OrderedDict[str, Bucket] = field(default_factory=OrderedDict)
    held: int = 0
    answers: int = 0
    frozen: str | None = None

    @classmethod
    def of(cls, served: Served, now: Instant) -> _Lane:
        policy, odometer = served.policy, served.odometer
        if policy.model != odometer.model:
            raise UsageError(f"the odometer is of another model than `{policy.model}`")
        lane = cls(
            policy=policy,
            odometer=odometer,
            recent=served.recent,
            since=now,
            day=Bucket(policy.model_day_bits, level=policy.model_day_bits - served.recent, now=now),
            day_marks=Marks(policy.warn_permille, again_after=DAY),
            life_marks=Marks(policy.warn_permille, again_after=None),
        )
        # What was passed before the start stands in the log already.
        lane.life_marks.passed(odometer.total, odometer.limit, now)
        return lane

    def purse(self, principal: str, now: Instant) -> Bucket:
        found = self.purses.get(principal)
        if found is None:
            if len(self.purses) >= MAX_PRINCIPALS:
                self._forget_one(now)
            per_day = self.policy.principal_day_bits
            # As of the start: whoever is new may have been served before it, by as much as was served at all.
            found = self.purses[principal] = Bucket(per_day, level=per_day - self.recent, now=self.since)
        self.purses.move_to_end(principal)
        return found

    def adopt(self, policy: EgressPolicy, now: Instant) -> None:
        if policy.warn_permille != self.policy.warn_permille:
            self.day_marks = Marks(policy.warn_permille, again_after=DAY)
            self.life_marks = Marks(policy.warn_permille, again_after=None)
        self.policy = policy
        self.day.resize(policy.model_day_bits, now)
        for purse in self.purses.values():
            purse.resize(policy.principal_day_bits, now)

    def _forget_one(self, now: Instant) -> None:
        principal, oldest = next(iter(self.purses.items()))
        if oldest.used(now):
            # Forgetting it would refill it.
            raise UnavailableError("too many principals were served within a day", reason="egress-principals")
        del self.purses[principal]

    def check_open(self) -> None:
        if self.frozen is not None:
            raise EgressFrozenError(
                f"model `{self.policy.model}` is frozen: {self.frozen}", remedy="people must look and resume it"
            )


class Governor:
    """What may leave the models of one process. ``now`` is wall-clock time; where it goes back, it stands."""

    def __init__(self, served: Sequence[Served], now: Instant) -> None:
        """Begin.

        :raises BoundBrokenError: a model that could be stolen sooner than its policy allows.
        :raises UsageError: no model, one twice, or another model's odometer.
        """
        for one in served:
            check_policy(one.policy)
        self._lanes = {one.policy.model: _Lane.of(one, now) for one in served}
        if not served or len(self._lanes) != len(served):
            raise UsageError("a governor serves at least one model, and each once")
        fleet = min(one.policy.fleet_day_bits for one in served)
        self._fleet = Bucket(fleet, level=fleet - sum(one.recent for one in served), now=now)
        # Whoever is most careful says when the fleet's use is worth a record.
        self._fleet_marks = Marks(min(one.policy.warn_permille for one in served), again_after=DAY)
        self._answers: dict[int, _Answer] = {}
        self._last, self._now = 0, now

    def reserve(
        self, principal: str, model: ModelId, most: int, now: Instant, *, output: Output = Output.TOKENS
    ) -> Reservation:
        """Reserve ``most`` units for one answer: all of it in every limit, or nothing.

        :raises NotFoundError: the model isn't served here.
        :raises EgressFrozenError: nothing leaves it any more.
        :raises OutputNotAllowedError: its policy doesn't name this kind of output.
        :raises LimitReachedError: a limit has less left; says which, what it has, and when it would pass.
        :raises MirrorBehindError: mirror :meth:`wanted` first, then ask again.
        :raises UnavailableError: too many principals, or answers under way.
        :raises UsageError: no unit, or more than :data:`~strongroom.egress.bits.MAX_UNITS`.
        """
        now = self._tick(now)
        lane = self._lane(model)
        lane.check_open()
        if not 1 <= most <= MAX_UNITS:
            raise UsageError(f"an answer has 1 to {MAX_UNITS} units")
        if output not in lane.policy.outputs:
            raise OutputNotAllowedError(f"the policy of `{model}` lets no `{output.value}` leave")
        if len(self._answers) >= MAX_HELD:
            raise UnavailableError("too many answers are under way", reason="egress-answers")
        bits = lane.policy.reserved(output, most)
        purse = lane.purse(principal, now)
        buckets = ((Limit.PRINCIPAL_DAY, purse), (Limit.MODEL_DAY, lane.day), (Limit.FLEET_DAY, self._fleet))
        for limit, bucket in buckets:
            if bucket.left(now) < bits:
                raise LimitReachedError(
                    limit, seen=bucket.left(now), wanted=bits, passes_at=bucket.passes_at(bits, now)
                )
        lane.odometer.hold(bits, now)
        for _limit, bucket in buckets:
            bucket.take(bits, now)
        lane.held += bits
        lane.answers += 1
        self._last += 1
        reservation = Reservation(
            number=self._last,
            model=model,
            principal=principal,
            output=output,
            most=most,
            bits=bits,
            expires_at=now + HOLD_SECONDS,
            crossed=tuple(self._crossed(lane, now)),
        )
        self._answers[self._last] = _Answer(reservation, lane.policy)
        return reservation

    def emit(self, number: int, units: int, now: Instant) -> None:
        """Say that ``units`` more of an answer are about to leave; they may only if this returns.

        :raises OverspentError: more than was reserved, or too late. The model is frozen from now on.
        :raises EgressFrozenError: nothing leaves it any more.
        :raises NotFoundError: no such answer is under way.
        """
        now = self._tick(now)
        answer = self._answer(number)
        reservation = answer.reservation
        lane = self._lanes[reservation.model]
        lane.check_open()
        if not 0 <= units <= reservation.most - answer.units or now >= reservation.expires_at:
            self.freeze(reservation.model, "overspent")
            raise OverspentError(
                f"an answer of `{reservation.model}` may have {reservation.most} units until its reservation ends; "
                f"{answer.units + units} would have left"
            )
        answer.units += units

    def settle(self, number: int, now: Instant, *, verified: int | None = None) -> Settled:
        """End an answer: charge what left, give back the rest.

        :param verified: of an answer that was replayed, how many of its tokens were reproduced, from the first on;
            None for one that wasn't.
        :raises NotFoundError: no such answer is under way.
        :raises UsageError: more verified tokens than left, of another kind of output, or nobody may verify any.
        """
        now = self._tick(now)
        answer = self._answer(number)
        reservation, units = answer.reservation, answer.units
        lane, policy = self._lanes[reservation.model], answer.policy
        if verified is None:
            bits = policy.cost(reservation.output, units, most=reservation.most)
        elif policy.verified_by is None or reservation.output is not Output.TOKENS or not 0 <= verified <= units:
            raise UsageError("only tokens that left can be verified, and only where the policy names who does")
        else:
            bits = policy.replayed_cost(units, verified=verified, most=reservation.most)
        back = reservation.bits - bits
        lane.odometer.settle(reservation.bits, bits)
        if reservation.output is Output.TOKENS:
            lane.odometer.count(units, verified or 0)
        for bucket in (lane.purses.get(reservation.principal), lane.day, self._fleet):
            # A purse that is gone was full: nothing would fit.
            if bucket is not None:
                bucket.give_back(back, now)
        lane.burn.add(bits, now)
        lane.held -= reservation.bits
        lane.answers -= 1
        del self._answers[number]
        return Settled(reservation=reservation, units=units, verified=verified or 0, bits=bits, refunded=back)

    def wanted(self, now: Instant) -> tuple[Block, ...]:
        """Return the blocks that the log should mirror now: after each reservation, and at least every minute."""
        now = self._tick(now)
        found = (lane.odometer.wanted(now) for lane in self._lanes.values() if lane.frozen is None)
        return tuple(block for block in found if block is not None)

    def mirrored(self, entry: OdometerEntry, now: Instant) -> tuple[Crossing, ...]:
        """Take a block that the log holds, once its ``record`` is stored. Returns the marks of the life that it passed.

        The end of the model's life is from now on where the entry says that it is.

        :raises MeterSupersededError: a newer governor opened the odometer; the model is frozen here.
        :raises OdometerRegressedError: the log says less than before; the model is frozen here.
        :raises NotFoundError: the model isn't served here.
        """
        now, lane = self._tick(now), self._lane(entry.model)
        before = lane.odometer.limit
        try:
            lane.odometer.take(entry)
        except (ConflictError, TamperedError) as error:
            self.freeze(entry.model, error.code)
            raise
        total, limit = lane.odometer.total, lane.odometer.limit
        if limit > before:
            # People signed a policy that lets more out: what was passed of the old life says nothing of the new one.
            lane.life_marks.begin_anew()
        return tuple(
            Crossing(limit=Limit.LIFETIME, model=entry.model, permille=mark, used=total, of=limit, at=now)
            for mark in lane.life_marks.passed(total, limit, now)
        )

    def adopt(self, policy: EgressPolicy, now: Instant) -> None:
        """Serve a model under another policy from now on. Nothing is refilled by it; answers under way keep theirs.

        Where the model's life ends is what the log's entries say (:meth:`mirrored`).

        :raises NotFoundError: the model isn't served here.
        :raises BoundBrokenError: the model could be stolen sooner than the policy allows.
        :raises UsageError: it counts another number of tokens: frames are judged by that from the start on.
        """
        now, lane = self._tick(now), self._lane(policy.model)
        check_policy(policy)
        if policy.vocabulary != lane.policy.vocabulary:
            raise UsageError(f"`{policy.model}` has another vocabulary by its new egress policy", remedy="start again")
        lane.adopt(policy, now)
        self._fleet.resize(min(one.policy.fleet_day_bits for one in self._lanes.values()), now)

    def freeze(self, model: ModelId, cause: str) -> None:
        """Let nothing more leave a model. Only a new governor, which people allow to start, serves it again.

        :raises NotFoundError: the model isn't served here.
        """
        lane = self._lane(model)
        lane.frozen = lane.frozen or cause

    def policy(self, model: ModelId) -> EgressPolicy:
        """Return the policy that a model is served under now.

        :raises NotFoundError: the model isn't served here.
        """
        return self._lane(model).policy

    def level(self, model: ModelId, now: Instant) -> Level:
        """Return how a model stands.

        :raises NotFoundError: the model isn't served here.
        """
        now = self._tick(now)
        lane = self._lane(model)
        life = max(0, lane.odometer.limit - lane.odometer.total) + max(0, lane.odometer.headroom)
        hour = lane.burn.last_hour(now)
        return Level(
            day_left=lane.day.left(now),
            fleet_left=self._fleet.left(now),
            life_left=life,
            settled=lane.odometer.settled,
            held=lane.held,
            hour=hour,
            seconds_left=life * 3600 // hour if hour else None,
            answers=lane.answers,
        )

    def _tick(self, now: Instant) -> Instant:
        # A clock that goes back would let reservations live longer than the mirror takes them to.
        self._now = max(self._now, now)
        return self._now

    def _lane(self, model: ModelId) -> _Lane:
        try:
            return self._lanes[model]
        except KeyError:
            raise NotFoundError("that model isn't served here") from None

    def _answer(self, number: int) -> _Answer:
        try:
            return self._answers[number]
        except KeyError:
            raise NotFoundError("no such answer is under way", reason="egress-no-answer") from None

    def _crossed(self, lane: _Lane, now: Instant) -> Iterator[Crossing]:
        for limit, bucket, marks in (
            (Limit.MODEL_DAY, lane.day, lane.day_marks),
            (Limit.FLEET_DAY, self._fleet, self._fleet_marks),
        ):
            used, of = bucket.used(now), bucket.per_day
            for mark in marks.passed(used, of, now):
                yield Crossing(limit=limit, model=lane.policy.model, permille=mark, used=used, of=of, at=now)
