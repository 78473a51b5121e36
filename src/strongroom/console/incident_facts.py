"""An incident as facts for its page and that page's JSON twin: times written out, nothing that isn't from its record.

Everything here is narrow text of the record's own forms, but for what a playbook asks people: that, and whatever people
wrote, the templates make visible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.responder.reading import Shown, Wait, Waits
from strongroom.response.action_list import ACTIONS
from strongroom.response.actions import LEAST_QUORUM, ActionName, Authority
from strongroom.response.cacao import Manual, Playbook, Step, StepKind
from strongroom.response.clocks import Deadline, running
from strongroom.response.entries import IncidentEntry
from strongroom.response.exports import title
from strongroom.response.exposure import answer_name
from strongroom.response.incident import Doing, Incident
from strongroom.response.run import Doing as Threads
from strongroom.response.run import Run
from strongroom.response.subjects import Subject

MAX_NAMED: Final = 12
"""Rules, notes, reports, files and pieces of evidence that a page names one by one; the rest is counted."""
MAX_ROWS: Final = 25
"""Actions, the newest, and things that wait, the oldest; the rest is counted. The record has all of them."""
MAX_RUNS: Final = 3
"""Runs, the newest, whose steps a page shows."""
_FORMS: Final = frozenset({StepKind.ACTION, StepKind.PLAYBOOK})
_ENDED: Final = frozenset({Threads.DONE, Threads.BROKEN})


def told(
    shown: Shown, books: Mapping[str, Playbook], *, person: str, here: Callable[[Subject], bool], now: Instant
) -> dict[str, Json]:
    """Return what a page says of an incident, but for its entries.

    :param books: the playbooks that come with the program, by their ids.
    :param person: who looks.
    :param here: whether what is signed about a subject is signed in this console.
    """
    incident, kept = shown.incident, [*_kept(shown.incident)]
    return {
        "incident": incident.id,
        "title": title(incident),
        "subject": {"kind": incident.subject.kind.value, "name": incident.subject.name, "text": str(incident.subject)},
        "severity": incident.severity.value,
        "phase": incident.phase.value,
        "function": incident.phase.function.value,
        "certainty": incident.certainty.value,
        "open": incident.is_open,
        "drill": None if incident.drill is None else str(incident.drill),
        "playbook": None if shown.token is None else shown.token.playbook,
        "opened": format_instant(incident.opened),
        "last_alert": format_instant(incident.last_alert),
        "alerts": incident.alerts,
        "rules": list[Json](incident.rules[:MAX_NAMED]),
        "more_rules": max(0, len(incident.rules) - MAX_NAMED),
        "roles": {role.value: name for role, name in sorted(incident.roles.items())},
        "held": shown.held,
        "exposures": [{"model": name, **read.to_json()} for name, read in incident.exposures.items()],
        "unread": [[name, cause] for name, cause in [*incident.unread.items()][:MAX_NAMED]],
        "more_unread": max(0, len(incident.unread) - MAX_NAMED),
        "evidence": [str(one) for one in incident.evidence[-MAX_NAMED:]],
        "more_evidence": max(0, len(incident.evidence) - MAX_NAMED),
        "kept": list[Json](kept[-MAX_NAMED:]),
        "more_kept": max(0, len(kept) - MAX_NAMED),
        "notes": [str(one) for one in incident.notes[-MAX_NAMED:]],
        "more_notes": max(0, len(incident.notes) - MAX_NAMED),
        "lessons": None if incident.lessons is None else str(incident.lessons),
        "clocks": [_clock(one, incident, now) for one in running(incident)],
        "reports": [
            {"clock": clock, "report": str(report), "at": format_instant(at)}
            for clock, report, at in incident.sent[-MAX_NAMED:]
        ],
        "more_reports": max(0, len(incident.sent) - MAX_NAMED),
        "waits": [_wait(one, person, here) for one in shown.waits[:MAX_ROWS]],
        "more_waits": max(0, len(shown.waits) - MAX_ROWS),
        "actions": [_doing(key, one) for key, one in [*incident.doings.items()][-MAX_ROWS:]],
        "more_actions": max(0, len(incident.doings) - MAX_ROWS),
        "runs": [_run(name, run, books) for name, run in [*shown.runs.items()][-MAX_RUNS:]],
        "more_runs": max(0, len(shown.runs) - MAX_RUNS),
        "record": {"entries": incident.size, "last": str(incident.last)},
    }


def entry(one: IncidentEntry) -> dict[str, Json]:
    """Return one entry of a record."""
    return {
        "seq": one.seq,
        "at": format_instant(one.at),
        "happened": one.happened.value,
        "function": one.happened.function.value,
        "by": one.by,
        "facts": {name: value for name, value in one.facts.items() if value != ""},
        "digest": str(one.digest),
    }


def _kept(incident: Incident) -> Iterator[str]:
    """Return names under which the responder keeps files of this incident: answers, evidence, drafts of requests."""
    for read in incident.exposures.values():
        yield answer_name(read.answer)
    if incident.evidence:
        yield f"evidence-first-{incident.id.removeprefix('inc-')}.json"
    for key, one in incident.doings.items():
        if one.done is None:
            continue
        if one.action is ActionName.SNAPSHOT_EVIDENCE:
            yield f"evidence-{key}.json"
        elif one.action in {ActionName.PREPARE_ROTATION, ActionName.PREPARE_SHREDDING}:
            yield f"draft-{key}.json"


def _clock(one: Deadline, incident: Incident, now: Instant) -> dict[str, Json]:
    duty, draft = one.duty, incident.drafts.get(one.duty.id)
    return {
        "clock": duty.id,
        "instrument": duty.instrument,
        "reference": duty.reference,
        "requirement": duty.requirement,
        "applies": duty.applies,
        "to": duty.to,
        "begins": duty.begins.value,
        "began": format_instant(one.began),
        "due": format_instant(one.due),
        "over": one.left(now) < 0,
        "again": duty.again,
        "since": format_instant(duty.since) if now < duty.since else None,
        "draft": None if draft is None else str(draft),
    }


def _wait(one: Wait, person: str, here: Callable[[Subject], bool]) -> dict[str, Json]:
    asked = one.pending
    row: dict[str, Json] = {
        "how": one.how.value,
        "key": asked.key,
        "text": asked.text,
        "since": format_instant(asked.since),
        "deadline": None if asked.deadline is None else format_instant(asked.deadline),
    }
    if asked.action is None or asked.subject is None:
        return row | {"action": None}
    row |= {"subject": str(asked.subject), "agreed": list[Json](sorted(asked.agreed)), **_effect(asked.action)}
    if one.how is Waits.PEOPLE:
        row["mine"] = person in one.run.terms.eligible and person not in asked.agreed and here(asked.subject)
        quorum = ACTIONS[asked.action].authority is Authority.QUORUM
        row["needed"] = max(LEAST_QUORUM, one.run.terms.quorum) if quorum else 1
    return row


def _effect(name: ActionName) -> dict[str, Json]:
    action = ACTIONS[name]
    return {
        "action": name.value,
        "authority": action.authority.value,
        "wanted": f"{action.probe.value} {action.wanted}",
        "inverse": None if action.inverse is None else action.inverse.value,
        "within_ms": action.within_ms,
    }


def _doing(key: str, one: Doing) -> dict[str, Json]:
    times = {"proposed": one.proposed, "done": one.done, "verified": one.verified, "undone": one.undone}
    return {
        "key": key,
        "subject": str(one.subject),
        "state": one.state,
        "failed": one.failed,
        "falls": one.falls,
        **_effect(one.action),
        **{name: None if at is None else format_instant(at) for name, at in times.items()},
    }


def _run(name: str, run: Run, books: Mapping[str, Playbook]) -> dict[str, Json]:
    known = [books[book] for book, digest in run.books.items() if book in books and books[book].digest == digest]
    return {
        "run": name,
        "status": run.status.value,
        "certainty": run.terms.certainty.value,
        "quorum": run.terms.quorum,
        "books": [{"playbook": book.name, "digest": str(book.digest)} for book in known],
        # A run may follow a text that isn't the shipped one any more: its steps are then nobody's to name.
        "unknown": len(run.books) - len(known),
        "steps": [row for book in known for step in book.in_order for row in _step(run, step)],
        "failures": len(run.failures),
    }


def _step(run: Run, step: Step) -> Iterator[Json]:
    if step.kind not in _FORMS:
        return
    answers = [one for one in run.answered if one.step == step.id]
    here = any(one.step == step.id and one.doing not in _ENDED for one in run.threads)
    row: dict[str, Json] = {
        "step": step.name,
        "asks": isinstance(step.command, Manual),
        "state": "under way" if here else answers[-1].outcome.value if answers else "not reached",
        "times": len(answers),
        "by": answers[-1].by if answers else "",
        "at": format_instant(answers[-1].at) if answers else None,
    }
    yield row
