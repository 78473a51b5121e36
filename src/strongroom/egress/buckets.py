"""Token buckets in bits. The level is kept in bits times seconds of a day: refilling neither loses nor makes any."""

from __future__ import annotations

from collections import deque
from typing import Final

from strongroom.core.clock import Instant

DAY: Final = 86400
_HOUR: Final = 3600
_MINUTE: Final = 60


class Bucket:
    """A day's budget that refills evenly: within d days of its making at most (d + 1) budgets are taken from it.

    A clock that goes back refills nothing, and what it repeats later isn't counted twice.
    """

    def __init__(self, per_day: int, *, level: int, now: Instant) -> None:
        self.per_day = per_day
        self._scaled = min(max(level, 0), per_day) * DAY
        self._at = now

    def left(self, now: Instant) -> int:
        """Return how many bits may be taken, rounded down."""
        if now > self._at:
            self._scaled = min(self.per_day * DAY, self._scaled + self.per_day * (now - self._at))
            self._at = now
        return max(0, self._scaled // DAY)

    def take(self, bits: int, now: Instant) -> None:
        """Take what :meth:`left` said is there.

        :raises ValueError: it isn't there: the caller didn't ask.
        """
        if bits > self.left(now):
            raise ValueError("taken from a bucket without asking what it has")
        self._scaled -= bits * DAY

    def give_back(self, bits: int, now: Instant) -> None:
        """Give back what was taken and not used; what doesn't fit is lost."""
        self.left(now)
        self._scaled = min(self.per_day * DAY, self._scaled + bits * DAY)

    def resize(self, per_day: int, now: Instant) -> None:
        """Make the day's budget another one. What was taken stays taken, also where that is more than there is now."""
        self.left(now)
        self._scaled += (per_day - self.per_day) * DAY
        self.per_day = per_day

    def passes_at(self, bits: int, now: Instant) -> Instant | None:
        """Return when ``bits`` could be taken if nobody took any before, or None for never."""
        self.left(now)
        missing = bits * DAY - self._scaled
        if bits > self.per_day:
            return None
        return self._at + max(0, -(-missing // self.per_day))

    def used(self, now: Instant) -> int:
        """Return how much of the day's budget is taken."""
        return self.per_day - self.left(now)


class Burn:
    """How much was charged within the last hour, in steps of a minute."""

    def __init__(self) -> None:
        self._minutes: deque[tuple[int, int]] = deque()

    def add(self, bits: int, now: Instant) -> None:
        """Count a charge."""
        minute = now // _MINUTE
        if self._minutes and self._minutes[-1][0] >= minute:
            last, before = self._minutes.pop()
            self._minutes.append((last, before + bits))
        else:
            self._minutes.append((minute, bits))
        self.last_hour(now)

    def last_hour(self, now: Instant) -> int:
        """Return the bits charged within the last hour."""
        while self._minutes and self._minutes[0][0] <= (now - _HOUR) // _MINUTE:
            self._minutes.popleft()
        return sum(bits for _minute, bits in self._minutes)
