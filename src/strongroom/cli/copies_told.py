"""``strongroom copies ls|check|record``: what the register says, what the log says, and whether both say the same."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from strongroom.audit.reading.growth import Place, read_from
from strongroom.cli.copies_parts import event_lines, own_register, register_option, tell, tell_option, writing_register
from strongroom.cli.output import end, show, table
from strongroom.cli.session import as_wallet, json_option, passphrase_option, session
from strongroom.client.copies import RecordedCopies, record_missing
from strongroom.client.log_view import BrokerLog
from strongroom.client.service import Session
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, SystemClock, format_instant
from strongroom.core.errors import ConflictError, ExitCode
from strongroom.core.printable import printable
from strongroom.intake.copies.register import Copy, Ending, Trouble
from strongroom.release.copies_ledger import RecordedCopy


@click.command("ls")
@click.option("--all", "with_retired", is_flag=True, help="Also the retired ones.")
@click.option(
    "--register",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder of your register; without it, the copies of all registrars as the log has them.",
)
@as_wallet
@json_option
def ls(*, with_retired: bool, register: Path | None, wallet: Path, as_json: bool) -> None:
    """List copies: as your register has them, with places and holders, or as the log has them all."""
    now = SystemClock().now()
    if register is None:
        with session(wallet) as person:
            recorded = _recorded(person).ledger.copies.values()
        _show_recorded([one for one in recorded if with_retired or one.ending is None], now, as_json=as_json)
        return
    folder, _opened = own_register(register, wallet)
    found = folder.read()
    shown = [copy for copy in found.copies.values() if with_retired or copy.ending is None]
    rows = [_row(copy, now) for copy in shown]
    data: Json = {
        "copies": [_data(copy, now) for copy in shown],
        "statements": found.statements,
        "head": None if found.head is None else str(found.head),
    }
    header = ("COPY", "MODEL", "KIND", "WHERE", "HOLDER", "UNTIL", "PROVED", "STANDS")
    show(data, (table(rows, header), f"{found.statements} statements, the last {found.head}"), as_json=as_json)


@click.command("check")
@register_option
@tell_option
@as_wallet
def check(*, register: Path, socket_path: Path | None, wallet: Path) -> None:
    """Print an alert, a JSON object a line, for each copy that is overdue, expired or lost; then the exit code is 1.

    The register is compared with the log first: one that has lost a statement, or has another, is refused.
    """
    folder, opened = own_register(register, wallet)
    before = folder.read().statements
    with session(wallet) as person:
        recorded = _recorded(person)
    # Read again: what was said meanwhile may be in the log that was read, or not.
    found, now = folder.read(), SystemClock().now()
    lacking = recorded.lacking(found, opened.identity.person) - (found.statements - before)
    events = [copy.event(trouble, at=now) for copy, trouble in found.troubles(now)]
    click.echo(event_lines(events).decode("ascii"), nl=False)
    if socket_path is not None:
        tell(events, socket_path)
    if lacking > 0:
        raise ConflictError(
            f"the log lacks {lacking} statements of the register",
            reason="copies-not-recorded",
            remedy="hand them in: strongroom copies record",
        )
    if events:
        end(ExitCode.FAILED)


@click.command("record")
@register_option
@as_wallet
@passphrase_option
@json_option
def record(*, register: Path, wallet: Path, passphrase_fd: int | None, as_json: bool) -> None:
    """Hand in the statements of the register that the log lacks: after an interruption, or of an older register."""
    # Read first: a mistyped folder isn't made.
    own_register(register, wallet)[0].read()
    with writing_register(register, wallet, passphrase_fd) as (writing, person):
        handed_in = record_missing(person.api, writing.lines)
    show({"recorded": handed_in}, f"{handed_in} statements recorded", as_json=as_json)


def _recorded(person: Session) -> RecordedCopies:
    """Return the copies as the whole log has them, each entry of which is proved to be in it."""
    view, made = BrokerLog(person, time.sleep), RecordedCopies()
    head = view.head()
    for index, entry in read_from(view, Place.start(head.origin), head):
        made.take(index, entry)
    return made


def _show_recorded(copies: Sequence[RecordedCopy], now: Instant, *, as_json: bool) -> None:
    data: Json = {"copies": [_recorded_data(one, now) for one in copies]}
    rows = [
        (
            *(one.id, f"{one.model} {one.version}", one.kind.value, one.registrar),
            *(format_instant(one.expires), _when(one.proved), _stands(one, now)),
        )
        for one in copies
    ]
    header = ("COPY", "MODEL", "KIND", "REGISTRAR", "UNTIL", "PROVED", "STANDS")
    show(data, (table(rows, header), "where they are and who holds them says their register"), as_json=as_json)


def _when(at: Instant | None) -> str:
    return "never" if at is None else format_instant(at)


def _stands(copy: Copy | RecordedCopy, now: Instant) -> str:
    ending: Ending | None = copy.ending
    if ending is not None:
        return ending.value
    trouble: Trouble | None = copy.trouble(now)
    return "good" if trouble is None else trouble.value


def _row(copy: Copy, now: Instant) -> tuple[str, ...]:
    terms = copy.terms
    where, holder = printable(f"{terms.host}:{terms.place}"), printable(terms.holder)
    until, stands = format_instant(terms.expires), _stands(copy, now)
    return copy.id, f"{terms.model} {terms.version}", terms.kind.value, where, holder, until, _when(copy.proved), stands


def _data(copy: Copy, now: Instant) -> Json:
    return {
        "copy": copy.id,
        "terms": copy.terms.to_json(),
        "added": format_instant(copy.added),
        "proved": None if copy.proved is None else format_instant(copy.proved),
        "due": format_instant(copy.due),
        "stands": _stands(copy, now),
        "evidence": None if copy.evidence is None else str(copy.evidence),
    }


def _recorded_data(copy: RecordedCopy, now: Instant) -> Json:
    return {
        "copy": copy.id,
        "model": copy.model,
        "version": copy.version,
        "kind": copy.kind.value,
        "place": str(copy.place),
        "registrar": copy.registrar,
        "added": format_instant(copy.added),
        "proved": None if copy.proved is None else format_instant(copy.proved),
        "due": format_instant(copy.due),
        "until": format_instant(copy.expires),
        "stands": _stands(copy, now),
        "statement": str(copy.statement),
    }
