"""The form of each act in an incident: which fields, what may be chosen, and the facts that come of them. Pure.

One description serves the page that asks, and the reading of what comes back: a field that the page doesn't have is
refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from strongroom.console.errors import FormError
from strongroom.console.forms import need_fields
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant
from strongroom.responder.reading import Shown
from strongroom.response.acts import FACTS, ActKind, said_of
from strongroom.response.cacao import Playbook
from strongroom.response.clocks import DUTIES, running
from strongroom.response.drafts import draft_report
from strongroom.response.entries import Role
from strongroom.response.exposure import Exposed
from strongroom.response.grading import Severity
from strongroom.response.incident import Incident
from strongroom.response.run import MAX_VALUE, Outcome, Pending
from strongroom.response.subjects import SubjectKind

TITLES: Final[Mapping[ActKind, str]] = MappingProxyType(
    {
        ActKind.AGREE: "Agree to an action",
        ActKind.RESOLVE: "Answer what the playbook asks",
        ActKind.TAKE: "Take a role",
        ActKind.MOVE: "Say where it stands",
        ActKind.GRADE: "Say how bad it is",
        ActKind.NOTE: "Enter a note",
        ActKind.EXPOSE: "Enter who could have had the bytes",
        ActKind.START: "Start a reporting clock",
        ActKind.STOP: "Stop a clock without a report",
        ActKind.DRAFT: "Draft a report",
        ActKind.SENT: "Enter that a report was sent",
        ActKind.CLOSE: "Close the incident",
    }
)
"""Acts, and what their pages are called."""
MAX_CAUSE: Final = 96
_LABELS: Final = {
    "outcome": "How it went",
    "role": "Role",
    "phase": "Phase",
    "severity": "Severity",
    "clock": "Clock",
    "model": "Model",
}
_WORDS: Final = {
    ActKind.NOTE: "Note",
    ActKind.SENT: "The text that was sent",
    ActKind.CLOSE: "What was learned",
}
_SETS: Final = "set-"
_NONE: Final[Mapping[str, Exposed]] = MappingProxyType({})
_MADE: Final = frozenset({"action", "subject", "asked"}) | FACTS[ActKind.EXPOSE].keys()


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a form. ``options``: what is chosen from; ``given``: its value was fixed by the way here."""

    name: str
    label: str
    options: tuple[str, ...] = ()
    given: str = ""
    value: str = ""
    long: bool = False
    most: int = MAX_VALUE

    def to_json(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "name": self.name,
            "label": self.label,
            "options": list[Json](self.options),
            "given": self.given,
            "value": self.value,
            "long": self.long,
            "most": self.most,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ActForm:
    """The form of one act: what it is about, in words, and its fields."""

    kind: ActKind
    about: str
    fields: tuple[Field, ...]


def form_of(
    kind: ActKind, shown: Shown, books: Mapping[str, Playbook], query: Mapping[str, str], *, models: Collection[str]
) -> ActForm:
    """Return the form of an act in an incident: a field for each of its facts, or for what they are made of.

    :param query: what the way here fixed: ``key`` of what waits, or ``clock``.
    :param models: the deployment's models.
    :raises FormError: what it is about isn't there.
    """
    if kind is ActKind.EXPOSE:
        return ActForm(kind=kind, about="", fields=(_model(shown.incident, models),))
    # A draft's words are made here, of the record; what is said of what waits, of that.
    names = [name for name in FACTS[kind] if (kind, name) != (ActKind.DRAFT, "words") and name not in _MADE]
    fields = [_field(name, kind, shown, query) for name in names]
    about = ""
    if "key" in names:
        asked = _asked(shown, query, question=kind is ActKind.RESOLVE)
        about = asked.text if asked.action is None else f"{asked.action} of {asked.subject}"
        fields += [Field(name=_SETS + one, label=one) for one in _sets(shown, books, asked)]
    return ActForm(kind=kind, about=about, fields=tuple(fields))


def _model(incident: Incident, models: Collection[str]) -> Field:
    """Return the field of a model whose exposure is read: one that the incident names, or any where it names none."""
    subjects = () if incident.shadow else (incident.subject, *(one.subject for one in incident.doings.values()))
    named = {one.name for one in subjects if one.kind is SubjectKind.MODEL} & {*models}
    offered = tuple(sorted(named or ({*models} if subjects else ())))
    if not offered:
        raise FormError("this incident is about no model of the deployment")
    return Field(name="model", label=_LABELS["model"], options=offered)


def _field(name: str, kind: ActKind, shown: Shown, query: Mapping[str, str]) -> Field:
    incident = shown.incident
    if name == "key":
        return Field(name=name, label="Its key", given=_asked(shown, query, question=kind is ActKind.RESOLVE).key)
    if name == "words":
        return Field(name=name, label=_WORDS[kind], long=True)
    if name == "cause":
        return Field(name=name, label="Why, as a code: false-alarm", most=MAX_CAUSE)
    clocks = {one.duty.id for one in running(incident)}
    options: Mapping[str, Iterable[str]] = {
        "outcome": (Outcome.DONE, Outcome.FAILED),
        "role": Role,
        "phase": sorted(incident.onward),
        "severity": Severity,
        "clock": sorted(set(DUTIES) - clocks if kind is ActKind.START else clocks),
    }
    offered = tuple(str(one) for one in options[name])
    if not offered:
        raise FormError(f"there is no {name} to choose as the incident stands")
    wanted = query.get(name, "") if name == "clock" else ""
    return Field(name=name, label=_LABELS[name], options=offered, given=wanted if wanted in offered else "")


def read_act(
    form: ActForm, sent: Mapping[str, str], shown: Shown, *, now: Instant, exposed: Mapping[str, Exposed] = _NONE
) -> tuple[dict[str, str | int], dict[str, str]]:
    """Return the facts of an act, and what an answer sets, from what was sent; for an exposure, of which model.

    :param exposed: what a report says of the exposure, by models: answers that were entered, where somebody has them.
    :raises FormError: other fields, or a value that wasn't among those to choose from.
    """
    need_fields(sent, [field.name for field in form.fields])
    values: dict[str, str] = {}
    for field in form.fields:
        value = field.given or sent[field.name]
        if (field.given and sent[field.name] != field.given) or (field.options and value not in field.options):
            raise FormError(f"`{field.name}` is chosen from what the page offers")
        # Browsers end lines with CR LF; the bytes that are signed are those that the person saw.
        values[field.name] = value.replace("\r\n", "\n") if field.long else value.strip()
    found = {name.removeprefix(_SETS): value for name, value in values.items() if name.startswith(_SETS) and value}
    facts: dict[str, str | int] = {name: value for name, value in values.items() if not name.startswith(_SETS)}
    if "key" in facts:
        facts |= said_of(_asked(shown, values, question=form.kind is ActKind.RESOLVE))
    if form.kind is ActKind.DRAFT:
        facts["words"] = _report(shown, values["clock"], exposed, now)
    if not facts.get("words", "x"):
        raise FormError("nothing was written")
    return facts, found


def _report(shown: Shown, clock: str, exposed: Mapping[str, Exposed], now: Instant) -> str:
    due = next(one for one in running(shown.incident) if one.duty.id == clock)
    return draft_report(shown.incident, due, exposed, now=now)


def _asked(shown: Shown, query: Mapping[str, str], *, question: bool) -> Pending:
    key = query.get("key", "")
    found = next((one.pending for one in shown.waits if one.pending.key == key), None)
    if found is None or (found.action is None) is not question:
        raise FormError("nothing of this key waits for anybody", remedy="load the incident again")
    return found


def _sets(shown: Shown, books: Mapping[str, Playbook], asked: Pending) -> tuple[str, ...]:
    """Return what an answer to a question may set, by the step that asks."""
    for run in shown.runs.values():
        for thread in run.threads:
            if thread.id == asked.thread and asked in run.pending and thread.playbook in books:
                step = books[thread.playbook].steps.get(thread.step)
                return () if step is None else step.out
    return ()
