"""Drafts of reports, as Markdown, filled from facts; what no fact fills is a named blank. Nobody is sent anything.

Every value is narrow text (ids, codes, instants, numbers) or our own sentence, so nothing an attacker wrote can
become markup in a report.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from strongroom.core.clock import Instant, format_instant
from strongroom.response.clocks import Deadline
from strongroom.response.exposure import Exposed, Read
from strongroom.response.incident import Incident

MAX_LISTED: Final = 50
"""Holders that a draft lists one by one, those of all models together; the rest is counted."""
_HAD: Final = "who could have had which bytes, and when"
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


def draft_report(incident: Incident, clock: Deadline, answers: Mapping[str, Exposed], *, now: Instant) -> str:
    """Return the draft of the report that a clock asks for.

    :param answers: who could have had which bytes, by models: those answers that the record names and somebody has.
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
        _list("Exposure", _exposure(incident, answers)),
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


def _exposure(incident: Incident, answers: Mapping[str, Exposed]) -> Iterator[str]:
    read = incident.exposures
    known = {name: one for name, one in answers.items() if name in read and one.model == name}
    unread = [name for name in dict.fromkeys((*incident.models, *incident.unread)) if name not in read]
    if not read and not unread:
        yield blank(_HAD)
        return
    if len(read) + len(unread) > 1:
        yield from _together(read, known, len(unread))
    # A report is read by people, and has an end: what many models have in common is one list's room.
    most = max(1, MAX_LISTED // max(1, len(read)))
    for name, one in read.items():
        yield from _of_one(known[name], most) if name in known else _counted(name, one)
    for name in unread[:MAX_LISTED]:
        yield f"model: {name}; not read ({incident.unread.get(name, 'not yet')}): {_had(name)}"
    if len(unread) > MAX_LISTED:
        yield f"and {len(unread) - MAX_LISTED} more models that aren't read"


def _had(model: str) -> str:
    return blank(f"{_HAD}, of {model}")


def _together(read: Mapping[str, Read], known: Mapping[str, Exposed], unread: int) -> Sequence[str]:
    """Say what the answers about several models come to. What isn't read counts in none of it."""
    bits, holders = (sum(getattr(one, name) for one in read.values()) for name in ("bits", "holders"))
    unbound = sum(one.bound <= 0 for one in read.values())
    over = sum(0 < one.bound <= one.bits for one in read.values())
    people = [(one.people, known[name].people if name in known else ()) for name, one in read.items()]
    hosts = [(one.hosts, known[name].hosts if name in known else ()) for name, one in read.items()]
    return [
        f"models: {len(read) + unread}; read of {len(read)}, not of {unread}, which count in nothing that follows",
        f"counted out of all that were read: {bits} bits ever",
        f"as much as the theft bound, or more, was counted out of {over} of them; of {unbound} no bound is known",
        f"people, over all that were read: {_among(people)}",
        f"hosts, over all that were read: {_among(hosts)}",
        f"holdings, over all that were read: {holders}",
    ]


def _among(told: Sequence[tuple[int, Sequence[str]]]) -> str:
    """Count those who are named under several models once; where not all are named, say between what it lies."""
    named = {one for _count, names in told for one in names}
    if all(count == len(names) for count, names in told):
        return str(len(named))
    most = sum(count for count, _names in told)
    return f"{max(len(named), *(count for count, _names in told))} at least, {most} at most"


def _counted(model: str, read: Read) -> Iterator[str]:
    bound = f"the theft bound is {read.bound}" if read.bound > 0 else "no theft bound is known"
    yield f"model: {model}; entered, and the answer isn't kept"
    yield f"counted out of it: {read.bits} bits ever; {bound}"
    yield f"people: {read.people}; hosts: {read.hosts}; holdings: {read.holders}"
    yield _had(model)


def _of_one(exposed: Exposed, most: int) -> Sequence[str]:
    share = exposed.thousandths
    totals, lines = exposed.totals, exposed.lines()[:most]
    more = totals.holdings - len(lines)
    return [
        f"model: {exposed.model}; read from {exposed.entries} entries of the log",
        f"counted out of it: {exposed.let_out_bits} bits ever, {exposed.within_bits} in the time in question",
        "share of the theft bound: " + ("no bound is known" if share is None else f"{share} thousandths, rounded up"),
        f"could be the whole weights: {'yes' if exposed.could_be_whole else 'not by what was counted'}",
        f"people: {_named(exposed.people[:most], totals.people)}",
        f"hosts: {_named(exposed.hosts[:most], totals.hosts)}",
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
