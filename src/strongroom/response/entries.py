"""Entries of an incident's record: append-only, chained by digests, each of a closed kind with closed facts.

Facts are narrow: codes, ids, digests, instants and whole numbers. What a person wrote (a note, a lesson, a report)
stands elsewhere and is named by its digest, so that nothing an attacker wrote can act on whoever reads the record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from strongroom.core.canonical import MAX_INTEGER, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import incident_name, model_id
from strongroom.response.actions import ActionName
from strongroom.response.grading import Certainty, Severity
from strongroom.response.subjects import Subject

MAX_ENTRY: Final = 8192
Fact = str | int


class Function(StrEnum):
    """What an entry or a phase serves: categories of NIST's CSF 2.0, as SP 800-61r3 orders them for incidents."""

    DETECT_ANALYSE = "DE.AE"
    MANAGE = "RS.MA"
    ANALYSE = "RS.AN"
    COMMUNICATE = "RS.CO"
    MITIGATE = "RS.MI"
    RECOVER = "RC.RP"
    IMPROVE = "ID.IM"


class Phase(StrEnum):
    """Where an incident stands. SP 800-61r3 knows no fixed order of work: phases may also go back."""

    DETECTED = "detected"
    DECLARED = "declared"
    CONTAINED = "contained"
    ANALYSED = "analysed"
    RECOVERING = "recovering"
    REVIEWED = "reviewed"
    CLOSED = "closed"

    @property
    def function(self) -> Function:
        """The category that the phase belongs to."""
        return _FUNCTIONS[self]


_FUNCTIONS: Final = {
    Phase.DETECTED: Function.DETECT_ANALYSE,
    Phase.DECLARED: Function.MANAGE,
    Phase.CONTAINED: Function.MITIGATE,
    Phase.ANALYSED: Function.ANALYSE,
    Phase.RECOVERING: Function.RECOVER,
    Phase.REVIEWED: Function.IMPROVE,
    Phase.CLOSED: Function.IMPROVE,
}


class Role(StrEnum):
    """What a person is in an incident."""

    COMMANDER = "commander"
    SCRIBE = "scribe"
    LEGAL = "legal"
    COMMUNICATIONS = "communications"


class Happened(StrEnum):
    """Every kind of entry."""

    OPENED = "opened"
    ALERT_ADDED = "alert-added"
    EVIDENCE_FROZEN = "evidence-frozen"
    EXPOSURE_READ = "exposure-read"
    """The log was asked who could have had which bytes of a model."""
    EXPOSURE_UNREAD = "exposure-unread"
    """The responder doesn't read that of a model that the incident is about, and why."""
    ACTION_PROPOSED = "action-proposed"
    ACTION_TRIED = "action-tried"
    """A dry run: what would fall."""
    ACTION_DONE = "action-done"
    ACTION_FAILED = "action-failed"
    ACTION_VERIFIED = "action-verified"
    ACTION_UNDONE = "action-undone"
    NOTE_ADDED = "note-added"
    SEVERITY_CHANGED = "severity-changed"
    PHASE_CHANGED = "phase-changed"
    ROLE_TAKEN = "role-taken"
    CLOCK_STARTED = "clock-started"
    CLOCK_STOPPED = "clock-stopped"
    REPORT_DRAFTED = "report-drafted"
    REPORT_SENT = "report-sent"
    CLOSED = "closed"

    @property
    def function(self) -> Function:
        """The category of CSF 2.0 that it serves."""
        return SERVES[self]


_H: Final = Happened
SERVES: Final[Mapping[Happened, Function]] = MappingProxyType(
    {
        _H.OPENED: Function.DETECT_ANALYSE,
        _H.ALERT_ADDED: Function.DETECT_ANALYSE,
        _H.EVIDENCE_FROZEN: Function.ANALYSE,
        _H.EXPOSURE_READ: Function.ANALYSE,
        _H.EXPOSURE_UNREAD: Function.ANALYSE,
        _H.ACTION_PROPOSED: Function.MITIGATE,
        _H.ACTION_TRIED: Function.MITIGATE,
        _H.ACTION_DONE: Function.MITIGATE,
        _H.ACTION_FAILED: Function.MITIGATE,
        _H.ACTION_VERIFIED: Function.MITIGATE,
        _H.ACTION_UNDONE: Function.RECOVER,
        _H.NOTE_ADDED: Function.ANALYSE,
        _H.SEVERITY_CHANGED: Function.MANAGE,
        _H.PHASE_CHANGED: Function.MANAGE,
        _H.ROLE_TAKEN: Function.MANAGE,
        _H.CLOCK_STARTED: Function.COMMUNICATE,
        _H.CLOCK_STOPPED: Function.COMMUNICATE,
        _H.REPORT_DRAFTED: Function.COMMUNICATE,
        _H.REPORT_SENT: Function.COMMUNICATE,
        _H.CLOSED: Function.IMPROVE,
    }
)
"""The category of each kind of entry."""

