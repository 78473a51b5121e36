"""``strongroom assess statement``: what only people can say of a measure, signed, for a time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from strongroom.assessor.wiring import know
from strongroom.assurance.statements import MAX_DOCUMENTS, STATEMENT_TYPE, Claim, Document, Statement, verify_statement
from strongroom.cli.assess_files import file_digest, read_envelope, statement_files
from strongroom.cli.output import show, table
from strongroom.cli.session import (
    as_wallet,
    json_option,
    open_wallet,
    passphrase_option,
    session,
    write_file,
    yes_option,
)
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock, format_instant, parse_instant
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.printable import printable
from strongroom.framework.catalogue import load

_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_DAYS: Final = 180
_CLAIMS: Final = click.Choice([claim.value for claim in Claim])


@click.group("statement")
def statement() -> None:
    """Attest what software can't see. Only people with the role `attestor` are believed."""


@statement.command("sign")
@click.argument("file", type=_FILE)
@click.option("--measure", help="A new statement: the measure's id, e.g. SL1-STC-01.")
@click.option("--claim", type=_CLAIMS, default=Claim.MET.value, show_default=True, help="What is said of it.")
@click.option("--says", help="What is done, or what else reaches the same goal.")
@click.option("--covers", help="Which sites, devices or people that is true of.")
@click.option("--document", "documents", type=_FILE, multiple=True, help="A document it rests on; its digest is kept.")
@click.option("--until", metavar="INSTANT", help=f"When it lapses; {_DAYS} days from now, if left out.")
@as_wallet
@passphrase_option
@yes_option
@json_option
def sign_statement(
    *,
    file: Path,
    measure: str | None,
    claim: str,
    says: str | None,
    covers: str | None,
    documents: tuple[Path, ...],
    until: str | None,
    wallet: Path,
    passphrase_fd: int | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Write a statement to FILE and sign it; or, where FILE is there already, show it and sign it as well.

    `alternative` and `not-applicable` count once two attestors have signed.
    """
    holder = open_wallet(wallet, passphrase_fd)
    if file.exists():
        envelope = read_envelope(file)
        if measure is not None or envelope.kind != STATEMENT_TYPE:
            raise UsageError(
                f"`{file}` is there already", remedy="leave --measure out to sign it, or choose a new name"
            )
    else:
        envelope = _new(holder, measure, Claim(claim), says, covers, documents, until)
    said = Statement.parse(envelope.payload)
    click.echo("\n".join(_lines(said)), err=as_json)
    if not yes:
        click.confirm(f"Sign this as `{holder.identity.person}`?", abort=True, err=True)
    signed = envelope.signed_by(holder.signer())
    write_file(file, signed.to_bytes())
    missing = max(0, said.claim.signers - len(signed.signatures))
    data: dict[str, Json] = {"file": str(file), "digest": str(signed.digest), "signatures_missing": missing}
    more = "" if not missing else f"; another attestor signs it: strongroom assess statement sign {file}"
    show(data, f"{file}: signed{more}", as_json=as_json)


def _new(
    holder: WalletFolder,
    measure: str | None,
    claim: Claim,
    says: str | None,
    covers: str | None,
    documents: tuple[Path, ...],
    until: str | None,
) -> Envelope:
    if measure is None or says is None or covers is None:
        raise UsageError("a new statement takes --measure, --says and --covers")
    if len(documents) > MAX_DOCUMENTS:
        raise UsageError(f"a statement rests on at most {MAX_DOCUMENTS} documents")
    now = SystemClock().now()
    said = Statement(
        genesis=holder.genesis().digest,
        measure=load().measure(measure).id,
        claim=claim,
        person=holder.identity.person,
        text=says,
        scope=covers,
        documents=tuple(Document(name=path.name, digest=file_digest(path)) for path in documents),
        at=now,
        expires=parse_instant(until) if until else now + _DAYS * 86400,
    )
    Statement.parse(said.to_bytes())
    return Envelope(STATEMENT_TYPE, said.to_bytes(), ())


@statement.command("ls")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@as_wallet
@json_option
def list_statements(folder: Path, wallet: Path, *, as_json: bool) -> None:
    """List the statements in FOLDER: which count today, and why the others don't."""
    rows: list[tuple[str, ...]] = []
    data: list[Json] = []
    with session(wallet) as person:
        known, now = know(person), person.clock.now()
        for path in statement_files(folder):
            try:
                envelope = read_envelope(path)
                one = verify_statement(envelope, known.attestors(now), genesis=known.trust.genesis.digest, now=now)
            except StrongroomError as error:
                rows.append((printable(path.name), "", "", "", f"{error.message} [{error.reason}]"))
                data.append({"file": path.name, "counts": False, "reason": error.reason})
                continue
            said = one.statement
            ends = format_instant(said.expires)
            rows.append((printable(path.name), said.measure, said.claim.value, ends, ", ".join(one.signers)))
            data.append({"file": path.name, "counts": True, "statement": one.to_json()})
    show({"statements": data}, table(rows, ("file", "measure", "claim", "until", "by")), as_json=as_json)


def _lines(said: Statement) -> list[str]:
    measure = load().measure(said.measure)
    return [
        f"measure   {said.measure}: {measure.name}",
        f"claim     {said.claim.value}",
        f"by        {said.person}, from {format_instant(said.at)} until {format_instant(said.expires)}",
        f"says      {printable(said.text)}",
        f"covers    {printable(said.scope)}",
        *(f"document  {printable(one.name)} {one.digest}" for one in said.documents),
    ]
