"""The real keeper under a clock that a test moves: ``HOME/clock-moved`` holds by how many seconds, else none."""

from __future__ import annotations

import sys
from pathlib import Path

from strongroom.core.clock import Instant, SystemClock
from strongroom.keeper import wiring

MOVED = Path(sys.argv[sys.argv.index("--home") + 1]) / "clock-moved"


class MovedClock(SystemClock):
    """The machine's clock, moved."""

    def now(self) -> Instant:
        """Return the time on the moved clock."""
        moved = int(MOVED.read_text()) if MOVED.exists() else 0
        return super().now() + moved


if __name__ == "__main__":
    setattr(wiring, "SystemClock", MovedClock)  # noqa: B010 - mypy refuses to see it replaced; here the clock is chosen
    wiring.main()
