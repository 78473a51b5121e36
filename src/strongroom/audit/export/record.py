"""One entry as it is exported: what every format is made from, and how grave each event is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final, Protocol

from strongroom.audit.entries import Entry
from strongroom.audit.facts import SCHEMA, Kind, StoredFact
from strongroom.audit.merkle import leaf_hash
from strongroom.audit.reading.query import Outcome, outcome_of
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.events import EventName


class Severity(IntEnum):
    """How grave an event is; the numbers are OCSF's ``severity_id``."""

    INFORMATIONAL = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5


_GRAVE: Final[Mapping[EventName, Severity]] = MappingProxyType(
    {
        EventName.KEEPER_LOCKED: Severity.MEDIUM,
        EventName.RESPONDER_SILENT: Severity.HIGH,
        EventName.INCIDENT_RECORDED: Severity.HIGH,
        EventName.PRECAUTION_TAKEN: Severity.MEDIUM,
        EventName.PRECAUTION_LIFTED: Severity.MEDIUM,
        EventName.ROOT_ROTATED: Severity.MEDIUM,
        EventName.ROOT_MOVED: Severity.MEDIUM,
        EventName.ESCROW_ADOPTED: Severity.HIGH,
        EventName.ESCROW_OPENED: Severity.CRITICAL,
        EventName.MODEL_DESTROYED: Severity.CRITICAL,
        EventName.DEPLOYMENT_RESTORED: Severity.CRITICAL,
        EventName.PERSON_SUSPENDED: Severity.MEDIUM,
        EventName.PLATFORM_REVOKED: Severity.MEDIUM,
        EventName.REQUEST_DENIED: Severity.LOW,
        EventName.GRANT_REVOKED: Severity.LOW,
        EventName.CHANGE_STOPPED: Severity.MEDIUM,
        EventName.REFUSED: Severity.MEDIUM,
        EventName.REFUSALS_SUMMED: Severity.HIGH,
        EventName.LEASE_ENDED: Severity.LOW,
        EventName.EGRESS_WARNED: Severity.MEDIUM,
        EventName.MODEL_FROZEN: Severity.HIGH,
        EventName.EXPORTED: Severity.HIGH,
        EventName.AUTHENTICATOR_REGRESSED: Severity.CRITICAL,
        EventName.EGRESS_BREACHED: Severity.CRITICAL,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One entry on its way out."""

    origin: str
    index: int
    event: EventName
    at: Instant
    by: str
    seq: int
    facts: Mapping[str, StoredFact]
    leaf: str
    """The entry's leaf hash, in hex: with a proof, it ties the copy to the log."""

    @property
    def outcome(self) -> Outcome:
        """What came of the act."""
        return outcome_of(self.event)

    @property
    def severity(self) -> Severity:
        """How grave it is."""
        return _GRAVE.get(self.event, Severity.INFORMATIONAL)

    def text(self, name: str) -> str | None:
        """Return a fact that is text, if the event has it."""
        value = self.facts.get(name)
        return value if isinstance(value, str) else None

    def to_json(self) -> dict[str, Json]:
        """Return the record as a JSON object."""
        return {
            "index": self.index,
            "event": self.event.value,
            "at": format_instant(self.at),
            "by": self.by,
            "seq": self.seq,
            "outcome": self.outcome.value,
            "facts": {name: list(value) if isinstance(value, tuple) else value for name, value in self.facts.items()},
            "leaf": self.leaf,
        }


def record_of(origin: str, index: int, data: bytes, entry: Entry) -> Record:
    """Return what is exported of an entry; ``data`` are its bytes in the log."""
    return Record(
        origin=origin,
        index=index,
        event=entry.event,
        at=entry.at,
        by=entry.by.value,
        seq=entry.seq,
        facts=entry.facts,
        leaf=leaf_hash(data).hex(),
    )


class Format(Protocol):
    """One way to write records down."""

    @property
    def opening(self) -> bytes:
        """What an empty file begins with."""
        ...

    def lines(self, records: tuple[Record, ...]) -> bytes:
        """Return what is appended to a file: whole lines."""
        ...

    def body(self, records: tuple[Record, ...]) -> Body | None:
        """Return what is sent to a receiver over HTTP; None where the format isn't one that is sent."""
        ...


@dataclass(frozen=True, slots=True)
class Body:
    """The body of one HTTP request."""

    content_type: str
    data: bytes


def people_in(record: Record) -> tuple[str, ...]:
    """Return the people that a record names, each as ``role=person``."""
    told: list[str] = []
    for name, kind in SCHEMA[record.event].items():
        value = record.facts[name]
        if kind in {Kind.PERSON, Kind.PERSONS}:
            told += [f"{name}={one}" for one in (value if isinstance(value, tuple) else (value,))]
    return tuple(told)


def json_bytes(value: Json) -> bytes:
    """Return JSON on one line, names in order: the same event is the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
