"""An alert on its way into an incident: which subjects it names, and what a drill's is about. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import encode
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.detection.matching import View
from strongroom.responder.acting import Outcome as Acted
from strongroom.responder.deciding import Why
from strongroom.responder.record import event_json
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


def signalled(
    acted: Acted, drill: Digest | None, token: DrillToken | None, book: Playbook | None, *, now: Instant, host: str
) -> Signalled | None:
    """Return what an alert comes to, or None where it is only a hint.

    :param drill: the token's digest, with the token and its playbook; all None for everything real.
    """
    decision, alert = acted.decision, acted.decision.alert
    certainty = Certainty(alert.about.certainty.value)
    if certainty is Certainty.HINT:
        return None
    if token is None and decision.why in _ASKS and certainty is Certainty.SURE:
        # A sensor that may not act by itself, or not any more this hour, doesn't get to by way of a playbook.
        certainty = Certainty.LIKELY
    began = acted.times.opened or acted.times.decided
    subject = subject_of_alert(alert.subject) if token is None else _practised(token, book)
    signal = Alert(
        rule=alert.rule,
        certainty=certainty,
        subject=subject,
        at=now,
        event=Digest.of(encode(event_json(alert.event))),
        micros=max(0, acted.times.decided - began) // 1000,
        drill=drill,
    )
    named = _named_by(alert.event) if token is None else {one.kind.value: str(one) for one in token.subjects}
    # What the first answer stopped is what the playbook is about, where the event itself doesn't say.
    if len(decision.models) == 1:
        named.setdefault("model", f"model:{decision.models[0]}")
    named.setdefault(subject.kind.value, str(subject))
    if token is None:
        named.setdefault("host", f"host:{host}")
    return Signalled(
        alert=signal, playbook=alert.about.playbook, source=decision.source, named=named, token=token, began=began
    )


def _practised(token: DrillToken, book: Playbook | None) -> Subject:
    """Return what a drill's incident is about: the first of its stand-ins that the playbook is about."""
    wanted = () if book is None else tuple(kind for kind in _ORDER if kind.value in book.external)
    return next((one for kind in wanted for one in token.subjects if one.kind is kind), token.subjects[0])


def _named_by(event: View) -> dict[str, str]:
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
