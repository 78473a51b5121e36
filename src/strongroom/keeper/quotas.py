"""How many entries somebody can bring into the log, so that nobody fills it.

The broker limits calls, but its word isn't believed here: what counts is whose signature was verified, and which
recorded request is refused. Refusals beyond the rate are summed up, and the sum is recorded: none is dropped, and
nobody can block a request by having it refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.audit.facts import Fact
from strongroom.core.buckets import Buckets, Rate, TooManyEntriesError
from strongroom.core.clock import Clock, Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.keeper.journal import Recorded


class Quota(StrEnum):
    """What is counted."""

    VOICE = "what one person asks for, approves or denies"
    REFUSAL = "refused uses of one request"
    EVIDENCE = "new evidence of one running enclave"
    BACKUP = "backups"
    INCIDENT = "what one responder says of incidents"
    PRECAUTION = "precautions of one responder"
    DELIVERY = "what one person says of deliveries"
    COPY = "what one registrar says of copies"


RATES: Final[Mapping[Quota, Rate]] = {
    Quota.VOICE: Rate(per_second=1.0, burst=256),
    Quota.REFUSAL: Rate(per_second=0.2, burst=64),
    Quota.EVIDENCE: Rate(per_second=1.0, burst=32),
    Quota.BACKUP: Rate(per_second=1 / 60, burst=32),
    Quota.INCIDENT: Rate(per_second=1 / 30, burst=64),
    Quota.PRECAUTION: Rate(per_second=1 / 60, burst=60),
    Quota.DELIVERY: Rate(per_second=0.2, burst=256),
    Quota.COPY: Rate(per_second=0.2, burst=256),
}
"""In the long run at most 50 MB of the log a day for a person who never rests, 10 MB for a request."""


class Quotas:
    """Counts by quota and name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets = {quota: Buckets(rate) for quota, rate in RATES.items()}

    def take(self, quota: Quota, name: str) -> None:
        """Count one entry.

        :raises TooManyEntriesError: there were too many.
        """
        wait = self._buckets[quota].wait(name, self._clock.now())
        if wait:
            raise TooManyEntriesError(
                f"too many entries for the log: {quota.value}", remedy=f"wait {wait:.0f} seconds, then ask again"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """Refused uses of a request that have no entries of their own."""

    count: int
    first: Instant
    last: Instant


class SummedRefusals:
    """What was refused beyond the rate, until it is recorded. Bounded: only recorded requests are counted."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self._sums: dict[Digest, Sum] = {}

    def single(self, request: Digest, now: Instant) -> bool:
        """Return whether a refusal may have an entry of its own; if not, it was added to the sum."""
        try:
            self._quotas.take(Quota.REFUSAL, str(request))
        except TooManyEntriesError:
            before = self._sums.get(request, Sum(count=0, first=now, last=now))
            self._sums[request] = Sum(count=before.count + 1, first=before.first, last=max(now, before.last))
            return False
        return True

    def record(self, record: Callable[[EventName, Mapping[str, Fact]], asyncio.Future[Recorded]]) -> None:
        """Queue an entry for each sum that may have one now.

        :raises UnavailableError: the log takes none; the sums are kept.
        """
        for request, held in list(self._sums.items()):
            try:
                self._quotas.take(Quota.REFUSAL, str(request))
            except TooManyEntriesError:
                continue
            facts: dict[str, Fact] = {
                "request": request,
                "count": held.count,
                "first": format_instant(held.first),
                "last": format_instant(held.last),
            }
            record(EventName.REFUSALS_SUMMED, facts).add_done_callback(_seen)
            del self._sums[request]


def _seen(recording: asyncio.Future[Recorded]) -> None:
    # An append that fails locks the keeper; nobody waits for this one.
    if not recording.cancelled():
        recording.exception()
