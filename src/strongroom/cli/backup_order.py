"""``strongroom backup order``: the root quorum's order to restore, written and signed without any deployment."""

from __future__ import annotations

import os
from pathlib import Path

import click

from strongroom.access.request import LogHead
from strongroom.backup.adapters.log_copy import published_log, whole_log
from strongroom.backup.adapters.reading import open_backup
from strongroom.backup.errors import RestoreRefusedError
from strongroom.backup.judgement import SeenHead, require_reaches
from strongroom.backup.replaying import Replayed
from strongroom.cli.files import json_option, read_file
from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, open_wallet, passphrase_option, write_file, yes_option
from strongroom.client.key_orders import summary
from strongroom.core.clock import Instant, SystemClock
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.envelope import Envelope
from strongroom.core.errors import DeniedError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.release.key_orders import KEY_ORDER_TYPE, NONCE_BYTES, KeyAct, KeyOrder

_FILE = click.Path(path_type=Path, dir_okay=False)
_MAX_FILE = 1 << 18
_DAY = 86_400


@click.command("order")
@click.argument("file", type=_FILE)
@click.option("--log", "log", required=True, help="The newest copy of the log: its folder, or where it is hosted.")
@click.option("--out", type=_FILE, required=True, help="The order: written by the first holder, signed by each.")
@click.option("--days", default=3, show_default=True, type=click.IntRange(1, 7), help="How long it is good.")
@as_wallet
@passphrase_option
@yes_option
@json_option
def order(
    file: Path,
    wallet: Path,
    log: str,
    out: Path,
    days: int,
    passphrase_fd: int | None,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Order that the backup FILE be restored, as a root holder: write the order, or add your signature to it.

    Needs no deployment: there is none any more. The whole log is verified, and must reach what your wallet saw last.
    """
    holder = open_wallet(wallet, passphrase_fd)
    genesis, now = holder.genesis(), SystemClock().now()
    if holder.identity.key not in genesis.root_keys:
        raise DeniedError("this wallet's key isn't a root key of the deployment", reason="not-a-root-key")
    backup = open_backup(file)
    if not backup.header.genesis.matches(genesis.digest):
        raise RestoreRefusedError("the backup is another deployment's", reason="other-deployment")
    replayed = Replayed(genesis)
    for _entry in replayed.through(whole_log(published_log(log), replayed.rebuilt)):
        pass
    position, seen, ledger = backup.header.log, holder.seen().log, replayed.ledger
    require_reaches(
        ledger,
        (
            SeenHead(size=position.size, root=position.root.value, by="the backup"),
            SeenHead(size=seen.size, root=seen.root.value, by="your wallet"),
        ),
    )
    head = LogHead(size=ledger.size, root=Digest(DigestAlgorithm.SHA256, ledger.root_at(ledger.size)))
    digest = backup.digest()
    envelope = _given(out) if out.exists() else _new(genesis, digest, head, now, days * _DAY)
    found = _checked(envelope, genesis, digest, now)
    require_reaches(ledger, (SeenHead(size=found.log.size, root=found.log.root.value, by="whoever wrote the order"),))
    click.echo("\n".join(summary(found, envelope.digest)), err=as_json)
    if not yes:
        click.confirm(f"Sign this order as root holder `{holder.identity.person}`?", abort=True, err=True)
    envelope = envelope.signed_by(holder.signer())
    write_file(out, envelope.to_bytes())
    roots = {key.key_id for key in genesis.root_keys}
    good = sum(one.key_id in roots for one in envelope.signatures)
    text = f"{out}: {good} of the {genesis.root_threshold} root signatures needed"
    show({"digest": str(envelope.digest), "signatures": good, "needed": genesis.root_threshold}, text, as_json=as_json)


def _new(genesis: Genesis, backup: Digest, head: LogHead, now: Instant, seconds: int) -> Envelope:
    made = KeyOrder(
        genesis=genesis.digest,
        act=KeyAct.RESTORE,
        subject=backup,
        nonce=os.urandom(NONCE_BYTES),
        log=head,
        issued=now,
        expires=now + seconds,
    )
    return Envelope(KEY_ORDER_TYPE, made.to_bytes(), ())


def _given(out: Path) -> Envelope:
    return Envelope.parse(read_file(out, most=_MAX_FILE))


def _checked(envelope: Envelope, genesis: Genesis, backup: Digest, now: Instant) -> KeyOrder:
    if envelope.kind != KEY_ORDER_TYPE:
        raise UsageError("the file holds a signed object of another kind than a key order")
    found = KeyOrder.parse(envelope.payload)
    if found.genesis != genesis.digest or found.act is not KeyAct.RESTORE or found.subject != backup:
        raise RestoreRefusedError("the order is about something else than this backup", reason="other-order")
    if not found.issued <= now < found.expires:
        raise UsageError("the order isn't good now", remedy="write a new one: strongroom backup order")
    return found
