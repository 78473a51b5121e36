"""``strongroom incident``: see what happened and what was done, and answer it. What changes anything is signed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import ClassVar

import click

from strongroom.cli.incident_desk import desk_option, fetch, reader
from strongroom.cli.lazy import LazyGroup
from strongroom.cli.output import show as print_out
from strongroom.cli.output import table
from strongroom.cli.session import json_option
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock, format_instant
from strongroom.core.digest import Digest
from strongroom.responder.desk import words_name
from strongroom.responder.reading import Shown, Waits
from strongroom.response.action_list import ACTIONS
from strongroom.response.clocks import Deadline, running
from strongroom.response.drills import measure, planned_at_once
from strongroom.response.entries import IncidentEntry
from strongroom.response.exports import Form, exported, title, webhook_body
from strongroom.response.exposure import answer_name
from strongroom.response.incident import Incident
from strongroom.response.wiring import playbook_called


class Verbs(LazyGroup):
    """The verbs of incidents."""

    commands_of: ClassVar = {
        "ls": ("incident", "ls", "List incidents: open ones first, the newest first."),
        "show": ("incident", "show", "Show an incident: what waits for whom, what was done, which clocks run."),
        "timeline": ("incident", "timeline", "Print the record, entry by entry."),
        "export": ("incident", "export", "Print an incident in another system's form."),
        "kept": ("incident", "print_kept", "Print evidence, a draft or words that the responder keeps."),
        "exposure": ("incident_acts", "exposure", "Enter who could have had which bytes."),
        "agree": ("incident_acts", "agree", "Agree to an action that waits for people."),
        "resolve-step": ("incident_acts", "resolve_step", "Answer what the playbook asks a person."),
        "take": ("incident_acts", "take", "Take a role: commander, scribe, legal, communications."),
        "move": ("incident_acts", "move", "Say where the incident stands."),
        "grade": ("incident_acts", "grade", "Say how bad it is."),
        "note": ("incident_acts", "note", "Enter a note."),
        "clock": ("incident_acts", "clock", "Start a reporting clock, or say why it isn't owed."),
        "report": ("incident_acts", "report", "Draft a report, or enter that it was sent."),
        "close": ("incident_acts", "close", "Close it, with what was learned."),
    }


@click.group("incident", cls=Verbs)
def incident() -> None:
    """See what happened and what was done about it, and answer what a playbook asks."""


@click.command("ls")
@desk_option
@json_option
def ls(desk: Path, *, as_json: bool) -> None:
    """List incidents: open ones first, the newest first."""
    listed, broken = reader(desk).incidents()
    rows = [
        (
            row.incident,
            "DRILL" if row.drill else row.severity.value,
            row.phase.value,
            row.subject,
            row.rule,
            str(row.alerts),
        )
        for row in listed
    ]
    text = [table(rows, ("INCIDENT", "SEVERITY", "PHASE", "ABOUT", "FIRST RULE", "ALERTS")) if rows else "none"]
    text += [f"{name}: its record can't be read ({reason})" for name, reason in broken.items()]
    print_out(
        {"incidents": [row.to_json() for row in listed], "broken": dict[str, Json](broken)}, text, as_json=as_json
    )


@click.command("show")
@click.argument("name")
@desk_option
@json_option
def show(name: str, desk: Path, *, as_json: bool) -> None:
    """Show an incident: what waits for whom, what was done, and which clocks run."""
    shown = fetch(desk, name)
    data = {**webhook_body(shown.incident, now=SystemClock().now()), "waiting": list[Json](_waiting(shown))}
    if shown.token is not None:
        planned = planned_at_once(playbook_called(shown.token.playbook))
        data["measured"] = measure(shown.entries, planned).to_json()
    print_out(data, _lines(shown), as_json=as_json)


@click.command("timeline")
@click.argument("name")
@desk_option
@json_option
def timeline(name: str, desk: Path, *, as_json: bool) -> None:
    """Print the record, entry by entry; the chain was checked before anything is printed."""
    shown = fetch(desk, name)
    entries: list[Json] = [json.loads(entry.to_bytes()) for entry in shown.entries]
    print_out({"entries": entries}, (_entry(entry) for entry in shown.entries), as_json=as_json)


@click.command("export")
@click.argument("name")
@desk_option
@click.option("--format", "form", type=click.Choice([one.value for one in Form]), required=True, help="Whose form.")
def export(name: str, desk: Path, form: str) -> None:
    """Print an incident in another system's form, JSON. `stix` names nobody."""
    shown = fetch(desk, name)
    made = exported(Form(form), shown.incident, shown.entries, now=SystemClock().now())
    click.echo(json.dumps(made, indent=2, ensure_ascii=False))


