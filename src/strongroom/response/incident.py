"""An incident: what its record says, folded. The record may only grow, and only in ways that make sense.

One cause makes many alerts. They belong to one incident if they are about the same subject and come within a window
of its last alert; so a flood of alerts makes one incident, and the same again next month makes a new one. A drill's
alerts never join a real incident, nor real ones a drill's: a drill can't hide anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, TamperedError
from strongroom.response.actions import LEAST_QUORUM, ActionName, key_of
from strongroom.response.entries import Fact, Happened, IncidentEntry, Phase, Role
from strongroom.response.exposure import Read
from strongroom.response.grading import Certainty, Severity
from strongroom.response.subjects import Subject, SubjectKind

WINDOW: Final = 86400
"""Seconds after the last alert in which another one about the same subject belongs to the same incident."""
MAX_ENTRIES: Final = 20_000
MAX_EXPOSED: Final = 32
"""Models whose exposure people enter in one incident: drafts and pages tell of each."""
_ONWARD: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.DETECTED: frozenset({Phase.DECLARED, Phase.CONTAINED}),
    Phase.DECLARED: frozenset({Phase.CONTAINED, Phase.ANALYSED}),
    Phase.CONTAINED: frozenset({Phase.DECLARED, Phase.ANALYSED}),
    # What turns out to be nothing is reviewed without anything to recover from.
    Phase.ANALYSED: frozenset({Phase.CONTAINED, Phase.RECOVERING, Phase.REVIEWED}),
    # Recovery that shows that the thief is still there goes back to containment.
    Phase.RECOVERING: frozenset({Phase.CONTAINED, Phase.ANALYSED, Phase.REVIEWED}),
    Phase.REVIEWED: frozenset({Phase.ANALYSED, Phase.RECOVERING}),
    Phase.CLOSED: frozenset(),
}


_SURER: Final = (Certainty.HINT, Certainty.LIKELY, Certainty.SURE)


class RecordError(ConflictError):
    """An entry doesn't fit the record so far."""

    code = "response-record"


class BrokenRecordError(TamperedError):
    """An incident's entries aren't one unbroken chain."""

    code = "response-record-broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert as it comes in: its rule, how sure it is, about what, and which event caused it.

    ``drill`` is the digest of a drill token that was verified; None for everything real.
    """

    rule: str
    certainty: Certainty
    subject: Subject
    at: Instant
    event: Digest
    model: str = ""
    """The model that the event names; empty for none, and for a drill's stand-in."""
    micros: int = 0
    """From the event to the alert."""
    drill: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """One action in an incident, as far as it came."""

    action: ActionName
    subject: Subject
    proposed: Instant
    falls: int | None = None
    done: Instant | None = None
    failed: str = ""
    verified: Instant | None = None
    undone: Instant | None = None

    @property
    def state(self) -> str:
        """How far it came, in a word."""
        said = {"failed": self.failed, "undone": self.undone, "verified": self.verified, "done": self.done}
        return next((name for name, value in said.items() if value), "proposed")


