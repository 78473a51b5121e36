"""Risk points: what findings that prove nothing add up to. They fade, and may only ask for one more approver."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from strongroom.core.clock import Instant
from strongroom.detection.rules import Certainty, Severity

HALF_LIFE: Final = 7 * 86400
ANOTHER_APPROVER: Final = 6.0
"""Points from which one more person must agree to what somebody asks for."""
MOST_SUBJECTS: Final = 20_000
_WORTH: Final = {
    Severity.INFORMATIONAL: 0.0,
    Severity.LOW: 1.0,
    Severity.MEDIUM: 2.0,
    Severity.HIGH: 4.0,
    Severity.CRITICAL: 8.0,
}


class Risk:
    """Points of each subject (a person, a host, a principal), halved every seven days."""

    def __init__(self) -> None:
        self._points: OrderedDict[str, tuple[float, Instant]] = OrderedDict()
        self.forgotten = 0
        """Subjects with at least one point that had to be forgotten for want of room."""

    def add(self, subject: str, severity: Severity, certainty: Certainty, now: Instant) -> float:
        """Add a finding's points; returns what the subject has now. Sure findings act elsewhere and count here too."""
        points = self.points(subject, now) + _WORTH[severity] * (1.0 if certainty is Certainty.HINT else 2.0)
        self._points[subject] = (points, now)
        self._points.move_to_end(subject)
        if len(self._points) > MOST_SUBJECTS:
            _gone, (left, since) = self._points.popitem(last=False)
            self.forgotten += _faded(left, since, now) >= 1
        return points

    def points(self, subject: str, now: Instant) -> float:
        """Return a subject's points."""
        points, since = self._points.get(subject, (0.0, now))
        return _faded(points, since, now)

    def needs_another_approver(self, subject: str, now: Instant) -> bool:
        """Return whether one more person must agree to what the subject asks for."""
        return self.points(subject, now) >= ANOTHER_APPROVER


def _faded(points: float, since: Instant, now: Instant) -> float:
    # A clock that went back doesn't raise points.
    return float(points * 0.5 ** (max(0, now - since) / HALF_LIFE))
