"""The signals that end a process in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable


def when_told_to_end(act: Callable[[], object]) -> None:
    """Call ``act`` on SIGTERM or SIGINT, which end the process no other way from now on. In the main thread's loop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, act)
