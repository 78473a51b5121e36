"""``strongroom responder``: the process that guards decoys and freezes models, and its record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click

from strongroom.cli.session import as_wallet
from strongroom.core.clock import SystemClock
from strongroom.core.errors import NotFoundError
from strongroom.detection.detector import DAY
from strongroom.responder.adapters.record_archive import archive_record, require_nothing_held
from strongroom.responder.adapters.record_file import read_record
from strongroom.responder.wiring import run_responder

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER: Final = click.Path(path_type=Path, file_okay=False)
_state: Final = click.option(
    "--state", type=_FOLDER, required=True, help="Its own folder: the list of decoys, and its record."
)


@click.group("responder")
def responder() -> None:
    """Guard decoys, ask the rules about what happens, and freeze models when it is sure that somebody steals."""


@responder.command("run")
@click.argument("settings", type=_FILE)
@click.option("--home", type=_FOLDER, required=True, help="The deployment's folder, for the keeper's socket.")
@click.option("--response", type=_FILE, help="Whom it tells of incidents, and who may speak to it.")
@_state
@as_wallet
@click.option("--passphrase-fd", type=int, help="Read the wallet's passphrase from this open descriptor.")
def run(
    settings: Path, home: Path, response: Path | None, state: Path, wallet: Path, passphrase_fd: int | None
) -> None:
    """Run by the file SETTINGS until it is interrupted. Needs root: fanotify and network namespaces ask for it."""
    run_responder(home, wallet, settings, response, state, passphrase_fd)


@responder.group("record")
def record() -> None:
    """What it was told and did: show it, or put its old files aside."""


@record.command("show")
@_state
def show(state: Path) -> None:
    """Check the record and print it, JSON, one line for each alert and each thing done. Exit code 6: it was changed."""
    lines = read_record(state)
    if not lines:
        # Whoever named another folder, or from whom all of it was taken, must not read that nothing is missing.
        raise NotFoundError(f"`{state}` holds no line of a record", remedy="name the responder's own folder")
    for line in lines:
        click.echo(json.dumps(json.loads(line)["facts"], ensure_ascii=True, sort_keys=True))


@record.command("archive")
@_state
@click.option("--home", type=_FOLDER, required=True, help="The deployment's folder: its keeper says what is on hold.")
@click.option("--to", type=_FOLDER, required=True, help="Where the files go: a folder of this record's own.")
@click.option("--days", type=click.IntRange(8), default=90, show_default=True, help="What is younger stays.")
def archive(state: Path, home: Path, to: Path, days: int) -> None:
    """Move the record's oldest files elsewhere, while the responder stands still.

    A file stays while anything is on hold, or while it has what is younger, isn't in an incident yet, or is an open
    incident's. The newest file always stays, and the record says where it begins from then on.
    """
    require_nothing_held(home)
    for name in archive_record(state, to, before=SystemClock().now() - days * DAY):
        click.echo(f"{name} -> {to}")
