"""``strongroom key order``, ``sign-order`` and ``carry-out``: what the root quorum tells the keeper to do with keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import click

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
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.key_orders import check_log, check_order, make_order, summary
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.release.key_orders import KEY_ORDER_TYPE, KeyAct, KeyOrder

_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_MAX_FILE: Final = 1 << 18
_DAY: Final = 86_400


@click.command("order")
@click.argument("act", type=click.Choice([act.value for act in KeyAct]))
@click.option("--out", type=_FILE, required=True, help="Where the order goes; root holders sign this file.")
@click.option("--subject", type=Digest.parse, help="The digest of what it is about: an escrow or a backup.")
@click.option("--days", default=3, show_default=True, type=click.IntRange(1, 7), help="How long it is good.")
@as_wallet
@json_option
def order(act: str, out: Path, subject: Digest | None, days: int, wallet: Path, *, as_json: bool) -> None:
    """Write an order to the keeper: rotate-epoch, rotate-root, adopt-escrow or restore. It needs the root quorum."""
    with session(wallet) as person:
        trust = person.refresh()
        made = make_order(
            trust.genesis,
            trust.head,
            KeyAct(act),
            subject,
            now=person.clock.now(),
            seconds=days * _DAY,
            random_bytes=os.urandom,
        )
    write_file(out, made.to_bytes())
    text = (f"{out}: {made.digest}", f"next, each root holder: strongroom key sign-order {out}")
    show({"file": str(out), "digest": str(made.digest)}, text, as_json=as_json)


@click.command("sign-order")
@click.argument("file", type=_FILE)
@click.option("--offline", is_flag=True, help="The deployment is out of reach: don't compare the log with its own.")
@as_wallet
@passphrase_option
@yes_option
@json_option
def sign_order(file: Path, wallet: Path, passphrase_fd: int | None, *, offline: bool, yes: bool, as_json: bool) -> None:
    """Add your root signature to the order in FILE, which is rewritten. What you sign is shown before.

    The log that the order names is compared with the one that the deployment shows you; the keeper compares it too.
    """
    holder, envelope = open_wallet(wallet, passphrase_fd), read_order(file)
    checked = check_order(envelope, holder.genesis(), holder.identity.key, now=SystemClock().now())
    if not offline:
        with session(wallet) as person:
            check_log(checked, person.refresh(), person.api.consistency)
    then = f"strongroom key carry-out {file}"
    add_signature(holder, checked, envelope, file, then=then, yes=yes, as_json=as_json)


def add_signature(
    holder: WalletFolder, checked: KeyOrder, envelope: Envelope, file: Path, *, then: str, yes: bool, as_json: bool
) -> None:
    """Show a checked order, sign it once that is confirmed, and write it to ``file``; ``then``: what follows the last.

    :raises Abort: it wasn't confirmed.
    """
    genesis = holder.genesis()
    click.echo("\n".join(summary(checked, envelope.digest)), err=as_json)
    if not yes:
        click.confirm(f"Sign this order as root holder `{holder.identity.person}`?", abort=True, err=True)
    envelope = envelope.signed_by(holder.signer())
    write_file(file, envelope.to_bytes())
    roots = {key.key_id for key in genesis.root_keys}
    good, needed = sum(one.key_id in roots for one in envelope.signatures), genesis.root_threshold
    text = f"{file}: {good} of the {needed} root signatures needed"
    more = f"{text}; next: {then}" if good >= needed else text
    show({"digest": str(envelope.digest), "signatures": good, "needed": needed}, more, as_json=as_json)


@click.command("carry-out")
@click.argument("file", type=_FILE)
@as_wallet
@json_option
def carry_out_order(file: Path, wallet: Path, *, as_json: bool) -> None:
    """Have the keeper carry out the order in FILE, once enough root holders signed it. Each is good once."""
    envelope = read_order(file)
    with session(wallet) as person:
        person.refresh()
        # Said here, before anybody waits for the keeper to say it.
        person.wallet.genesis().verify_root(envelope, KEY_ORDER_TYPE)
        recorded = person.api.carry_out(envelope)
    data: Json = {"digest": str(envelope.digest), "log_index": recorded.index}
    show(data, f"carried out: log entry {recorded.index}", as_json=as_json)


def read_order(file: Path) -> Envelope:
    """Read a file with an order, whoever signed it.

    :raises UsageError: it isn't there, or is too large. :raises MalformedError: it holds no signed object.
    """
    return Envelope.parse(read_file(file, most=_MAX_FILE))
