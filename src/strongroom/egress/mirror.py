"""The log's side of an odometer: which entry answers a governor, and what all entries together say. Pure.

Whoever appends to the log keeps one :class:`Mirror` for each model, replayed from its entries, and appends nothing that
:meth:`Mirror.open` or :meth:`Mirror.advance` didn't give.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

from strongroom.core.canonical import MAX_INTEGER
from strongroom.core.clock import Instant
from strongroom.core.errors import UsageError
from strongroom.core.ids import ModelId
from strongroom.egress.buckets import DAY
from strongroom.egress.errors import (
    Limit,
    LimitReachedError,
    MeterSupersededError,
    OdometerRegressedError,
)
from strongroom.egress.odometer import BLOCK_SECONDS, Block, LocalRecord, OdometerEntry

HOLD_SECONDS: Final = 3600
"""How long an answer may take. After that and :data:`~strongroom.egress.odometer.BLOCK_SECONDS` a run without an entry
has nothing that it could still let out."""
_DEAD: Final = DAY + BLOCK_SECONDS + HOLD_SECONDS
_MAX_POINTS: Final = 512
_MAX_RUNS: Final = 512
DAYS_AHEAD: Final = 3
"""Days' budgets that blocks may run ahead of the clock: a full bucket, an answer as large as a day, and what crashes
lost of a block. No honest governor asks for more; one that was taken over gets d + 3 days' budgets within d days."""


@dataclass(frozen=True, slots=True)
class _Run:
    """What one run said, as far back as the last day needs."""

    number: int
    through: int
    at: Instant
    points: tuple[tuple[Instant, int], ...]
    """(when, bits settled until then), oldest first."""
    tokens: int = 0
    verified: int = 0

    def after(self, entry: OdometerEntry) -> _Run:
        points = (*self.points, (entry.at, entry.settled))
        while len(points) > 1 and points[1][0] <= entry.at - DAY:
            points = points[1:]
        if len(points) > _MAX_POINTS:
            # Whatever is dropped, more counts as recent, which is safe. Without the oldest the whole run would.
            points = (points[0], *points[2:])
        return _Run(self.number, entry.through, entry.at, points, entry.tokens, entry.verified)

    def goes_on(self, told: Block | OdometerEntry) -> bool:
        """Tell whether what a governor says that it charged goes forwards, and isn't more than it was given."""
        more, verified = told.tokens - self.tokens, told.verified - self.verified
        return self.points[-1][1] <= told.settled <= self.through and 0 <= verified <= more

    def recent(self, now: Instant) -> int:
        before = [settled for at, settled in self.points if at <= now - DAY]
        return self.through - (before[-1] if before else 0)