_CODE: Final = re.compile(r"[a-z0-9](?:[a-z0-9._:-]{0,94}[a-z0-9])?")
_BY: Final = re.compile(r"(?:machine|person):[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


class Kind(StrEnum):
    """The form of one fact."""

    CODE = "code"
    DIGEST = "digest"
    DIGEST_OR_NONE = "digest, or nothing"
    SUBJECT = "subject"
    MODEL = "model"
    MODEL_OR_NONE = "model, or nothing"
    INTEGER = "integer"
    ACTION = "action"
    CERTAINTY = "certainty"
    SEVERITY = "severity"
    PHASE = "phase"
    ROLE = "role"


def _code(text: str) -> None:
    if not _CODE.fullmatch(text):
        raise MalformedError("a code is at most 96 characters of a-z, 0-9 and separators")


def _maybe_digest(text: str) -> None:
    if text:
        Digest.parse(text)


def _maybe_model(text: str) -> None:
    if text:
        model_id(text)


_TEXTS: Final[Mapping[Kind, Callable[[str], object]]] = {
    Kind.CODE: _code,
    Kind.DIGEST: Digest.parse,
    Kind.DIGEST_OR_NONE: _maybe_digest,
    Kind.SUBJECT: Subject.parse,
    Kind.MODEL: model_id,
    Kind.MODEL_OR_NONE: _maybe_model,
    Kind.ACTION: ActionName,
    Kind.CERTAINTY: Certainty,
    Kind.SEVERITY: Severity,
    Kind.PHASE: Phase,
    Kind.ROLE: Role,
}
_ACTION: Final = {"action": Kind.ACTION, "subject": Kind.SUBJECT, "key": Kind.CODE}
_ALERT: Final = {
    "rule": Kind.CODE,
    "certainty": Kind.CERTAINTY,
    "event": Kind.DIGEST,
    "model": Kind.MODEL_OR_NONE,
    "micros": Kind.INTEGER,
}
FACTS: Final[Mapping[Happened, Mapping[str, Kind]]] = MappingProxyType(
    {
        _H.OPENED: {**_ALERT, "subject": Kind.SUBJECT, "severity": Kind.SEVERITY, "drill": Kind.DIGEST_OR_NONE},
        _H.ALERT_ADDED: _ALERT,
        _H.EVIDENCE_FROZEN: {"evidence": Kind.DIGEST, "entries": Kind.INTEGER},
        _H.EXPOSURE_READ: {
            "model": Kind.MODEL,
            "exposure": Kind.DIGEST,
            "bits": Kind.INTEGER,
            "bound": Kind.INTEGER,
            "people": Kind.INTEGER,
            "hosts": Kind.INTEGER,
            "holders": Kind.INTEGER,
        },
        _H.EXPOSURE_UNREAD: {"model": Kind.MODEL, "cause": Kind.CODE},
        _H.ACTION_PROPOSED: _ACTION,
        _H.ACTION_TRIED: {**_ACTION, "falls": Kind.INTEGER},
        _H.ACTION_DONE: {**_ACTION, "micros": Kind.INTEGER},
        _H.ACTION_FAILED: {**_ACTION, "cause": Kind.CODE},
        _H.ACTION_VERIFIED: {**_ACTION, "answer": Kind.CODE, "micros": Kind.INTEGER},
        _H.ACTION_UNDONE: {**_ACTION, "undone": Kind.CODE, "people": Kind.INTEGER},
        _H.NOTE_ADDED: {"note": Kind.DIGEST},
        _H.SEVERITY_CHANGED: {"severity": Kind.SEVERITY, "cause": Kind.CODE},
        _H.PHASE_CHANGED: {"phase": Kind.PHASE},
        _H.ROLE_TAKEN: {"role": Kind.ROLE},
        _H.CLOCK_STARTED: {"clock": Kind.CODE},
        _H.CLOCK_STOPPED: {"clock": Kind.CODE, "cause": Kind.CODE},
        _H.REPORT_DRAFTED: {"clock": Kind.CODE, "report": Kind.DIGEST},
        _H.REPORT_SENT: {"clock": Kind.CODE, "report": Kind.DIGEST},
        _H.CLOSED: {"lessons": Kind.DIGEST},
    }
)
"""The facts of each kind of entry; ``micros`` are microseconds since the event, as the process measured them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentEntry:
    """One entry of one incident's record. ``by`` is ``machine:`` or ``person:`` and an id."""

    incident: str
    seq: int
    """0, 1, 2 and so on."""
    previous: Digest | None
    """The digest of the entry before; None for the first."""
    at: Instant
    happened: Happened
    by: str
    facts: Mapping[str, Fact]
    _read: bytes = field(default=b"", init=False, repr=False, compare=False)
    """The bytes that it was read from: a record of thousands is checked by their digests, and shown, as it was read."""

    def to_bytes(self) -> bytes:
        """Return the canonical bytes.

        :raises MalformedError: facts of another form than the kind of entry has.
        """
        if self._read:
            return self._read
        data = encode(
            {
                "v": 1,
                "incident": self.incident,
                "seq": self.seq,
                "previous": None if self.previous is None else str(self.previous),
                "at": format_instant(self.at),
                "happened": self.happened.value,
                "by": self.by,
                "facts": dict(self.facts),
            }
        )
        # What couldn't be read must never be written: the record is all that is left of an incident.
        IncidentEntry.parse(data)
        return data

    @property
    def digest(self) -> Digest:
        """The digest of the canonical bytes."""
        return Digest.of(self.to_bytes())

    @property
    def person(self) -> str:
        """The person who acted; empty for a machine."""
        return self.by.removeprefix("person:") if self.by.startswith("person:") else ""

    @classmethod
    def parse(cls, data: bytes) -> IncidentEntry:
        """Read canonical bytes.

        :raises MalformedError: another form, kind or facts.
        """
        with Fields(decode(data, max_bytes=MAX_ENTRY), "entry") as fields:
            fields.constant("v", 1)
            happened = fields.parsed("happened", Happened)
            with fields.child("facts") as facts:
                read = {name: _fact(facts, name, kind) for name, kind in FACTS[happened].items()}
            entry = cls(
                incident=fields.parsed("incident", incident_name),
                seq=fields.integer("seq"),
                previous=_previous(fields),
                at=fields.instant("at"),
                happened=happened,
                by=fields.parsed("by", _form(_BY)),
                facts=MappingProxyType(read),
            )
        # They are the canonical ones, and nothing of the entry can be changed. `replace` doesn't take them along.
        object.__setattr__(entry, "_read", bytes(data))
        return entry

    def text(self, name: str) -> str:
        """Return a fact that is text."""
        value = self.facts[name]
        if not isinstance(value, str):
            raise MalformedError(f"`{name}` isn't text")
        return value

    def integer(self, name: str) -> int:
        """Return a fact that is a number."""
        value = self.facts[name]
        if not isinstance(value, int):
            raise MalformedError(f"`{name}` isn't a number")
        return value


def _previous(fields: Fields) -> Digest | None:
    # Null is written out: a member that may be left out would be a second spelling of the same entry.
    value = fields.value("previous")
    if value is None:
        return None
    if not isinstance(value, str):
        raise MalformedError(f"`{fields.where}.previous` must be a digest or null")
    return Digest.parse(value)


def _fact(fields: Fields, name: str, kind: Kind) -> Fact:
    if kind is Kind.INTEGER:
        return fields.integer(name, most=MAX_INTEGER)
    text = fields.text(name, max_length=160)
    try:
        _TEXTS[kind](text)
    except (MalformedError, ValueError):
        raise MalformedError(f"`{fields.where}.{name}` isn't a {kind.value}") from None
    return text


def _form(pattern: re.Pattern[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise MalformedError("the text isn't of its form")
        return text

    return check
