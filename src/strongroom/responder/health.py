"""What the responder watches with, and when each part was heard last. Pure: times are seconds of a monotonic clock.

A sensor that fell silent sees nothing. It is told once until it is heard again, and while any is silent the responder
sends no heartbeat: :mod:`strongroom.keeper.dead_man` then lets nothing out.
"""

from __future__ import annotations

from collections.abc import Mapping


class Health:
    """Remembers when each part was heard.

    :param limits: the longest silence of each part, in seconds.
    """

    def __init__(self, limits: Mapping[str, float], now: float) -> None:
        self._limits = dict(limits)
        self._heard = dict.fromkeys(self._limits, now)
        self._told: set[str] = set()

    def heard(self, part: str, now: float) -> None:
        """Take that a part lives. One without a limit may be silent for ever."""
        if part in self._limits:
            self._heard[part] = now
            self._told.discard(part)

    def silent(self, now: float) -> dict[str, int]:
        """Return the parts that have been silent for too long, and for how many seconds."""
        return {part: int(now - heard) for part, heard in self._heard.items() if now - heard > self._limits[part]}

    def news(self, now: float) -> dict[str, int]:
        """Return those of the silent ones that weren't returned since they were heard last."""
        found = {part: seconds for part, seconds in self.silent(now).items() if part not in self._told}
        self._told.update(found)
        return found
