"""Clocks for tests."""

from __future__ import annotations

from strongroom.core.clock import Instant


class FixedClock:
    """A clock that stands where it was put."""

    def __init__(self, at: Instant) -> None:
        self.at = at

    def now(self) -> Instant:
        """Return the instant that was set."""
        return self.at
