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
from strongroom.cli.files import json_option
from strongroom.cli.key_orders import add_signature, read_order
from strongroom.cli.session import as_wallet, open_wallet, passphrase_option, yes_option
from strongroom.client.key_orders import check_order, make_order, require_root_key
from strongroom.core.clock import SystemClock
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.release.key_orders import KeyAct

_FILE = click.Path(path_type=Path, dir_okay=False)
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
    require_root_key(genesis, holder.identity.key)
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
    if out.exists():
        envelope = read_order(out)
    else:
        envelope = make_order(
            genesis, head, KeyAct.RESTORE, digest, now=now, seconds=days * _DAY, random_bytes=os.urandom
        )
    found = check_order(envelope, genesis, holder.identity.key, now=now)
    if found.act is not KeyAct.RESTORE or found.subject != digest:
        raise RestoreRefusedError("the order is about something else than this backup", reason="other-order")
    require_reaches(ledger, (SeenHead(size=found.log.size, root=found.log.root.value, by="whoever wrote the order"),))
    add_signature(holder, found, envelope, out, then="strongroom restore", yes=yes, as_json=as_json)
