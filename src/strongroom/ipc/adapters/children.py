"""Processes that this one starts: they end with it, and are waited for."""

from __future__ import annotations

import ctypes
import signal
import subprocess
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent() -> None:
    """Have the kernel end the process that calls this when its parent dies: who is killed leaves nothing unwatched."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def let_end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for a process that was told to end; it is killed when it takes longer."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