@dataclass(frozen=True, slots=True)
class Mirror:
    """What the log's entries say of one model. Begin with ``Mirror(model)`` and fold :meth:`after` over them."""

    model: ModelId
    total: int = 0
    """Bits that may have left, over all runs and key epochs."""
    run: int = 0
    """The newest run; 0 before the first."""
    epoch: int = 0
    _runs: tuple[_Run, ...] = ()
    _ahead: int = 0
    """How far blocks run ahead of the days' budgets, in bits times the seconds of a day: nothing is rounded away."""
    _ahead_at: Instant = 0

    def open(self, *, epoch: int, limit: int, day: int, seen: LocalRecord | None, now: Instant) -> OdometerEntry:
        """Return the entry that begins a new run (step 1).

        ``limit`` is where the model's life ends, and ``day`` what may leave it within a day, in bits.

        ``seen`` is the opening governor's local record. If it says more than the log, the log was rolled back, and what
        the record says is the truth from now on; an entry whose total exceeds the one before it tells everybody.

        :raises UsageError: the record is another model's.
        """
        if seen is not None and seen.model != self.model:
            raise UsageError(f"the local record is of another model than `{self.model}`")
        at, total = self._time(now), max(self.total, seen.total if seen else 0)
        return OdometerEntry(
            model=self.model,
            epoch=epoch,
            run=max(self.run, seen.run if seen else 0) + 1,
            through=0,
            settled=0,
            tokens=0,
            verified=0,
            total=total,
            recent=self.recent(at) + total - self.total,
            limit=limit,
            day=day,
            at=at,
        )

    def advance(self, block: Block, *, epoch: int, limit: int, day: int, now: Instant) -> OdometerEntry:
        """Return the entry that answers a block (step 3). Where a limit is near, it gives less than was asked.

        A governor bounds what leaves by its buckets; one that was taken over keeps to none. So blocks run no more than
        :data:`DAYS_AHEAD` days' budgets ahead of the clock, whoever asks.

        :raises MeterSupersededError: a newer run was opened.
        :raises OdometerRegressedError: the log lost entries that this governor saw, or its readings go back.
        :raises LimitReachedError: there is nothing left of the model's life, or blocks run too far ahead.
        """
        if block.model != self.model or block.run < self.run:
            raise MeterSupersededError(f"the odometer of `{self.model}` was opened again after run {block.run}")
        if block.run > self.run or not self._runs:
            raise OdometerRegressedError(f"the log doesn't know run {block.run} of `{self.model}`")
        run = self._runs[-1]
        if not run.goes_on(block) or block.through < 0:
            raise OdometerRegressedError(f"the readings of run {block.run} of `{self.model}` don't go forwards")
        asked = max(0, block.through - run.through)
        life = min(max(0, limit - self.total), MAX_INTEGER - self.total)
        at = self._time(now)
        given = min(asked, life, self.room(day, at))
        if asked and not given:
            reached = Limit.MODEL_DAY if life else Limit.LIFETIME
            raise LimitReachedError(reached, seen=0, wanted=asked, passes_at=None)
        return OdometerEntry(
            model=self.model,
            epoch=epoch,
            run=block.run,
            through=run.through + given,
            settled=block.settled,
            tokens=block.tokens,
            verified=block.verified,
            total=self.total + given,
            recent=self.recent(at) + given,
            limit=limit,
            day=day,
            at=at,
        )

    def after(self, entry: OdometerEntry) -> Self:
        """Return what the log says with one entry more.

        :raises OdometerRegressedError: the entry doesn't follow: the log's writer didn't ask this module.
        """
        run = self._runs[-1] if self._runs else None
        begins = (
            entry.run > self.run
            and entry.through == entry.settled == entry.tokens == entry.verified == 0
            and entry.total >= self.total
        )
        goes_on = (
            run is not None
            and entry.run == run.number
            and entry.through >= run.through
            and run.goes_on(entry)
            and entry.total - self.total == entry.through - run.through
            and entry.total <= max(self.total, entry.limit)
            and entry.total - self.total <= self.room(entry.day, entry.at)
        )
        # What is recent falls with time alone: an entry that was made a moment before it was dated may say more.
        tells = entry.recent >= self.recent(entry.at) + entry.total - self.total
        if entry.model != self.model or entry.at < self._time(entry.at) or not (begins or goes_on) or not tells:
            raise OdometerRegressedError(f"an odometer entry of `{self.model}` doesn't follow the one before it")
        newest = run.after(entry) if run and goes_on else _Run(entry.run, 0, entry.at, ((entry.at, 0),))
        older = self._runs[:-1] if goes_on else self._runs
        if not goes_on and entry.total > self.total:
            # What a governor remembered and the log didn't may have left within the last day.
            older = (*older, _Run(entry.run, entry.total - self.total, entry.at, ((entry.at, 0),)))
        alive = tuple(one for one in older if one.at > entry.at - _DEAD)
        return replace(
            self,
            total=entry.total,
            run=entry.run,
            epoch=entry.epoch,
            _runs=(*_bounded(alive), newest),
            _ahead=min(
                self._ahead_by(entry.day, entry.at) + (entry.total - self.total) * DAY, DAYS_AHEAD * entry.day * DAY
            ),
            _ahead_at=entry.at,
        )

    def after_drop(self, bits: int, total: int) -> Self:
        """Return what the log says with a workspace's drop more: the model's total grows, and no run has a part in it.

        :raises OdometerRegressedError: the entry's total isn't the one before it and these bits.
        """
        if bits < 1 or total != self.total + bits:
            raise OdometerRegressedError(f"a drop of `{self.model}` doesn't follow the odometer entry before it")
        return replace(self, total=total, _ahead=self._ahead + bits * DAY)

    def room(self, day: int, now: Instant) -> int:
        """Return how much a block may give now, where ``day`` bits may leave within a day."""
        return max(0, DAYS_AHEAD * day * DAY - self._ahead_by(day, now)) // DAY

    def recent(self, now: Instant) -> int:
        """Return at most how many bits left within the last day, and are held and may leave: what buckets begin with.

        A restart refills no bucket: it starts with what a day's budget has left after this.
        """
        return sum(one.recent(now) for one in self._runs if one.at > now - _DEAD)

    def _ahead_by(self, day: int, now: Instant) -> int:
        return max(0, self._ahead - day * max(0, now - self._ahead_at))

    def _time(self, now: Instant) -> Instant:
        return max(now, self._runs[-1].at) if self._runs else now


def _bounded(runs: tuple[_Run, ...]) -> tuple[_Run, ...]:
    """Merge the two oldest while there are too many: all of their bits stay counted, for the longer of their times."""
    while len(runs) >= _MAX_RUNS:
        one, other = runs[0], runs[1]
        runs = (_Run(other.number, one.through + other.through, other.at, ((other.at, 0),)), *runs[2:])
    return runs
