"""The log's part of an odometer, as a governor's process sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from strongroom.core.clock import Instant
from strongroom.egress.odometer import Block, LocalRecord, OdometerEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRun:
    """A run that the log began for this governor."""

    entry: OdometerEntry
    recent: int
    """Bits that may have left within the last day."""


class OdometerLog(Protocol):
    """Whoever appends odometer entries to the log (steps 1 and 3 of docs/spec/egress-budget.md). Calls may block."""

    def open(self, *, epoch: int, seen: LocalRecord | None, now: Instant) -> OpenedRun:
        """Begin a run, for a governor that holds the local record ``seen``.

        :raises StrongroomError: the log isn't there, or refuses.
        """
        ...

    def advance(self, block: Block, *, limit: int, now: Instant) -> OdometerEntry:
        """Append the entry that answers ``block``.

        :raises StrongroomError: the log isn't there, or refuses.
        """
        ...
