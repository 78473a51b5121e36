"""Time is a parameter. Instants are whole seconds since 1970 UTC; in signed objects they are RFC 3339 text."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final, Protocol

from strongroom.core.errors import MalformedError

Instant = int
"""Whole seconds since 1970-01-01T00:00:00Z."""
LATEST: Final[Instant] = 253_402_300_799
"""9999-12-31T23:59:59Z: later ones can't be written."""

_FORM: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z")


class Clock(Protocol):
    """Where a process reads the time; only wiring modules make one."""

    def now(self) -> Instant:
        """Return the current instant."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> Instant:
        """Return the machine's time."""
        return int(time.time())


def uptime() -> float:
    """Return the seconds since the machine booted, those that it was suspended included. Nobody can set this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def format_instant(at: Instant) -> str:
    """Write an instant as ``2026-11-23T22:08:37Z``."""
    # Not strftime: it writes the year 900 with three digits, which nobody reads back.
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def parse_instant(text: str) -> Instant:
    """Read ``2026-11-23T22:08:37Z``; no other spelling of RFC 3339 is accepted.

    :raises MalformedError: any other text.
    """
    found = _FORM.fullmatch(text)
    if not found:
        raise MalformedError("an instant must be written `YYYY-MM-DDThh:mm:ssZ`")
    year, month, day, hour, minute, second = map(int, found.groups())
    try:
        # Not strptime, which takes ten times as long: a log is read at the speed of this.
        return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())
    except ValueError:
        raise MalformedError("the text isn't a date and time that exists") from None
