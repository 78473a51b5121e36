"""``strongroom restore``: puts a deployment back from a backup, under an order of the root quorum."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.audit.note import MAX_BYTES
from strongroom.audit.witness_policy import MAX_POLICY, WitnessPolicy
from strongroom.backup.adapters.log_copy import published_log
from strongroom.backup.adapters.reading import open_backup
from strongroom.cli.files import json_option, read_file
from strongroom.cli.output import show
from strongroom.cli.restoring import Asked, Told, put_back, store_settings
from strongroom.cli.session import ask_passphrase, passphrase_option
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock
from strongroom.core.envelope import Envelope
from strongroom.core.ids import model_id
from strongroom.core.signature import SEED_BYTES
from strongroom.keeper.package import MAX_PACKAGE, KeyPackage
from strongroom.keys.adapters.identity_file import open_identity

_FILE = click.Path(path_type=Path, dir_okay=False)
_MAX_ORDER = 1 << 20


@click.command("restore")
@click.argument("file", type=_FILE)
@click.option("--home", type=click.Path(path_type=Path), required=True, help="A folder that doesn't exist yet.")
@click.option(
    "--recipient-key",
    "recipient_keys",
    type=_FILE,
    multiple=True,
    required=True,
    help="An identity that opens the backup; again for one that opens the machine's own section.",
)
@click.option("--key-package", type=_FILE, required=True, help="The newest key package.")
@click.option("--order", type=_FILE, required=True, help="The root quorum's signed order to restore this backup.")
@click.option("--log", "log", help="The newest copy of the log: its published folder, or where it is hosted.")
@click.option("--witnesses", type=_FILE, help="A C2SP tlog-policy: witnesses to ask. Default: those in the backup.")
@click.option("--witness-authority", type=_FILE, help="A PEM file: the authority of the witnesses' servers.")
@click.option("--seen", "seen", type=_FILE, multiple=True, help="A checkpoint that somebody kept; repeat it.")
@click.option("--log-key", type=_FILE, help="The log's `log.key`, where the backup doesn't hold it.")
@click.option("--log-store", type=_FILE, help="A `store.toml`: keep the log in that database.")
@click.option("--log-password", type=_FILE, help="The database's `pgpass`.")
@click.option("--without", "without", multiple=True, help="A model whose key is lost; repeat it.")
@passphrase_option
@json_option
def restore(
    *,
    file: Path,
    home: Path,
    recipient_keys: tuple[Path, ...],
    key_package: Path,
    order: Path,
    log: str | None,
    witnesses: Path | None,
    witness_authority: Path | None,
    seen: tuple[Path, ...],
    log_key: Path | None,
    log_store: Path | None,
    log_password: Path | None,
    without: tuple[str, ...],
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Put a deployment back from the backup FILE into a new folder.

    The log must reach what anybody saw: give the newest copy that there is. What it says was denied, frozen, revoked or
    used stays so, whatever the backup's rows say. Never start the old machine again.
    """
    asked = Asked(
        backup=open_backup(file),
        home=home,
        identities=tuple(open_identity(path, ask_passphrase(passphrase_fd)) for path in recipient_keys),
        package=KeyPackage.parse(read_file(key_package, most=MAX_PACKAGE)),
        order=Envelope.parse(read_file(order, most=_MAX_ORDER)),
        at=SystemClock().now(),
        log=None if log is None else published_log(log),
        witnesses=None if witnesses is None else WitnessPolicy.parse(read_file(witnesses, most=MAX_POLICY)),
        authority=witness_authority,
        seen=tuple((path.name, read_file(path, most=MAX_BYTES)) for path in seen),
        log_key=None if log_key is None else read_file(log_key, most=SEED_BYTES),
        store=() if log_store is None else store_settings(log_store, log_password),
        without=frozenset(model_id(text) for text in without),
    )
    _tell(home, put_back(asked), as_json=as_json)


def _tell(home: Path, told: Told, *, as_json: bool) -> None:
    dropped = sum(told.dropped.values())
    data: dict[str, Json] = {
        "home": str(home),
        "genesis": str(told.genesis),
        "backup": str(told.backup),
        **told.numbers,
        "newer_than_backup": told.newer,
        "compared_with": [*told.asked],
        "dropped": dict(told.dropped),
        "hand_in_again": [*told.missing],
        "lost": [*told.lost],
    }
    lines = [
        f"restored to {home}",
        f"  genesis        {told.genesis}: compare it with the one that you pinned",
        f"  log            {told.numbers['entries']} entries, {told.newer} of them newer than the backup",
        f"  compared with  {', '.join(told.asked)}",
        f"  holds          {told.numbers['holds']} stand",
        f"  dropped        {dropped} rows that the log doesn't vouch for",
        *(f"  hand in again  {what}" for what in told.missing),
        *(f"  lost           the key of `{model}`" for model in told.lost),
        f"Next: strongroom up --home {home}, then a new key package. Never start the old machine again.",
    ]
    show(data, lines, as_json=as_json)
