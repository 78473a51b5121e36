"""An alert on its way into an incident: which subjects it names, and what a drill's is about. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.responder.acting import Outcome as Acted
from strongroom.responder.deciding import Why
from strongroom.responder.drilling import DRILL
from strongroom.responder.record import MAX_LINE, Line, event_json
from strongroom.response.cacao import Playbook
from strongroom.response.drills import DrillToken
from strongroom.response.grading import Certainty
from strongroom.response.incident import Alert
from strongroom.response.subjects import EVERYTHING, Subject, SubjectKind, subject_of_alert

_ORDER: Final = (SubjectKind.MODEL, SubjectKind.PERSON, SubjectKind.HOST)
_FIELDS: Final[Mapping[SubjectKind, tuple[str, ...]]] = {
    SubjectKind.MODEL: ("model",),
    SubjectKind.PERSON: ("person", "requester"),
    SubjectKind.HOST: ("host",),
}

MAX_FROZEN: Final = 4096
_ASKS: Final = frozenset({Why.NOT_TRUSTED, Why.LIMITED})
"""Sure alerts that people decide on, all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signalled:
    """An alert on its way into an incident. ``named``: kind of subject -> the subject that the event names."""

    alert: Alert
    playbook: str
    source: str
    named: Mapping[str, str]
    token: DrillToken | None
    began: int
    line: Line | None
    """The alert in the responder's record; None: it is one of a flood, or the record couldn't be written."""
    again: bool = False
    """Whether it may be in an incident already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """What the record says of an alert, too."""

    rule: str
    certainty: Certainty
    playbook: str
    subject: str
    source: str
    why: Why
    models: tuple[str, ...]
    event: Mapping[str, Json]
    at: Instant
    line: Line | None
    began: int = 0
    micros: int = 0
    again: bool = False


def signalled(
    acted: Acted, drill: Digest | None, token: DrillToken | None, book: Playbook | None, *, now: Instant, host: str
) -> Signalled | None:
    """Return what an alert comes to, or None where it is only a hint.

    :param drill: the token's digest, with the token and its playbook; all None for everything real.
    """
    decision, alert = acted.decision, acted.decision.alert
    began = acted.times.opened or acted.times.decided
    heard = _Heard(
        rule=alert.rule,
        certainty=Certainty(alert.about.certainty.value),
        playbook=alert.about.playbook,
        subject=alert.subject,
        source=decision.source,
        why=decision.why,
        models=decision.models,
        event=event_json(alert.event),
        at=now,
        line=acted.line,
        began=began,
        micros=max(0, acted.times.decided - began) // 1000,
    )
    return _signalled(heard, drill, token, book, host)


def signalled_again(line: Line, text: bytes, *, host: str) -> Signalled | None:
    """Return what a line of the responder's record comes to, of which it isn't known that it is in an incident.

    None where it is no alert, only a hint, or a drill's: a drill whose token is gone is held anew.

    :raises MalformedError: not a line of the record.
    """
    facts = Fields(Fields(decode(text, max_bytes=MAX_LINE), "record").value("facts"), "record")
    if not facts.optional("certainty"):
        return None
    event, subject = facts.value("event"), facts.value("subject")
    heard = _Heard(
        rule=facts.text("rule"),
        certainty=facts.parsed("certainty", Certainty),
        playbook=facts.text("playbook"),
        # As the event's own words, it is whatever somebody wrote: no form of it may lose the alert.
        subject=subject if isinstance(subject, str) else "",
        source=facts.text("source"),
        why=facts.parsed("why", Why),
        models=facts.texts("freezes", most=MAX_FROZEN),
        event=event if isinstance(event, dict) else {},
        at=facts.instant("at"),
        line=line,
        again=True,
    )
    return None if heard.source == DRILL else _signalled(heard, None, None, None, host)


def _signalled(
    heard: _Heard, drill: Digest | None, token: DrillToken | None, book: Playbook | None, host: str
) -> Signalled | None:
    certainty = heard.certainty
    if certainty is Certainty.HINT:
        return None
    if token is None and heard.why in _ASKS and certainty is Certainty.SURE:
        # A sensor that may not act by itself, or not any more this hour, doesn't get to by way of a playbook.
        certainty = Certainty.LIKELY
    subject = subject_of_alert(heard.subject) if token is None else _practised(token, book)
    named = _named_by(heard.event) if token is None else {one.kind.value: str(one) for one in token.subjects}
    # What the first answer stopped is what the playbook is about, where the event itself doesn't say.
    if len(heard.models) == 1:
        named.setdefault("model", f"model:{heard.models[0]}")
    signal = Alert(
        rule=heard.rule,
        certainty=certainty,
        subject=subject,
        at=heard.at,
        # The line holds the event, and there is no other of this digest: so an alert is known again after a kill.
        event=Digest.of(encode(dict(heard.event))) if heard.line is None else heard.line.digest,
        model=named.get("model", "").removeprefix("model:") if token is None else "",
        micros=heard.micros,
        drill=drill,
    )
    named.setdefault(subject.kind.value, str(subject))
    if token is None:
        named.setdefault("host", f"host:{host}")
    return Signalled(
        alert=signal,
        playbook=heard.playbook,
        source=heard.source,
        named=named,
        token=token,
        began=heard.began,
        line=heard.line,
        again=heard.again,
    )


def _practised(token: DrillToken, book: Playbook | None) -> Subject:
    """Return what a drill's incident is about: the first of its stand-ins that the playbook is about."""
    wanted = () if book is None else tuple(kind for kind in _ORDER if kind.value in book.external)
    return next((one for kind in wanted for one in token.subjects if one.kind is kind), token.subjects[0])


def _named_by(event: Mapping[str, Json]) -> dict[str, str]:
    """Return the subjects that an event names, by their kinds. What isn't a name, or is a drill's, is left out."""
    found: dict[str, str] = {}
    for kind, fields in _FIELDS.items():
        for field in fields:
            try:
                subject = Subject.parse(f"{kind.value}:{event.get(field)}")
            except MalformedError:
                continue
            if not subject.shadow:
                found.setdefault(kind.value, str(subject))
    return found


def surer(one: Certainty, other: Certainty) -> bool:
    """Tell whether one certainty is more than another."""
    return one is not other and (one is Certainty.SURE or other is Certainty.HINT)


def model_of(signalled: Signalled) -> Subject:
    """Return the model that an alert is about; the whole deployment where it names none."""
    named = signalled.named.get(SubjectKind.MODEL.value)
    return EVERYTHING if named is None else Subject.parse(named)
