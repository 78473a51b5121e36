"""What one webhook still has to be told, and when to try again: pure, time and chance are parameters.

A receiver that doesn't answer holds everything back, for nothing else would arrive either; one that refuses a single
notice holds back only that one. Notices that page go first. What is offered is delivered at least once, or given up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.broker.notices import Notice, Priority
from strongroom.core.clock import Instant

CAPACITY: Final = 256
"""How many notices wait in memory; further ones stay in the log until there is room."""
FIRST_SECONDS: Final = 1.0
MOST_SECONDS: Final = 600.0
GIVE_UP_SECONDS: Final = 72 * 3600
"""Counted from the entry's own time, so that a restart doesn't begin anew."""


class Failure(StrEnum):
    """Why a notice wasn't taken."""

    UNREACHABLE = "unreachable"
    """No answer, or one that speaks of the receiver's own state: everything waits."""
    REFUSED = "refused"
    """An answer about this very notice: only this one waits."""


@dataclass(slots=True)
class _Waiting:
    notice: Notice
    attempts: int = 0
    due: float = 0.0


def backoff(attempts: int, chance: float) -> float:
    """Return how long to wait after so many failures: doubling, bounded, and between half and all of it by chance.

    :param chance: from 0 to 1, different for each receiver and time, so that many don't come back at once.
    """
    doubled = FIRST_SECONDS * 2.0 ** min(attempts - 1, 20)
    return min(MOST_SECONDS, doubled) * (0.5 + chance / 2)


class Outbox:
    """The notices that one webhook waits for. ``now`` is monotonic, in seconds; ``at`` is the time of day."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._failures = 0
        self._resume = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether no more should be offered for now."""
        return len(self._waiting) >= CAPACITY

    def offer(self, notice: Notice) -> None:
        """Take a notice; they come in the order of the log."""
        self._waiting.append(_Waiting(notice))

    def next(self, now: float) -> Notice | None:
        """Return what to send now, if anything: pages first, then the oldest."""
        if now < self._resume:
            return None
        due = [waiting for waiting in self._waiting if waiting.due <= now]
        if not due:
            return None
        return min(due, key=lambda waiting: waiting.notice.priority is not Priority.PAGE).notice

    def pause(self, now: float) -> float | None:
        """Return for how many seconds there is nothing to send; None when nothing waits at all."""
        if not self._waiting:
            return None
        return max(0.0, self._resume - now, min(waiting.due for waiting in self._waiting) - now)

    def delivered(self, notice: Notice) -> None:
        """Note that the receiver took a notice."""
        self._waiting = [waiting for waiting in self._waiting if waiting.notice != notice]
        self._failures, self._resume = 0, 0.0

    def failed(self, notice: Notice, failure: Failure, *, now: float, at: Instant, chance: float) -> bool:
        """Note that the receiver didn't take a notice; returns whether it was given up."""
        if failure is Failure.UNREACHABLE:
            self._failures += 1
            self._resume = now + backoff(self._failures, chance)
        else:
            # It answers: what else waits may go.
            self._failures, self._resume = 0, 0.0
        for waiting in self._waiting:
            if waiting.notice == notice:
                waiting.attempts += 1
                if failure is Failure.REFUSED:
                    waiting.due = now + backoff(waiting.attempts, chance)
        given_up = at - notice.at >= GIVE_UP_SECONDS
        if given_up:
            self._waiting = [waiting for waiting in self._waiting if waiting.notice != notice]
        return given_up

    def settled(self, place: int) -> int:
        """Return the index up to which nothing is left to do, when ``place`` is the last entry that was looked at."""
        return min((waiting.notice.index - 1 for waiting in self._waiting), default=place)