@dataclass(slots=True, kw_only=True)
class Incident:
    """What a record says, after ``size`` entries. Nobody changes one but :func:`fold`, while it makes it."""

    id: str
    subject: Subject
    opened: Instant
    severity: Severity
    certainty: Certainty
    """The surest of its alerts."""
    drill: Digest | None
    size: int
    last: Digest
    last_alert: Instant
    phase: Phase = Phase.DETECTED
    alerted: dict[str, int] = field(default_factory=dict)
    """Rules in the order of their first alerts, and how often each alerted."""
    named: list[str] = field(default_factory=list)
    """Models that alerts named, each once."""
    evidence: list[Digest] = field(default_factory=list)
    exposures: dict[str, Read] = field(default_factory=dict)
    """What the log's last answer came to, by models."""
    unread: dict[str, str] = field(default_factory=dict)
    """Models whose exposure the responder doesn't read, and why; what was read of one since is in ``exposures``."""
    doings: dict[str, Doing] = field(default_factory=dict)
    """Actions by their keys."""
    notes: list[Digest] = field(default_factory=list)
    roles: dict[Role, str] = field(default_factory=dict)
    clocks: dict[str, Instant] = field(default_factory=dict)
    """Running clocks and when each started."""
    stopped: dict[str, Instant] = field(default_factory=dict)
    """Clocks that aren't owed any more, or not owed after all, and when each stopped."""
    begun: dict[str, Instant] = field(default_factory=dict)
    """When each clock began whose report wasn't sent since, also where it was stopped."""
    closed: Instant | None = None
    drafts: dict[str, Digest] = field(default_factory=dict)
    """The newest draft for each clock."""
    sent: list[tuple[str, Digest, Instant]] = field(default_factory=list)
    lessons: Digest | None = None

    @property
    def rules(self) -> tuple[str, ...]:
        """Rules that alerted, each once, in the order of their first alerts."""
        return tuple(self.alerted)

    @property
    def alerts(self) -> int:
        """How many alerts there were."""
        return sum(self.alerted.values())

    @property
    def models(self) -> tuple[str, ...]:
        """The models that it is about: itself, else those that alerts name, or something was to be done about."""
        # Whatever else is done, one about a model stays about that. Proposals name no stand-in but in a drill.
        if self.subject.kind is SubjectKind.MODEL:
            return (self.subject.name,)
        done = (one.subject.name for one in self.doings.values() if one.subject.kind is SubjectKind.MODEL)
        return tuple(dict.fromkeys((*self.named, *done)))

    @property
    def shadow(self) -> bool:
        """Whether it is a drill's."""
        return self.drill is not None

    @property
    def is_open(self) -> bool:
        """Whether it isn't closed."""
        return self.phase is not Phase.CLOSED

    @property
    def onward(self) -> frozenset[Phase]:
        """The phases that may follow, but for its end."""
        return _ONWARD[self.phase]

    @property
    def outstanding(self) -> tuple[str, ...]:
        """Keys of actions that were done and not verified or undone, or proposed and neither done nor failed."""
        return tuple(
            key for key, one in self.doings.items() if not one.failed and one.verified is None and one.undone is None
        )

    def next(self, happened: Happened, by: str, at: Instant, facts: Mapping[str, Fact]) -> IncidentEntry:
        """Return the next entry of the record; :meth:`apply` says whether it fits."""
        return IncidentEntry(
            incident=self.id, seq=self.size, previous=self.last, at=at, happened=happened, by=by, facts=facts
        )

    def apply(self, entry: IncidentEntry) -> Incident:
        """Return the incident after one more entry.

        :raises BrokenRecordError: the entry isn't the next one of this record.
        :raises RecordError: it makes no sense here: nothing follows a closed record, nothing is verified that wasn't
            done, nothing is closed that is unfinished.
        """
        return fold([entry], before=self)


def open_incident(alert: Alert, severity: Severity, *, by: str, at: Instant) -> IncidentEntry:
    """Return the first entry of a new incident. The same alert makes the same incident, however often it is told."""
    return IncidentEntry(
        incident=incident_id(alert),
        seq=0,
        previous=None,
        at=at,
        happened=Happened.OPENED,
        by=by,
        facts={
            **_alert_facts(alert),
            "subject": str(alert.subject),
            "severity": severity.value,
            "drill": "" if alert.drill is None else str(alert.drill),
        },
    )


def add_alert(incident: Incident, alert: Alert, *, by: str, at: Instant) -> IncidentEntry:
    """Return the entry that adds an alert.

    :raises RecordError: the alert belongs to no such incident.
    """
    if not belongs(incident, alert):
        raise RecordError(f"the alert isn't about `{incident.subject}`, is too late, or only one of both is a drill's")
    return incident.next(Happened.ALERT_ADDED, by, at, _alert_facts(alert))


def incident_id(alert: Alert) -> str:
    """Return the id of the incident that an alert opens."""
    drill = "" if alert.drill is None else str(alert.drill)
    return f"inc-{key_of(str(alert.subject), alert.rule, str(alert.event), alert.at, drill)}"


