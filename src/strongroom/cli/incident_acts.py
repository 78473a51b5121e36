"""What people do in an incident: each verb signs one act with the wallet's key, and hands it to the responder."""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from strongroom.cli.incident_desk import act, desk_option, fetch, reader
from strongroom.cli.session import as_wallet, passphrase_option, read_file, write_file
from strongroom.core.clock import SystemClock
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, MalformedError, NotFoundError, UsageError
from strongroom.responder.reading import Shown
from strongroom.response.acts import MAX_WORDS, ActKind, said_of
from strongroom.response.clocks import DUTIES, running
from strongroom.response.drafts import blanks, draft_report
from strongroom.response.entries import Happened, Phase, Role
from strongroom.response.exposure import MAX_EXPOSURE, Exposed, read_answer
from strongroom.response.grading import Severity

F = TypeVar("F", bound=Callable[..., Any])
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_CLOCK: Final = click.Choice(sorted(DUTIES))


def _signing(function: F) -> F:
    """Add what every act needs: the incident, the responder's door, and whose wallet signs."""
    for option in (passphrase_option, as_wallet, desk_option):
        function = option(function)
    return click.argument("name")(function)


def _done(entries: int, what: str) -> None:
    click.echo(f"{what}; {entries} entries")


@click.command("agree")
@_signing
@click.argument("key")
def agree(name: str, key: str, desk: Path, wallet: Path, passphrase_fd: int | None) -> None:
    """Agree to a command of incident NAME: KEY is its key or its action. What lets go takes two people at least."""
    shown = fetch(desk, name)
    found = shown.find(key)
    if found.action is None:
        raise UsageError("that is a question to people", remedy="answer it: strongroom incident resolve-step")
    click.echo(f"{found.action.value} of {found.subject}")
    entries = act(desk, wallet, passphrase_fd, shown.incident.id, ActKind.AGREE, said_of(found))
    _done(entries, "agreed")


@click.command("resolve-step")
@_signing
@click.argument("key")
@click.option("--failed", is_flag=True, help="It couldn't be done.")
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="What the step asks for, e.g. exposed=no.")
def resolve_step(
    name: str, key: str, *, failed: bool, sets: tuple[str, ...], desk: Path, wallet: Path, passphrase_fd: int | None
) -> None:
    """Answer a question of incident NAME: KEY is its key, or some of its words."""
    shown = fetch(desk, name)
    found = shown.find(key)
    if found.action is not None:
        raise UsageError("that is a command", remedy="agree to it: strongroom incident agree")
    click.echo(found.text)
    pairs = [one.partition("=") for one in sets]
    if any(not sign for _name, sign, _value in pairs):
        raise UsageError("--set takes NAME=VALUE")
    facts = said_of(found) | {"outcome": "failed" if failed else "done"}
    values = {variable: value for variable, _sign, value in pairs}
    if len(values) != len(pairs):
        raise UsageError("--set gives each variable one value")
    entries = act(desk, wallet, passphrase_fd, shown.incident.id, ActKind.RESOLVE, facts, found=values)
    _done(entries, "answered")


@click.command("take")
@_signing
@click.argument("role", type=click.Choice([one.value for one in Role]))
def take(name: str, role: str, desk: Path, wallet: Path, passphrase_fd: int | None) -> None:
    """Take ROLE in incident NAME."""
    entries = act(desk, wallet, passphrase_fd, fetch(desk, name).incident.id, ActKind.TAKE, {"role": role})
    _done(entries, f"you are its {role}")


@click.command("move")
@_signing
@click.argument("phase", type=click.Choice([one.value for one in Phase if one is not Phase.CLOSED]))
def move(name: str, phase: str, desk: Path, wallet: Path, passphrase_fd: int | None) -> None:
    """Say that incident NAME is in PHASE."""
    entries = act(desk, wallet, passphrase_fd, fetch(desk, name).incident.id, ActKind.MOVE, {"phase": phase})
    _done(entries, f"it is {phase}")


@click.command("grade")
@_signing
@click.argument("severity", type=click.Choice([one.value for one in Severity]))
@click.option("--cause", required=True, help="Why, as a code: `false-alarm`.")
def grade(name: str, severity: str, cause: str, desk: Path, wallet: Path, passphrase_fd: int | None) -> None:
    """Say how bad incident NAME is. Only people say that it is less bad than it looked."""
    facts = {"severity": severity, "cause": cause}
    entries = act(desk, wallet, passphrase_fd, fetch(desk, name).incident.id, ActKind.GRADE, facts)
    _done(entries, f"its severity is {severity}")


@click.command("note")
@_signing
@click.argument("file", type=_FILE)
def note(name: str, file: Path, desk: Path, wallet: Path, passphrase_fd: int | None) -> None:
    """Enter the text of FILE as a note in incident NAME; the record holds its digest."""
    facts = {"words": _words(file)}
    entries = act(desk, wallet, passphrase_fd, fetch(desk, name).incident.id, ActKind.NOTE, facts)
    _done(entries, "entered")


