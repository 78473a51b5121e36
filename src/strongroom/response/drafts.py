"""Drafts of reports, as Markdown, filled from facts; what no fact fills is a named blank. Nobody is sent anything.

Every value is narrow text (ids, codes, instants, numbers) or our own sentence, so nothing an attacker wrote can
become markup in a report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from strongroom.core.clock import Instant, format_instant
from strongroom.response.clocks import Deadline
from strongroom.response.exposure import Exposed
from strongroom.response.incident import Incident

MAX_LISTED: Final = 50
"""Holders that a draft lists one by one; the rest is counted."""
_ASKED: Final = (
    "legal name and contact of the reporting organisation",
    "name, telephone and address of the person to ask",
    "whether the duty applies, and who judged so",
    "how the incident came about, as far as is known",
    "harm to people, property or infrastructure, if any",
    "what is planned next, and until when",
)


def blank(what: str) -> str:
    """Return a blank that says what it wants."""
    return f"[blank: {what}]"


def draft_report(incident: Incident, clock: Deadline, exposed: Exposed | None, *, now: Instant) -> str:
    """Return the draft of the report that a clock asks for.

    :param exposed: who could have had which bytes; None where that wasn't asked of the log.
    """
    duty = clock.duty
    parts = [
        f"# Draft report: {duty.instrument}",
        "This is a draft made from recorded facts. It isn't legal advice, and nobody was sent it.",
        _list(
            "Duty",
            [
                f"reference: {duty.reference} ({duty.requirement})",
                f"applies to: {duty.applies}",
                f"to: {duty.to}",
                f"clock was started: {format_instant(clock.began)} (it counts from: {duty.begins.value})",
                f"due: {format_instant(clock.due)}",
                *_earlier(clock),
                f"draft made: {format_instant(now)}",
                *(["owed again as long after each report, until the incident is resolved"] if duty.again else []),
                *([f"the instrument applies from {format_instant(duty.since)}"] if now < duty.since else []),
                f"how well the text is known: {duty.read}",
            ],
        ),
        _list("Who", [blank(_ASKED[0]), blank(_ASKED[1]), *_people(incident)]),
        _list("What happened", _what(incident)),
        _list("Exposure", _exposure(exposed)),
        _list("What was done", _done(incident)),
        _list("Still to be said", [blank(what) for what in _ASKED[2:]]),
    ]
    return "\n\n".join(parts) + "\n"


def _earlier(clock: Deadline) -> Sequence[str]:
    if clock.earliest >= clock.due:
        return []
    so, since = clock.duty.begins.value, blank("since when it was so, by whose judgement")
    return [f"due {format_instant(clock.earliest)}, if that was so ({so}) when the incident was found: {since}"]


def blanks(text: str) -> tuple[str, ...]:
    """Return what a draft still wants, in order."""
    return tuple(part.partition("]")[0] for part in text.split("[blank: ")[1:])


def _list(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {line}" for line in lines)])


def _people(incident: Incident) -> Sequence[str]:
    return [f"{role.value}: {person}" for role, person in sorted(incident.roles.items())]


def _what(incident: Incident) -> Sequence[str]:
    return [
        f"incident: {incident.id}",
        f"about: {incident.subject}",
        f"found: {format_instant(incident.opened)}, by {incident.alerts} alerts of {len(incident.rules)} rules",
        f"rules: {', '.join(incident.rules[:MAX_LISTED])}",
        f"certainty: {incident.certainty.value}; severity: {incident.severity.value}; phase: {incident.phase.value}",
        f"evidence: {_evidence(incident)}",
    ]


def _evidence(incident: Incident) -> str:
    # A report is words of people: of a record of thousands it names the newest, and counts.
    told = [str(digest) for digest in incident.evidence[-MAX_LISTED:]]
    return _named(told, len(incident.evidence)) if told else "not frozen yet"


def _exposure(exposed: Exposed | None) -> Sequence[str]:
    if exposed is None:
        return [blank("who could have had which bytes, and when")]
    share = exposed.thousandths
    totals, lines = exposed.totals, exposed.lines()[:MAX_LISTED]
    more = totals.holdings - len(lines)
    return [
        f"model: {exposed.model}; read from {exposed.entries} entries of the log",
        f"counted out of it: {exposed.let_out_bits} bits ever, {exposed.within_bits} in the time in question",
        "share of the theft bound: " + ("no bound is known" if share is None else f"{share} thousandths, rounded up"),
        f"could be the whole weights: {'yes' if exposed.could_be_whole else 'not by what was counted'}",
        f"people: {_named(exposed.people, totals.people)}",
        f"hosts: {_named(exposed.hosts, totals.hosts)}",
        *lines,
        *([f"and {more} more"] if more > 0 else []),
        *(f"can't be known: {what}" for what in exposed.unknowable),
    ]


def _named(names: Sequence[str], count: int) -> str:
    told = names[:MAX_LISTED]
    more = [f"and {count - len(told)} more"] if count > len(told) else []
    return ", ".join([*told, *more]) or "none"


def _done(incident: Incident) -> Sequence[str]:
    lines = []
    for doing in incident.doings.values():
        told = f"{doing.action.value} of {doing.subject}"
        if doing.failed:
            lines.append(f"{told}: failed ({doing.failed})")
        elif doing.done is None:
            lines.append(f"{told}: proposed")
        else:
            checked = "not verified" if doing.verified is None else f"verified {format_instant(doing.verified)}"
            undone = "" if doing.undone is None else f", undone {format_instant(doing.undone)}"
            lines.append(f"{told}: done {format_instant(doing.done)}, {checked}{undone}")
    more = len(lines) - MAX_LISTED
    return [*([f"{more} before that"] if more > 0 else []), *lines[-MAX_LISTED:]] or ["nothing yet"]
