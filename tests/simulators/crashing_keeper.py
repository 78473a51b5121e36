"""The real keeper, which kills itself with SIGKILL when it reaches the step named in ``HOME/crash-at``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from strongroom.keeper.service import Keeper
from strongroom.keeper.wiring import main
from strongroom.release.steps import Step

HOME = Path(sys.argv[sys.argv.index("--home") + 1])


class CrashingKeeper(Keeper):
    """Dies where a crash test wants it to."""

    def _reached(self, step: Step) -> None:
        marker = HOME / "crash-at"
        if marker.exists() and marker.read_text() == step.number:
            marker.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(CrashingKeeper)
