"""The real keeper under clocks that a test moves, by as many seconds as a file says.

``HOME/keeper/clock-moved``: time passes, by the wall clock and by the time since boot alike.
``HOME/keeper/clock-set``: somebody sets the wall clock, and nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path

from strongroom.core.clock import Instant, SystemClock, uptime
from strongroom.keeper import wiring
from strongroom.keeper.guard import wiring as guard

FOLDER = Path(sys.argv[sys.argv.index("--home") + 1]) / "keeper"


def moved(name: str) -> int:
    """Return what one of the two files says."""
    path = FOLDER / name
    return int(path.read_text()) if path.exists() else 0


class MovedClock(SystemClock):
    """The machine's clock, moved."""

    def now(self) -> Instant:
        """Return the time on the moved clock."""
        return super().now() + moved("clock-moved") + moved("clock-set")


if __name__ == "__main__":
    setattr(wiring, "SystemClock", MovedClock)  # noqa: B010 - mypy refuses to see it replaced; here the clock is chosen
    setattr(guard, "uptime", lambda: uptime() + moved("clock-moved"))  # noqa: B010 - likewise
    wiring.main()