@click.command("clock")
@_signing
@click.argument("clock_id", metavar="CLOCK", type=_CLOCK)
@click.option("--stop", "cause", metavar="CAUSE", help="It isn't owed, and why, as a code; takes the role `legal`.")
def clock(name: str, clock_id: str, cause: str | None, desk: Path, wallet: Path, passphrase_fd: int | None) -> None:
    """Start CLOCK in incident NAME, now; or stop it without a report."""
    kind, facts = ActKind.START, {"clock": clock_id}
    if cause is not None:
        kind, facts = ActKind.STOP, {"clock": clock_id, "cause": cause}
    entries = act(desk, wallet, passphrase_fd, fetch(desk, name).incident.id, kind, facts)
    _done(entries, f"`{clock_id}` {'runs' if cause is None else 'was stopped'}")


@click.command("exposure")
@_signing
@click.argument("answer", type=_FILE)
@click.option("--bound", type=click.IntRange(min=0), default=0, help="The theft bound in bits, by the egress policy.")
def exposure(name: str, answer: Path, bound: int, desk: Path, wallet: Path, passphrase_fd: int | None) -> None:
    """Enter in incident NAME what the log's ANSWER came to: the output of `strongroom audit exposure MODEL --json`."""
    exposed, data = _exposed(answer, bound)
    for line in exposed.lines():
        click.echo(line)
    shown, facts = fetch(desk, name), exposed.facts(Digest.of(data))
    incident, entries = shown.incident.id, shown.incident.size
    # Run again, because its answer was lost behind its entry: the entry is there.
    if not any(one.happened is Happened.EXPOSURE_READ and one.facts == facts for one in shown.entries):
        entries = act(desk, wallet, passphrase_fd, incident, ActKind.EXPOSE, facts)
    reader(desk).hand_in_answer(incident, data)
    _done(entries, "entered, and kept")


@click.command("report")
@_signing
@click.argument("clock_id", metavar="CLOCK", type=_CLOCK)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the draft here.")
@click.option(
    "--exposure",
    "files",
    type=_FILE,
    multiple=True,
    help="An answer that was entered, if the responder doesn't keep it; one for each such model.",
)
@click.option("--sent", type=_FILE, help="This text was sent: it stops the clock.")
def report(
    name: str,
    clock_id: str,
    out: Path | None,
    files: tuple[Path, ...],
    sent: Path | None,
    desk: Path,
    wallet: Path,
    passphrase_fd: int | None,
) -> None:
    """Draft the report that CLOCK of incident NAME asks for, from what is on record; or enter that it was sent."""
    if (out is None) is (sent is None):
        raise UsageError("give either --out or --sent")
    shown = fetch(desk, name)
    if sent is not None:
        facts = {"clock": clock_id, "words": _words(sent)}
        _done(act(desk, wallet, passphrase_fd, shown.incident.id, ActKind.SENT, facts), "entered as sent")
        return
    due = next((one for one in running(shown.incident) if one.duty.id == clock_id), None)
    if due is None:
        raise NotFoundError(f"`{clock_id}` isn't running", remedy="start it: strongroom incident clock")
    given = dict(_given(shown, file) for file in files)
    answers = given | _kept_answers(desk, shown, without=given)
    text = draft_report(shown.incident, due, answers, now=SystemClock().now())
    # First where it is wanted: else each try at a folder that can't be written would leave a draft in the record.
    write_file(out or Path(), text.encode())
    entries = act(desk, wallet, passphrase_fd, shown.incident.id, ActKind.DRAFT, {"clock": clock_id, "words": text})
    _done(entries, f"drafted; {len(blanks(text))} blanks are left to fill")


@click.command("close")
@_signing
@click.argument("file", type=_FILE)
def close(name: str, file: Path, desk: Path, wallet: Path, passphrase_fd: int | None) -> None:
    """Close incident NAME with what was learned, the text of FILE. Nothing follows."""
    facts = {"words": _words(file)}
    _done(act(desk, wallet, passphrase_fd, fetch(desk, name).incident.id, ActKind.CLOSE, facts), "closed")


def _words(file: Path) -> str:
    try:
        return read_file(file, most=MAX_WORDS).decode()
    except UnicodeDecodeError:
        raise MalformedError(f"`{file.name}` isn't UTF-8 text") from None


def _exposed(file: Path, bound: int) -> tuple[Exposed, bytes]:
    data = read_file(file, most=MAX_EXPOSURE)
    return read_answer(data, theft_bits=bound), data


def _given(shown: Shown, file: Path) -> tuple[str, Exposed]:
    """Return the model of an answer in a file, and what it says by the bound that it was entered with."""
    data = read_file(file, most=MAX_EXPOSURE)
    found = next(((name, one) for name, one in shown.incident.exposures.items() if one.answer == Digest.of(data)), None)
    if found is None:
        raise ConflictError("that isn't an answer that was entered", remedy="strongroom incident exposure")
    return found[0], read_answer(data, theft_bits=found[1].bound)


def _kept_answers(desk: Path, shown: Shown, *, without: Container[str]) -> dict[str, Exposed]:
    """Return the answers that were entered, by models, as far as the responder keeps them."""
    kept: dict[str, Exposed] = {}
    for name, read in shown.incident.exposures.items():
        data = None if name in without else reader(desk).answer(shown.incident.id, read.answer)
        if data is not None:
            kept[name] = read_answer(data, theft_bits=read.bound)
    return kept
