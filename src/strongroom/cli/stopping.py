"""Stopping a command that runs until it is told to: it finishes what it is in the middle of; a second word ends it."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any, Final, Self

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """While entered, the first SIGINT or SIGTERM only makes :meth:`pause` return True."""

    def __init__(self) -> None:
        self._asked = False
        self._pausing = False
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        self._before = [signal.signal(number, self._told) for number in _SIGNALS]
        return self

    def __exit__(self, *_exc: object) -> None:
        for number, before in zip(_SIGNALS, self._before, strict=True):
            signal.signal(number, before)

    def pause(self, seconds: float) -> bool:
        """Wait, and tell whether to stop; returns at once when that was said before or meanwhile."""
        self._pausing = True
        try:
            if not self._asked:
                time.sleep(seconds)
        except KeyboardInterrupt:
            self._asked = True
        finally:
            self._pausing = False
        return self._asked

    def _told(self, _number: int, _frame: FrameType | None) -> None:
        if self._pausing or self._asked:
            raise KeyboardInterrupt
        self._asked = True