def belongs(incident: Incident, alert: Alert) -> bool:
    """Return whether an alert is one more of an open incident."""
    # A clock that went back must not tear an incident apart, so only being too late counts.
    return (
        incident.is_open
        and incident.drill == alert.drill
        and incident.subject == alert.subject
        and alert.at - incident.last_alert <= WINDOW
    )


def file_under(alert: Alert, incidents: Iterable[Incident]) -> Incident | None:
    """Return the open incident that an alert belongs to: the newest one; None if it opens a new one."""
    found = [one for one in incidents if belongs(one, alert)]
    return max(found, key=lambda one: (one.opened, one.id), default=None)


def fold(entries: Iterable[IncidentEntry], *, before: Incident | None = None) -> Incident:
    """Return what a whole record says, in a time that grows with its entries and not with their square.

    :param before: what the record said before these entries, which stays as it is; None: they are the whole record.
    :raises BrokenRecordError: no entries, or not one chain from the first.
    :raises RecordError: an entry that makes no sense where it stands.
    """
    incident = None if before is None else _copied(before)
    for entry in entries:
        if incident is None:
            incident = _opened(entry)
            continue
        _check_next(incident, entry)
        _HOW[entry.happened](incident, entry)
        incident.size, incident.last = incident.size + 1, entry.digest
    if incident is None:
        raise BrokenRecordError("the record has no entries")
    return incident


def _check_next(incident: Incident, entry: IncidentEntry) -> None:
    if (entry.incident, entry.seq, entry.previous) != (incident.id, incident.size, incident.last):
        raise BrokenRecordError(f"the entry isn't number {incident.size} of `{incident.id}`, or follows another one")
    if not incident.is_open:
        raise RecordError(f"`{incident.id}` is closed: what is new is a new incident")
    if incident.size >= MAX_ENTRIES:
        raise RecordError(f"`{incident.id}` has {MAX_ENTRIES} entries: close it and go on in a new incident")


def _copied(incident: Incident) -> Incident:
    # Whatever can be added to, each by its own.
    held = ((one.name, getattr(incident, one.name)) for one in fields(incident))
    copies: dict[str, Any] = {name: copy(value) for name, value in held if isinstance(value, dict | list)}
    return replace(incident, **copies)


# --- one function for each kind of entry ------------------------------------------------------------------------------


def _alert_facts(alert: Alert) -> dict[str, Fact]:
    return {
        "rule": alert.rule,
        "certainty": alert.certainty.value,
        "event": str(alert.event),
        "model": alert.model,
        "micros": alert.micros,
    }


def _opened(entry: IncidentEntry) -> Incident:
    if entry.happened is not Happened.OPENED or entry.seq != 0 or entry.previous is not None:
        raise BrokenRecordError("the record doesn't begin with its opening")
    drill = entry.text("drill")
    subject = Subject.parse(entry.text("subject"))
    if subject.shadow != bool(drill):
        raise RecordError("a drill's incident is about a stand-in, and nobody else's is")
    return Incident(
        id=entry.incident,
        subject=subject,
        opened=entry.at,
        severity=Severity(entry.text("severity")),
        certainty=Certainty(entry.text("certainty")),
        drill=Digest.parse(drill) if drill else None,
        size=1,
        last=entry.digest,
        last_alert=entry.at,
        alerted={entry.text("rule"): 1},
        named=[entry.text("model")] if entry.text("model") else [],
    )


def _again(incident: Incident, _entry: IncidentEntry) -> None:
    raise RecordError(f"`{incident.id}` was opened already")


def _alerted(incident: Incident, entry: IncidentEntry) -> None:
    rule, told = entry.text("rule"), Certainty(entry.text("certainty"))
    incident.alerted[rule] = incident.alerted.get(rule, 0) + 1
    if entry.text("model") and entry.text("model") not in incident.named:
        incident.named.append(entry.text("model"))
    incident.certainty = max(incident.certainty, told, key=_SURER.index)
    incident.last_alert = max(incident.last_alert, entry.at)


