"""The keeper on a machine whose clock was set.

``python -m strongroom.attacks.lab.moved_clock SECONDS --home HOME ...``, for scratch deployments.
The keeper is the real one; only the clock that it reads is another.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from strongroom.attacks.lab.marker import need_scratch
from strongroom.core.clock import Instant, SystemClock
from strongroom.keeper import wiring

_MOVED: Final = int(sys.argv.pop(1)) if __name__ == "__main__" else 0


class MovedClock(SystemClock):
    """The machine's clock, moved."""

    def now(self) -> Instant:
        """Return the time on the moved clock."""
        return super().now() + _MOVED


if __name__ == "__main__":
    need_scratch(Path(sys.argv[sys.argv.index("--home") + 1]))
    setattr(wiring, "SystemClock", MovedClock)  # noqa: B010 - a name of another module, replaced on purpose
    wiring.main()
