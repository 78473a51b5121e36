"""``strongroom people vet|erase|sign|hand-in``: statements that officers, reviewers and approvers sign in a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

from strongroom.cli.files import require_new
from strongroom.cli.output import show
from strongroom.cli.session import (
    as_wallet,
    json_option,
    open_wallet,
    passphrase_option,
    read_file,
    session,
    write_file,
    yes_option,
)
from strongroom.client.statements import ReadStatement, draft, read_statement
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, parse_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import UsageError
from strongroom.core.ids import person_id
from strongroom.personnel.lifecycle import Employment
from strongroom.personnel.statements import MAX_STATEMENT, Erasure, Objection
from strongroom.personnel.vetting import (
    MAX_TIER,
    RESCREEN_SECONDS,
    SALT_BYTES,
    Nda,
    Training,
    VettingRecord,
)
from strongroom.release.statements import StatementKind

_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@click.command("vet")
@click.argument("person")
@click.argument("file", type=_FILE)
@click.option("--tier", type=click.IntRange(0, MAX_TIER), required=True, help="Vetting tier, 0 to 5.")
@click.option("--until", required=True, metavar="INSTANT", help="When it lapses, e.g. 2027-01-01T00:00:00Z.")
@click.option("--scheme", default="internal", show_default=True, help="By whose rules, e.g. internal, bpss, sc.")
@click.option("--screened-on", metavar="INSTANT", help="When it was adjudicated; now, if left out.")
@click.option("--rescreen-by", metavar="INSTANT", help="When the next screening is due; 180 days after, or --until.")
@click.option("--course", "courses", multiple=True, metavar="NAME=INSTANT", help="Training, and when it lapses.")
@click.option("--nda", metavar="VERSION=INSTANT", help="The agreement that was signed, and when.")
@click.option("--conflict", help="An opaque reference, while a conflict of interest is open.")
@click.option("--case", default="", help="An opaque reference to the case.")
@click.option(
    "--employment",
    type=click.Choice([one.value for one in Employment]),
    default=Employment.ACTIVE.value,
    show_default=True,
    help="Where the person stands with the organisation.",
)
@as_wallet
@json_option
def vet(
    *,
    person: str,
    file: Path,
    tier: int,
    until: str,
    scheme: str,
    screened_on: str | None,
    rescreen_by: str | None,
    courses: tuple[str, ...],
    nda: str | None,
    conflict: str | None,
    case: str,
    employment: str,
    wallet: Path,
    as_json: bool,
) -> None:
    """Draft PERSON's next vetting record in FILE, for two officers to sign. Outcomes go into it, never findings."""
    subject = person_id(person)
    with session(wallet) as officer:
        trust = officer.refresh()
        known, _caps = officer.api.people()
        now = officer.clock.now()
    before = next((one.serial for one in known if one.person == subject), None)
    if before is None:
        raise UsageError(f"the roster in force has nobody called `{subject}`")
    expires, screened = parse_instant(until), parse_instant(screened_on) if screened_on else now
    record = VettingRecord(
        genesis=trust.genesis.digest,
        person=subject,
        serial=before + 1,
        scheme=scheme,
        tier=tier,
        adjudicated_on=screened,
        expires_on=expires,
        rescreen_due=parse_instant(rescreen_by) if rescreen_by else min(expires, screened + RESCREEN_SECONDS),
        employment=Employment(employment),
        training=tuple(Training(course=name, expires=at) for name, at in map(_dated, courses)),
        nda=None if nda is None else Nda(version=_dated(nda)[0], signed_on=_dated(nda)[1]),
        conflict=conflict,
        case=case,
        salt=os.urandom(SALT_BYTES),
    )
    save_draft(file, read_statement(draft(StatementKind.VETTING, record.to_bytes()), trust.genesis), as_json=as_json)


@click.command("erase")
@click.argument("person")
@click.argument("file", type=_FILE)
@as_wallet
@json_option
def erase(person: str, file: Path, wallet: Path, *, as_json: bool) -> None:
    """Draft in FILE the erasure of PERSON's vetting records, for two officers to sign. The log stays valid."""
    genesis = open_wallet(wallet).genesis()
    erasure = Erasure(genesis=genesis.digest, person=person_id(person))
    save_draft(file, read_statement(draft(StatementKind.ERASURE, erasure.to_bytes()), genesis), as_json=as_json)