def _froze(incident: Incident, entry: IncidentEntry) -> None:
    incident.evidence.append(Digest.parse(entry.text("evidence")))


def _exposed(incident: Incident, entry: IncidentEntry) -> None:
    model = entry.text("model")
    if entry.person and model not in incident.exposures and len(incident.exposures) >= MAX_EXPOSED:
        # What the responder reads itself finds room, whatever people entered.
        raise RecordError(f"`{incident.id}` holds the exposure of {len(incident.exposures)} models already")
    incident.unread.pop(model, None)
    incident.exposures[model] = Read(
        answer=Digest.parse(entry.text("exposure")),
        bits=entry.integer("bits"),
        bound=entry.integer("bound"),
        people=entry.integer("people"),
        hosts=entry.integer("hosts"),
        holders=entry.integer("holders"),
    )


def _unread(incident: Incident, entry: IncidentEntry) -> None:
    incident.unread[entry.text("model")] = entry.text("cause")


def _found(incident: Incident, entry: IncidentEntry) -> tuple[str, Doing]:
    key = entry.text("key")
    doing = incident.doings.get(key)
    if doing is None:
        raise RecordError(f"`{incident.id}` has no action of this key: one is proposed before it is anything else")
    if (doing.action, str(doing.subject)) != (entry.text("action"), entry.text("subject")):
        raise RecordError("the action of this key was proposed as another one")
    return key, doing


def _proposed(incident: Incident, entry: IncidentEntry) -> None:
    key, subject = entry.text("key"), Subject.parse(entry.text("subject"))
    if key in incident.doings:
        raise RecordError("an action of this key was proposed already")
    if subject.shadow != incident.shadow:
        # The one line between a drill and the real thing, held in the record as well as at the port.
        raise RecordError("a drill acts on stand-ins only, and nothing else acts on them")
    incident.doings[key] = Doing(action=ActionName(entry.text("action")), subject=subject, proposed=entry.at)


def _tried(incident: Incident, entry: IncidentEntry) -> None:
    key, doing = _found(incident, entry)
    incident.doings[key] = replace(doing, falls=entry.integer("falls"))


def _did(incident: Incident, entry: IncidentEntry) -> None:
    key, doing = _found(incident, entry)
    if doing.done is not None:
        raise RecordError("the action of this key was done already")
    # It may be done after it counted as failed: an answer that came too late is still what happened.
    incident.doings[key] = replace(doing, done=entry.at, failed="")


def _failed(incident: Incident, entry: IncidentEntry) -> None:
    key, doing = _found(incident, entry)
    if doing.verified is not None:
        raise RecordError("the action of this key was verified already")
    incident.doings[key] = replace(doing, failed=entry.text("cause"))


def _verified(incident: Incident, entry: IncidentEntry) -> None:
    key, doing = _found(incident, entry)
    if doing.done is None or doing.failed:
        raise RecordError("only what was done can be verified")
    incident.doings[key] = replace(doing, verified=entry.at)


def _undid(incident: Incident, entry: IncidentEntry) -> None:
    key, doing = _found(incident, entry)
    if doing.done is None or doing.undone is not None:
        raise RecordError("only what was done, and wasn't undone, can be undone")
    if entry.integer("people") < LEAST_QUORUM:
        raise RecordError(f"undoing takes {LEAST_QUORUM} people at least")
    incident.doings[key] = replace(doing, undone=entry.at)


def _noted(incident: Incident, entry: IncidentEntry) -> None:
    incident.notes.append(Digest.parse(entry.text("note")))


def _graded(incident: Incident, entry: IncidentEntry) -> None:
    severity = Severity(entry.text("severity"))
    if severity.rank < incident.severity.rank and not entry.person:
        raise RecordError("a machine may raise an incident's severity; only a person lowers it")
    incident.severity = severity


