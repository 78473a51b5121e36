"""How often the responder may freeze by itself: a freeze is a way to deny service, and somebody will try that. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from strongroom.core.clock import Instant

HOUR: Final = 3600
MOST_SOURCES: Final = 1024


class FreezeLimits:
    """Counts freezes that took effect, by the sensor whose word they rest on.

    A signal about a model that is frozen already counts nothing: only people can make room for another freeze, by
    resuming, and it takes a quorum of them each time.
    """

    def __init__(self, hourly: int) -> None:
        self._hourly = hourly
        self._frozen: OrderedDict[str, deque[Instant]] = OrderedDict()

    def allow(self, source: str, now: Instant) -> bool:
        """Tell whether a source's word may freeze once more."""
        return sum(now - at < HOUR for at in self._frozen.get(source, ())) < self._hourly

    def count(self, source: str, now: Instant) -> None:
        """Count a freeze that took effect."""
        self._frozen.setdefault(source, deque(maxlen=max(1, self._hourly))).append(now)
        self._frozen.move_to_end(source)
        while len(self._frozen) > MOST_SOURCES:
            self._frozen.popitem(last=False)
