"""What the log says of how a deployment is run: folded entry by entry from a log that the reader verifies. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from strongroom.assessor.collecting import Look
from strongroom.audit.entries import Entry
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import TamperedError
from strongroom.core.events import EventName
from strongroom.release.chronicle import Chronicle
from strongroom.response.entries import Phase

_DAY: Final = 86400
_NEVER: Final = -1
_SLACK: Final = 300
"""Seconds by which the keeper's clock may be ahead of this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessesSeen:
    """Whether the policy names witnesses, whether a quorum cosigned, and how long ago the newest word was."""

    named: bool
    quorum: bool
    age_seconds: int


@dataclass(slots=True)
class LogFold:
    """Entries in order, from a log that is verified while it is read."""

    chronicle: Chronicle = field(default_factory=Chronicle)
    size: int = 0
    newest: Instant = 0
    counts: dict[EventName, int] = field(default_factory=dict)
    last: dict[EventName, Instant] = field(default_factory=dict)
    manifests: set[Digest] = field(default_factory=set)
    """Of all versions that were registered."""
    drilled: Instant | None = None
    """When a drill's record was put into the log last."""
    incidents: dict[str, Instant] = field(default_factory=dict)
    """Incidents that aren't closed, and no drills: when each was first recorded."""
    silent: set[str] = field(default_factory=set)
    """Responders that weren't heard in time, and weren't heard since."""

    def take(self, index: int, entry: Entry, root: bytes) -> None:
        """Take the next entry; ``root`` (32 bytes) is its tree's root with it."""
        self.chronicle.take(index, entry)
        self.chronicle.ledger.roots += root
        self.size, self.newest = index + 1, entry.at
        self.counts[entry.event] = self.counts.get(entry.event, 0) + 1
        self.last[entry.event] = entry.at
        if entry.event is EventName.INCIDENT_RECORDED:
            self._incident(entry)
        elif entry.event is EventName.VERSION_REGISTERED:
            self.manifests.add(entry.digest("manifest"))
        elif entry.event is EventName.RESPONDER_SILENT:
            self.silent.add(entry.text("responder"))
        elif entry.event is EventName.RESPONDER_HEARD:
            self.silent.discard(entry.text("responder"))

    def _incident(self, entry: Entry) -> None:
        name = entry.text("incident")
        if entry.integer("drill"):
            self.drilled = entry.at
        elif entry.text("phase") == Phase.CLOSED:
            self.incidents.pop(name, None)
        else:
            self.incidents.setdefault(name, entry.at)

    def looks(self, witnesses: WitnessesSeen | None, now: Instant) -> Iterator[Look]:
        """Yield what the log's collectors saw."""
        yield Look(
            collector="log.verified",
            facts={
                "verified": True,
                "entries": self.size,
                "unfounded": len(self.chronicle.findings),
                "newest_age_seconds": max(0, now - self.newest),
            },
        )
        if witnesses is None:
            yield Look(collector="log.witnesses", missing="no policy is in force that could name any")
        else:
            facts = {"named": witnesses.named, "quorum": witnesses.quorum, "age_seconds": witnesses.age_seconds}
            yield Look(collector="log.witnesses", facts=facts)
        yield Look(
            collector="log.events",
            facts={
                "releases": self.counts.get(EventName.RELEASED, 0),
                "exports": self.counts.get(EventName.EXPORTED, 0),
                "breaches": self.counts.get(EventName.EGRESS_BREACHED, 0),
                "review_days": self._days(self.last.get(EventName.ACCESS_REVIEWED), now),
                "read_in_days": self._days(self.last.get(EventName.INTAKE_REVIEWED), now),
                "read_out_days": self._days(self.last.get(EventName.DROP_REVIEWED), now),
                "backup_days": self._days(self.last.get(EventName.BACKUP_MADE), now),
                "assessment_days": self._days(self.last.get(EventName.ASSESSMENT_RECORDED), now),
            },
        )
        yield Look(
            collector="response.incidents",
            facts={
                "drill_days": self._days(self.drilled, now),
                "open": tuple(sorted(self.incidents)),
                "open_days": max((max(0, now - at) // _DAY for at in self.incidents.values()), default=0),
            },
        )

    def _days(self, at: Instant | None, now: Instant) -> int:
        # An entry of the future, from a clock that was wrong, would be young for ever.
        return _NEVER if at is None or at > now + _SLACK else max(0, now - at) // _DAY


def broken_log(error: TamperedError) -> Look:
    """Return what is to be said of a log that doesn't verify, or doesn't continue what was seen before."""
    return Look(
        collector="log.verified",
        facts={"verified": False, "unfounded": 0, "why": error.reason},
    )
