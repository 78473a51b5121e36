"""``strongroom enclave workspace``: code beside opened weights, and what comes out of it, metered and reviewed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import click

from strongroom.cli.enclave_options import Opening, image_option, opening_options, sealed_option, show_measured
from strongroom.cli.files import read_file, require_new
from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, ask_passphrase, json_option, no_passphrase, passphrase_option, yes_option
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.api import BrokerApi
from strongroom.client.drops import (
    DropApi,
    check_outcome,
    check_reviewer,
    counted,
    name_key,
    review,
)
from strongroom.client.wiring import connect, open_drops
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, DeniedError, PendingError, UsageError
from strongroom.core.ids import model_id
from strongroom.core.secret import SecretBytes
from strongroom.egress.archive import Archive
from strongroom.egress.bits import BYTE_BITS
from strongroom.egress.workspace import quota_left
from strongroom.enclave.launch.relay import Opened, ReleasePort
from strongroom.enclave.workspace.wiring import Work, pack_input, run_workspace, workspace_image
from strongroom.keys.adapters.identity_file import open_identity
from strongroom.keys.recipient import RecipientIdentity, parse_public
from strongroom.release.drop import Ticket
from strongroom.release.drop_file import KEY_BYTES, MAX_FILE, DropFile, encrypt_drop
from strongroom.release.drop_statements import DropOutcome
from strongroom.release.statements import StatementKind

_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_NEW: Final = click.Path(path_type=Path)
_identity = click.option(
    "--identity", type=_FILE, required=True, help="Your recipient identity: `strongroom recipient new`."
)
_identity_passphrase = click.option(
    "--identity-passphrase-fd", type=int, help="Read the identity's passphrase from this descriptor, don't ask."
)
_drop = click.argument("file", type=_FILE)
MAX_KEY_FILE: Final = 4096


def workspace(port: Callable[[BrokerApi], ReleasePort], tell: Callable[..., None]) -> click.Group:
    """Return the commands. ``port`` makes the launcher's view of a broker; ``tell`` says what was opened."""

    @click.group("workspace")
    def group() -> None:
        """Run code beside opened weights, and review what it lets out."""

    for command in (_measure, _key, _review, _receive, _quota):
        group.add_command(command)

    @group.command("run")
    @opening_options
    @click.option("--code", type=_FILE, required=True, help="Script (.py) or notebook (.ipynb).")
    @click.option("--input", "folder", type=_FOLDER, help="Folder whose files are handed in.")
    @click.option("--drop", type=_NEW, required=True, help="New file for what comes out, for reviewers to open.")
    @click.option("--timeout", default=3600.0, show_default=True, help="Seconds that the code may run.")
    @as_wallet
    @json_option
    def run(
        *,
        opening: Opening,
        code: Path,
        folder: Path | None,
        drop: Path,
        timeout: float,
        wallet: Path,
        as_json: bool,
    ) -> None:
        """Open MODEL, run the code beside it, and write its drop, which only reviewers can open.

        The code finds the model at STRONGROOM_MODEL, its input at STRONGROOM_INPUT, and leaves files in
        STRONGROOM_DROP; what it prints goes there too. It has no network and no other output. Whatever it dropped is
        charged to the model's quotas before it leaves; how the code ended is told in the drop, and nowhere else.
        """
        own = WalletFolder(wallet, no_passphrase)
        handed = pack_input(code, folder)
        launch = opening.launch(own.genesis(), partial(workspace_image, input_bytes=len(handed)))
        with connect(own) as transport:
            run_workspace(
                launch,
                Work(input=handed, drop=drop),
                port(BrokerApi(transport)),
                DropApi(transport),
                opened=lambda facts: _opened(tell, facts, as_json=as_json),
                err=sys.stderr.buffer,
                seconds=timeout,
            )
        ticket = DropFile.parse(read_file(drop, most=MAX_FILE)).check_ticket(own.genesis())
        data: dict[str, Json] = {**_ticket(ticket), "input": str(Digest.of(handed)), "file": str(drop)}
        text = (
            f"{drop}: {ticket.ask.size:,} bytes, charged {ticket.bits:,} bits, log entry {ticket.log_index}",
            f"to be reviewed by {_people(ticket)}: strongroom enclave workspace review {drop}",
        )
        show(data, text, as_json=as_json)

    return group


@click.command("measure")
@image_option
@sealed_option
@as_wallet
def _measure(image: str, sealed: Path, wallet: Path) -> None:
    """Measure the workspace on this machine and print its entry for the reference values.

    The code that is run in it, and its input, aren't part of the measurement; their digest is logged at each run.
    """
    show_measured(wallet, image, lambda name: workspace_image(name, sealed))