@click.command("sign")
@click.argument("files", type=_FILE, nargs=-1, required=True)
@as_wallet
@passphrase_option
@yes_option
@json_option
def sign_statement(
    files: tuple[Path, ...], wallet: Path, passphrase_fd: int | None, *, yes: bool, as_json: bool
) -> None:
    """Show the statement in each of FILES and add your signature; who must sign depends on what it says."""
    holder = open_wallet(wallet, passphrase_fd)
    data: list[Json] = []
    lines: list[str] = []
    for file in files:
        read = _read(file, wallet)
        click.echo("\n".join(read.lines), err=as_json)
        if not yes:
            click.confirm(f"Sign this as `{holder.identity.person}`?", abort=True, err=True)
        envelope = read.envelope.signed_by(holder.signer())
        write_file(file, envelope.to_bytes())
        count = len(envelope.signatures)
        data.append({"kind": read.kind.value, "digest": str(envelope.digest), "signatures": count})
        lines.append(f"{file}: {count} signatures; next: strongroom people hand-in {file}")
    show({"statements": data}, lines, as_json=as_json)


@click.command("hand-in")
@click.argument("files", type=_FILE, nargs=-1, required=True)
@as_wallet
@json_option
def hand_in(files: tuple[Path, ...], wallet: Path, *, as_json: bool) -> None:
    """Have the statement in each of FILES recorded. The keeper judges whether those who signed may say so."""
    data: list[Json] = []
    lines: list[str] = []
    with session(wallet) as person:
        for file in files:
            read = _read(file, wallet)
            index = person.api.hand_in(read.kind, read.envelope).index
            data.append({"kind": read.kind.value, "digest": str(read.envelope.digest), "log_index": index})
            lines.append(f"{file}: the {read.kind.value} is recorded, log entry {index}")
    show({"statements": data}, lines, as_json=as_json)


@click.command("object")
@click.argument("document")
@as_wallet
@passphrase_option
@yes_option
@json_option
def object_to(document: str, wallet: Path, passphrase_fd: int | None, *, yes: bool, as_json: bool) -> None:
    """Stop a proposed roster, policy or set of reference values for good. One approver is enough."""
    with session(wallet, passphrase_fd) as person:
        trust = person.refresh()
        objection = Objection(genesis=trust.genesis.digest, document=Digest.parse(document))
        read = read_statement(draft(StatementKind.OBJECTION, objection.to_bytes()), trust.genesis)
        click.echo("\n".join(read.lines), err=as_json)
        if not yes:
            click.confirm(f"Stop it as `{person.wallet.identity.person}`?", abort=True, err=True)
        recorded = person.api.hand_in(StatementKind.OBJECTION, read.envelope.signed_by(person.wallet.signer()))
    data: Json = {"document": document, "log_index": recorded.index}
    show(data, f"stopped: log entry {recorded.index}", as_json=as_json)


def save_draft(file: Path, read: ReadStatement, *, as_json: bool) -> None:
    """Write a new statement for others to sign, and show it.

    :raises ConflictError: there is a file already.
    """
    require_new(file)
    write_file(file, read.envelope.to_bytes())
    data: Json = {"file": str(file), "kind": read.kind.value, "digest": str(read.envelope.digest)}
    show(data, (*read.lines, f"{file}: to be signed with `strongroom people sign {file}`"), as_json=as_json)


def _read(file: Path, wallet: Path) -> ReadStatement:
    envelope = Envelope.parse(read_file(file, most=2 * MAX_STATEMENT))
    return read_statement(envelope, open_wallet(wallet).genesis())


def _dated(text: str) -> tuple[str, Instant]:
    name, _, instant = text.partition("=")
    if not instant:
        raise UsageError("write a name, `=` and an instant, e.g. `weights-handling=2027-01-01T00:00:00Z`")
    return name, parse_instant(instant)