def _moved(incident: Incident, entry: IncidentEntry) -> None:
    phase = Phase(entry.text("phase"))
    if phase not in _ONWARD[incident.phase]:
        raise RecordError(f"an incident that is `{incident.phase}` doesn't become `{phase}`")
    incident.phase = phase


def _took(incident: Incident, entry: IncidentEntry) -> None:
    if not entry.person:
        raise RecordError("roles are people's")
    incident.roles[Role(entry.text("role"))] = entry.person


def _started(incident: Incident, entry: IncidentEntry) -> None:
    clock = entry.text("clock")
    if incident.shadow:
        raise RecordError("a drill starts no clock: nobody is owed a report of it")
    if clock in incident.clocks:
        raise RecordError(f"clock `{clock}` was started already: it can't be set back")
    # One that people found not to be owed goes on as if it had never stopped, where they find otherwise: what is due
    # doesn't move by it. After a report the next may be owed, from then on.
    incident.clocks[clock] = incident.begun.setdefault(clock, entry.at)


def _stopped(incident: Incident, entry: IncidentEntry) -> None:
    clock = entry.text("clock")
    if clock not in incident.clocks:
        raise RecordError(f"clock `{clock}` isn't running")
    if incident.roles.get(Role.LEGAL) != entry.person or not entry.person:
        raise RecordError("a clock is stopped by the report that it asks for, or by whoever took the role `legal`")
    _stop(incident, clock, entry.at)


def _stop(incident: Incident, clock: str, at: Instant) -> None:
    del incident.clocks[clock]
    incident.stopped[clock] = at


def _drafted(incident: Incident, entry: IncidentEntry) -> None:
    incident.drafts[entry.text("clock")] = Digest.parse(entry.text("report"))


def _sent(incident: Incident, entry: IncidentEntry) -> None:
    clock = entry.text("clock")
    if not entry.person:
        raise RecordError("a report is sent by a person: a machine only drafts it")
    incident.sent.append((clock, Digest.parse(entry.text("report")), entry.at))
    incident.begun.pop(clock, None)
    if clock in incident.clocks:
        _stop(incident, clock, entry.at)


def _closed(incident: Incident, entry: IncidentEntry) -> None:
    if not entry.person:
        raise RecordError("an incident is closed by a person")
    lacking = {
        "its evidence was never frozen": not incident.evidence,
        "a clock is running": bool(incident.clocks),
        "an action is unfinished": bool(incident.outstanding),
        "it has no commander": Role.COMMANDER not in incident.roles,
        "it wasn't reviewed": incident.phase is not Phase.REVIEWED,
    }
    why = next((why for why, lacks in lacking.items() if lacks), None)
    if why is not None:
        raise RecordError(f"`{incident.id}` can't be closed: {why}")
    incident.phase, incident.lessons = Phase.CLOSED, Digest.parse(entry.text("lessons"))
    incident.closed = entry.at


_HOW: Final[Mapping[Happened, Callable[[Incident, IncidentEntry], None]]] = {
    Happened.OPENED: _again,
    Happened.ALERT_ADDED: _alerted,
    Happened.EVIDENCE_FROZEN: _froze,
    Happened.EXPOSURE_READ: _exposed,
    Happened.EXPOSURE_UNREAD: _unread,
    Happened.ACTION_PROPOSED: _proposed,
    Happened.ACTION_TRIED: _tried,
    Happened.ACTION_DONE: _did,
    Happened.ACTION_FAILED: _failed,
    Happened.ACTION_VERIFIED: _verified,
    Happened.ACTION_UNDONE: _undid,
    Happened.NOTE_ADDED: _noted,
    Happened.SEVERITY_CHANGED: _graded,
    Happened.PHASE_CHANGED: _moved,
    Happened.ROLE_TAKEN: _took,
    Happened.CLOCK_STARTED: _started,
    Happened.CLOCK_STOPPED: _stopped,
    Happened.REPORT_DRAFTED: _drafted,
    Happened.REPORT_SENT: _sent,
    Happened.CLOSED: _closed,
}