@click.command("key")
@click.argument("public_file", type=_FILE)
@as_wallet
@passphrase_option
@yes_option
@json_option
def _key(*, public_file: Path, wallet: Path, passphrase_fd: int | None, yes: bool, as_json: bool) -> None:
    """Have it recorded that you read drops with the recipient key in PUBLIC_FILE (of `strongroom recipient new`).

    Reviewers and researchers both need one. The newest key counts; what was encrypted to another stays so.
    """
    public = parse_public(read_file(public_file, most=MAX_KEY_FILE).decode("ascii", "replace").strip())
    digest = Digest.of(public)
    with open_drops(wallet, passphrase=ask_passphrase(passphrase_fd)) as (person, _drops):
        trust, who = person.refresh(), person.wallet.identity.person
        if not yes:
            click.confirm(f"Read drops as `{who}` with the key {digest}?", abort=True, err=True)
        statement = name_key(public, genesis=trust.genesis, person=who, signer=person.wallet.signer())
        recorded = person.api.hand_in(StatementKind.DROP_KEY, statement)
    data: Json = {"person": who, "key": str(digest), "log_index": recorded.index}
    show(data, f"{who} reads drops with {digest}: log entry {recorded.index}", as_json=as_json)


@click.command("review")
@_drop
@_identity
@click.option("--into", type=_NEW, help="New folder to look at the files in.")
@click.option("--accept", type=_NEW, help="Accept it, and write it to this new file, encrypted to its researcher.")
@click.option("--refuse", is_flag=True, help="Refuse it. It stays charged: it has left the enclave, towards you.")
@as_wallet
@passphrase_option
@_identity_passphrase
@yes_option
@json_option
def _review(
    *,
    file: Path,
    identity: Path,
    into: Path | None,
    accept: Path | None,
    refuse: bool,
    wallet: Path,
    passphrase_fd: int | None,
    identity_passphrase_fd: int | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Show the drop in FILE, which was encrypted to you as a reviewer; accept or refuse it.

    First look: --into FOLDER. Then decide: --accept NEW-FILE or --refuse; your signature on it goes into the log.
    """
    if accept is not None and refuse:
        raise UsageError("a drop is accepted or refused")
    if accept is not None:
        require_new(accept)
    outcome = DropOutcome.ACCEPT if accept else DropOutcome.REFUSE if refuse else None
    with open_drops(wallet, passphrase=ask_passphrase(passphrase_fd)) as (person, drops):
        trust, who = person.refresh(), person.wallet.identity.person
        drop = DropFile.parse(read_file(file, most=MAX_FILE))
        check_reviewer(drop.check_ticket(trust.genesis), trust, who)
        ticket, archive = drop.open(trust.genesis, who, _opened_identity(identity, identity_passphrase_fd))
        shown = check_outcome(ticket, drops.drops(ticket.model))
        click.echo("\n".join(_lines(ticket, archive)), err=as_json)
        if into is not None:
            _lay_out(archive, into)
        index, done = None, shown.outcome
        if outcome is not None and not shown.outcome:
            if not yes:
                click.confirm(f"{outcome.value.capitalize()} this drop as `{who}`?", abort=True, err=True)
            statement = review(ticket, outcome, person.wallet.signer())
            index, done = person.api.hand_in(StatementKind.DROP_REVIEW, statement).index, outcome.value
        if outcome is not None and done != outcome.value:
            raise ConflictError(f"the drop was reviewed before: {done}", reason="drop-reviewed")
    if accept is not None:
        with SecretBytes(bytearray(os.urandom(KEY_BYTES))) as key:
            _write(accept, encrypt_drop(archive.to_bytes(), drop.ticket, [ticket.researcher], key).to_bytes())
    data: dict[str, Json] = {**_ticket(ticket), "outcome": done or None, "log_index": index}
    data |= {"files": [{"name": one.name, "bytes": len(one.data)} for one in archive.files], "facts": {**archive.facts}}
    told = {
        DropOutcome.ACCEPT.value: f"accepted; for `{ticket.researcher.person}`: {accept}",
        DropOutcome.REFUSE.value: "refused; it stays charged",
    }
    show(data, told.get(done, "waits for a decision: --accept NEW-FILE or --refuse"), as_json=as_json)


@click.command("receive")
@_drop
@_identity
@click.option("--into", type=_NEW, required=True, help="New folder for the files.")
@as_wallet
@_identity_passphrase
@json_option
def _receive(
    *, file: Path, identity: Path, into: Path, wallet: Path, identity_passphrase_fd: int | None, as_json: bool
) -> None:
    """Open the drop in FILE, which a reviewer accepted and encrypted to you."""
    with open_drops(wallet, passphrase=no_passphrase) as (person, drops):
        trust, who = person.refresh(), person.wallet.identity.person
        drop = DropFile.parse(read_file(file, most=MAX_FILE))
        ticket, archive = drop.open(trust.genesis, who, _opened_identity(identity, identity_passphrase_fd))
        shown = check_outcome(ticket, drops.drops(ticket.model))
    if shown.outcome == DropOutcome.REFUSE.value:
        raise DeniedError("a reviewer refused this drop", reason="drop-refused")
    if not shown.outcome:
        raise PendingError("no reviewer has accepted this drop", reason="drop-not-reviewed")
    _lay_out(archive, into)
    data: dict[str, Json] = {**_ticket(ticket), "reviewer": shown.reviewer, "folder": str(into)}
    data |= {"files": [{"name": one.name, "bytes": len(one.data)} for one in archive.files], "facts": {**archive.facts}}
    show(data, (*_lines(ticket, archive), f"accepted by {shown.reviewer}; the files are in {into}"), as_json=as_json)


@click.command("quota")
@click.argument("model")
@as_wallet
@json_option
def _quota(*, model: str, wallet: Path, as_json: bool) -> None:
    """Say what is left of MODEL's workspace quotas: your own, and everybody's, within 365 days."""
    name = model_id(model)
    with open_drops(wallet, passphrase=no_passphrase) as (person, drops):
        trust, who = person.refresh(), person.wallet.identity.person
        policy = trust.egress_of(name)
        shown = drops.drops(name)
        quota = quota_left(policy, counted(shown), who, person.clock.now())
    data: Json = {
        "model": name,
        "own": {"used": quota.own_used, "of": quota.own},
        "all": {"used": quota.all_used, "of": quota.all},
        "people": {"used": quota.holders, "of": quota.most_holders, "you": quota.holds},
        "drops": [
            {
                "index": one.index,
                "at": format_instant(one.at),
                "drop": str(one.digest),
                "person": one.person,
                "bytes": one.size,
                "bits": one.bits,
                "outcome": one.outcome or None,
            }
            for one in shown
        ],
    }
    place = "you are one of them" if quota.holds else "you aren't one of them"
    text = (
        f"you        {_amount(quota.own - quota.own_used)} left of {_amount(quota.own)} within 365 days",
        f"everybody  {_amount(quota.all - quota.all_used)} left of {_amount(quota.all)} within 365 days",
        f"people     {quota.holders} of {quota.most_holders} hold a quota; {place}",
        *(f"  {one.bits:>14,} bits  {one.person}  {one.outcome or 'waits'}  {one.digest}" for one in shown),
    )
    show(data, text, as_json=as_json)


def _opened(tell: Callable[..., None], facts: Opened, *, as_json: bool) -> None:
    tell(facts, as_json=as_json)


def _opened_identity(file: Path, descriptor: int | None) -> RecipientIdentity:
    return open_identity(file, ask_passphrase(descriptor))


def _ticket(ticket: Ticket) -> Mapping[str, Json]:
    return {
        "request": str(ticket.request),
        "model": ticket.model,
        "drop": str(ticket.ask.digest),
        "bytes": ticket.ask.size,
        "bits": ticket.bits,
        "charged": ticket.log_index,
        "researcher": ticket.researcher.person,
        "reviewers": [one.person for one in ticket.reviewers],
    }


def _people(ticket: Ticket) -> str:
    return ", ".join(one.person for one in ticket.reviewers)


def _lines(ticket: Ticket, archive: Archive) -> tuple[str, ...]:
    # Names are printable by their own form; contents are never put on a terminal.
    return (
        f"drop        {ticket.ask.digest}",
        f"request     {ticket.request}, use {ticket.ask.use}, of {ticket.researcher.person}",
        f"model       {ticket.model}",
        f"charged     {ticket.bits:,} bits, log entry {ticket.log_index}",
        *(f"  {name:<20} {value}" for name, value in sorted(archive.facts.items())),
        *(f"  {len(one.data):>14,} bytes  {one.name}" for one in archive.files),
    )


def _lay_out(archive: Archive, folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        raise ConflictError(f"`{folder}` is there already", remedy="choose another name") from None
    for one in archive.files:
        path = folder / one.name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, one.data)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _amount(bits: int) -> str:
    return f"{max(0, bits) // BYTE_BITS:,} bytes"
