"""``strongroom intake convert``: torch checkpoints of a delivery become safetensors, from copy to copy."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.intake_show import ended, show_standing
from strongroom.cli.output import progress_bar
from strongroom.cli.session import as_wallet, json_option, passphrase_option, session
from strongroom.core.errors import ConflictError
from strongroom.quarantine.adapters.delivery_folder import delivery_folder
from strongroom.quarantine.wiring import begin_delivery, conversion, ensure_key, from_copy, gate


@click.command("convert")
@click.argument("delivery", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--into", type=click.Path(path_type=Path, file_okay=False), required=True, help="The new delivery's own folder."
)
@as_wallet
@passphrase_option
@json_option
def convert(*, delivery: Path, into: Path, wallet: Path, passphrase_fd: int | None, as_json: bool) -> None:
    """Make another delivery of DELIVERY: its torch checkpoints become safetensors, all else is taken along.

    Read from the encrypted copy, written to an encrypted copy; no pickle is loaded. The new delivery has the same
    rules, goes through the same checks, and names the record that it came from. Interrupted: run it again.
    """
    with session(wallet, passphrase_fd) as person, delivery_folder(delivery) as before:
        standing, made_of = conversion(person, before)
        with delivery_folder(into) as after:
            if not after.begun:
                begin_delivery(person, after, made_of)
            if after.terms().converted_from not in {one.digest for one in standing.records}:
                raise ConflictError(f"the delivery in `{into}` is another one", remedy="choose another --into")
            ensure_key(person, after)
            with progress_bar("converting") as progress:
                result = gate(person, after, from_copy(person, before, standing, after, progress)).receive()
            show_standing(after, result, as_json=as_json)
            ended(result)
