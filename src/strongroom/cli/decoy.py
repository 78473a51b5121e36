"""``strongroom decoy``: files that nobody has a reason to open, and the responder's list of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from strongroom.cli.output import show, table
from strongroom.cli.session import as_wallet, json_option, open_wallet, passphrase_option
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock, format_instant
from strongroom.core.errors import UsageError
from strongroom.core.ids import model_id
from strongroom.responder.decoys import Decoy
from strongroom.responder.planting.wiring import (
    list_model,
    plant_credential,
    plant_shards,
    remove,
    rotate,
    unlist_model,
)
from strongroom.responder.wiring import load_decoys

_PATH: Final = click.Path(path_type=Path)
_FOLDER: Final = click.Path(path_type=Path, file_okay=False)
_state: Final = click.option(
    "--state", type=_FOLDER, required=True, help="The responder's own folder. Never on the disk where decoys lie."
)


@click.group("decoy")
def decoy() -> None:
    """Plant files that nobody has a reason to open. The responder guards them from its next start."""


@decoy.command("plant")
@click.argument("folder", type=_FOLDER)
@click.option(
    "--like",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="The sealed directory that it is to look like.",
)
@_state
@as_wallet
@passphrase_option
@json_option
def plant(folder: Path, like: Path, state: Path, wallet: Path, passphrase_fd: int | None, *, as_json: bool) -> None:
    """Make a decoy of a sealed directory at FOLDER: sealed random bytes, under keys that nobody has."""
    made = plant_shards(folder, like, state, open_wallet(wallet, passphrase_fd), now=SystemClock().now())
    _tell(made, f"{len(made)} decoys planted; start the responder again to have them guarded", as_json=as_json)


@decoy.command("credential")
@click.argument("path", type=_PATH)
@click.option("--model", required=True, help="The model that is frozen when somebody opens it.")
@_state
@as_wallet
@passphrase_option
@json_option
def credential(path: Path, model: str, state: Path, wallet: Path, passphrase_fd: int | None, *, as_json: bool) -> None:
    """Write credentials that are valid nowhere to PATH."""
    opened = open_wallet(wallet, passphrase_fd)
    made = plant_credential(path, model_id(model), state, opened, now=SystemClock().now())
    _tell((made,), "planted; start the responder again to have it guarded", as_json=as_json)


@decoy.command("model")
@click.argument("name")
@click.option("--for", "stands_for", help="The model that is frozen when somebody asks for this one.")
@click.option("--remove", "removed", is_flag=True, help="Take it off the list.")
@_state
@as_wallet
@passphrase_option
@json_option
def model(
    name: str,
    stands_for: str | None,
    state: Path,
    wallet: Path,
    passphrase_fd: int | None,
    *,
    removed: bool,
    as_json: bool,
) -> None:
    """Put the model NAME on the list: nobody has a reason to ask for it. Policy and registry must have it as any other.

    The responder looks for it from its next start.
    """
    opened, wanted = open_wallet(wallet, passphrase_fd), model_id(name)
    if removed is (stands_for is not None):
        raise UsageError("give --for or --remove")
    if stands_for is None:
        made = unlist_model(wanted, state, opened)
    else:
        made = list_model(wanted, model_id(stands_for), state, opened, now=SystemClock().now())
    said = "taken off the list" if removed else "listed"
    show({"model": made.to_json()}, f"{said}; start the responder again", as_json=as_json)


@decoy.command("rotate")
@click.argument("old", type=_PATH)
@click.argument("new", type=_PATH)
@click.option(
    "--like",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Of a directory: the sealed directory that the new one is to look like.",
)
@_state
@as_wallet
@passphrase_option
@json_option
def rotate_decoy(
    old: Path, new: Path, like: Path | None, state: Path, wallet: Path, passphrase_fd: int | None, *, as_json: bool
) -> None:
    """Plant a decoy at NEW and take away the one at OLD: what stays for long gets known."""
    made = rotate(old, new, state, open_wallet(wallet, passphrase_fd), like=like, now=SystemClock().now())
    _tell(made, f"{len(made)} decoys planted; start the responder again to have them guarded", as_json=as_json)


@decoy.command("ls")
@_state
@as_wallet
@json_option
def ls(state: Path, wallet: Path, *, as_json: bool) -> None:
    """List the decoys. Whoever reads this list knows what not to touch."""
    known = load_decoys(state, open_wallet(wallet))
    rows = [(one.path, one.kind.value, one.model, format_instant(one.planted)) for one in known.decoys]
    rows += [(one.name, "model", one.model, format_instant(one.planted)) for one in known.models]
    told: dict[str, Json] = {
        "decoys": [one.to_json() for one in known.decoys],
        "models": [one.to_json() for one in known.models],
    }
    show(told, table(rows, ("decoy", "kind", "model", "planted")), as_json=as_json)


@decoy.command("rm")
@click.argument("path", type=_PATH)
@_state
@as_wallet
@passphrase_option
@json_option
def rm(path: Path, state: Path, wallet: Path, passphrase_fd: int | None, *, as_json: bool) -> None:
    """Take a decoy, or a whole decoy directory, off the list and the disk. Plant others: what stays gets known."""
    taken = remove(path, state, open_wallet(wallet, passphrase_fd))
    _tell(taken, f"{len(taken)} decoys taken away", as_json=as_json)


def _tell(decoys: Sequence[Decoy], words: str, *, as_json: bool) -> None:
    told: dict[str, Json] = {"decoys": [one.to_json() for one in decoys]}
    show(told, words, as_json=as_json)
