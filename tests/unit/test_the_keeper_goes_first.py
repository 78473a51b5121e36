"""Who answers before ordinary programs does so where its rights allow it, and starts all the same where they don't."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

IMPORTS = "import os; from strongroom.ipc.adapters.process import go_first"


def niceness(*before: str) -> int:
    """Return how nice a process is that went first."""
    program = "; ".join((IMPORTS, *before, "go_first()", "print(os.nice(0))"))
    return int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout)


def test_whoever_may_goes_before_others() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may go before others")
    assert niceness() == max(-20, os.nice(0) - 15)


def test_whoever_may_not_starts_all_the_same() -> None:
    assert niceness("os.geteuid() or os.setuid(65534)") == os.nice(0)