@click.command("kept")
@click.argument("name")
@click.argument("what")
@desk_option
def print_kept(name: str, what: str, desk: Path) -> None:
    """Print what the responder keeps: `evidence-KEY.json`, `draft-KEY.json`, `exposure-….json`, a digest of words."""
    wanted = words_name(Digest.parse(what)) if what.startswith("sha256:") else what
    asked = reader(desk)
    data = asked.kept(asked.find(name), wanted)
    # Escaped: what is kept may hold what an attacker wrote, and a terminal acts on some of that.
    text = data.decode("utf-8", "backslashreplace")
    click.echo("".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text))


def _clock(one: Deadline) -> Iterator[str]:
    left = one.left(SystemClock().now())
    yield f"clock      {one.duty.id}: due {one.told(_here())}, {left // 3600} hours left; to {one.duty.to}"
    if one.earliest < one.due:
        yield f"           due {format_instant(one.earliest)} if it began when the incident was found"


def _exposure(incident: Incident) -> Iterator[str]:
    for model, read in incident.exposures.items():
        yield f"exposed    {model}: {read.bits} of {read.bound or '?'} bits; {read.people} people, {read.hosts} hosts"
        yield f"answer     {answer_name(read.answer)}, if it is kept: strongroom incident kept"
    for model, cause in incident.unread.items():
        yield f"not read   {model}'s exposure: {cause}"


def _lines(shown: Shown) -> Iterator[str]:
    incident = shown.incident
    yield title(incident)
    yield f"incident   {incident.id}"
    yield f"stands     {incident.phase.value}, {incident.certainty.value}; {incident.alerts} alerts"
    yield f"opened     {format_instant(incident.opened)} by {', '.join(incident.rules[:8])}"
    for role, person in sorted(incident.roles.items()):
        yield f"{role.value:<10} {person}"
    for digest in incident.evidence:
        yield f"evidence   {digest}"
    if shown.held:
        yield "on hold    nobody may delete its folder"
    yield from _exposure(incident)
    for one in running(incident):
        yield from _clock(one)
    for doing in incident.doings.values():
        yield f"{doing.state:<9}  {doing.action.value} of {doing.subject}"
    for row in _waiting(shown):
        yield f"{row['waits']:<9}  {str(row['key'])[:12]}  {row['what']}"
    for name, run in shown.runs.items():
        yield f"playbook   {name}: {run.status.value}"
    if shown.token is not None:
        measured = measure(shown.entries, planned_at_once(playbook_called(shown.token.playbook)))
        yield from _measured(measured.to_json())


def _here() -> tzinfo:
    return datetime.now().astimezone().tzinfo or UTC


def _measured(told: dict[str, Json]) -> Iterator[str]:
    def micros(name: str) -> str:
        value = told[name]
        return "never" if not isinstance(value, int) else f"{value / 1000:.1f} ms"

    acknowledged = told["acknowledge_seconds"]
    yield f"detected   after {micros('detect_micros')}"
    yield f"taken      {'by nobody yet' if acknowledged is None else f'after {acknowledged} s'}"
    yield f"contained  after {micros('contain_micros')}"
    for name in ("missed", "late"):
        found = told[name]
        yield f"{name:<10} {', '.join(map(str, found)) if isinstance(found, list) and found else 'nothing'}"


def _waiting(shown: Shown) -> list[dict[str, Json]]:
    rows: list[dict[str, Json]] = []
    for one in shown.waits:
        asked = one.pending
        if asked.action is None:
            rows.append({"waits": one.how.value, "key": asked.key, "what": asked.text})
            continue
        agreed = f" ({ACTIONS[asked.action].authority.value}; agreed: {', '.join(sorted(asked.agreed)) or 'nobody'})"
        what = f"{asked.action.value} of {asked.subject}" + (agreed if one.how is Waits.PEOPLE else "")
        rows.append({"waits": one.how.value, "key": asked.key, "what": what})
    return rows


def _entry(entry: IncidentEntry) -> str:
    facts = "  ".join(f"{name}={value}" for name, value in entry.facts.items() if value != "")
    return f"{entry.seq:>4}  {format_instant(entry.at)}  {entry.happened.value:<17} {entry.by}  {facts}"
