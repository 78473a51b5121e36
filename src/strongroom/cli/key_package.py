"""``strongroom key package``: the keyring and the escrow as one file, for safes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from strongroom.cli.files import require_new
from strongroom.cli.output import show
from strongroom.cli.session import json_option, read_file, write_file
from strongroom.core.canonical import Json
from strongroom.core.genesis import Genesis
from strongroom.keeper.adapters.escrow_file import EscrowFile
from strongroom.keeper.adapters.files import load_keyring
from strongroom.keeper.package import MAX_PACKAGE, KeyPackage
from strongroom.keeper.wiring import load_genesis
from strongroom.keys.escrow import Escrow

_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_MAX_GENESIS: Final = 1 << 16


@click.command("package")
@click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The deployment's folder."
)
@click.option("--out", type=_FILE, required=True, help="The package; a file that doesn't exist yet.")
@json_option
def package(home: Path, out: Path, *, as_json: bool) -> None:
    """Pack the keyring and the escrow into one file, for custodians and safes. Run it as the keeper's user.

    Everything in it is wrapped: it opens nothing without the key service or enough custodians. Keep it apart from
    backups. Make a new one after each rotation, destruction and new model, and destroy the older ones.
    """
    require_new(out)
    genesis = load_genesis(home)
    packed = KeyPackage.of(genesis, load_keyring(home / "keeper"), EscrowFile(home / "keeper").load())
    write_file(out, packed.to_bytes())
    _show(packed, out, as_json=as_json)


@click.command("package-show")
@click.argument("file", type=_FILE)
@click.option("--genesis", type=_FILE, required=True, help="The deployment's genesis.json, as you pinned it.")
@json_option
def show_package(file: Path, genesis: Path, *, as_json: bool) -> None:
    """Verify a key package, and show what is in it."""
    packed = KeyPackage.parse(read_file(file, most=MAX_PACKAGE))
    packed.verify(Genesis.parse(read_file(genesis, most=_MAX_GENESIS)))
    _show(packed, file, as_json=as_json)


def _show(packed: KeyPackage, file: Path, *, as_json: bool) -> None:
    keyring = packed.keyring
    models = sorted({held.model for held in keyring.keks})
    data: dict[str, Json] = {
        "package": str(file),
        "digest": str(packed.digest),
        "generation": keyring.generation,
        "epochs": [held.epoch for held in keyring.epochs],
        "models": [*models],
        "escrow": None if packed.escrow is None else str(packed.escrow.digest),
    }
    show(data, _lines(packed, file, models), as_json=as_json)


def _lines(packed: KeyPackage, file: Path, models: Sequence[str]) -> Iterator[str]:
    yield f"key package {file}"
    yield f"  digest      {packed.digest}"
    yield f"  root key    generation {packed.keyring.generation}"
    yield f"  models      {', '.join(models) or 'none'}"
    if packed.escrow is None:
        yield "  escrow      none: only the key service opens this"
        return
    escrow = Escrow.parse(packed.escrow.payload)
    names = ", ".join(one.person for one in escrow.custodians)
    yield f"  escrow      {escrow.threshold} of {len(escrow.shares)} custodians: {names}"
