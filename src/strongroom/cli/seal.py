"""``strongroom seal``: a directory of weights becomes a model's next version."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.access.request import Purpose
from strongroom.cli.asking import Why, asking, why_options
from strongroom.cli.output import progress_bar
from strongroom.cli.publishing import is_unfinished, require_free, show_published, waiting_for_approvals
from strongroom.cli.sealed import read_recipient
from strongroom.cli.session import as_wallet, json_option, passphrase_option, read_file, session
from strongroom.client.publish import publish
from strongroom.client.wiring import seal_to_directory
from strongroom.core.errors import UsageError
from strongroom.core.ids import model_id
from strongroom.sealing.canary import MAX_CANARY_FILE, read_canaries


@click.command("seal")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--model", required=True, help="The model's name, as the policy has it.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The sealed directory to make.")
@click.option("--replace", is_flag=True, help="Exchange what is at --out, in one step.")
@click.option("--wait", is_flag=True, help="Where approvals are needed, wait for them.")
@click.option(
    "--to",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file with a recipient's public key: opens it without the keeper, for good.",
)
@click.option(
    "--canaries",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What the model must answer after it is opened: `enclave serve canaries`.",
)
@click.option("--window", help="How long the request holds, e.g. 8h.")
@why_options(Purpose.PUBLISH)
@as_wallet
@passphrase_option
@json_option
def seal(
    *,
    directory: Path,
    model: str,
    out: Path,
    window: str | None,
    why: Why,
    to: tuple[Path, ...],
    canaries: Path | None,
    wallet: Path,
    passphrase_fd: int | None,
    replace: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Seal DIRECTORY as the model's next version and register it. The plaintext stays where it is.

    Interrupted, by whatever: run it again with the same --model and --out, and it goes on where it was.
    """
    name, place = model_id(model), out.absolute()
    if not any(directory.iterdir()):
        raise UsageError(f"`{directory}` is empty")
    with session(wallet, passphrase_fd) as person, progress_bar("sealing") as progress:
        if not replace and not is_unfinished(person, name, place):
            require_free(out)
        made = publish(
            person,
            seal_to_directory(
                directory,
                place,
                recipients=[read_recipient(file) for file in to],
                canaries=read_canaries(read_file(canaries, most=MAX_CANARY_FILE)) if canaries else (),
                progress=progress,
                replace=replace,
            ),
            model=name,
            place=str(place),
            asking=asking(person, why, window=window),
            waiting=waiting_for_approvals() if wait else None,
        )
    show_published(made, out, f"sealed `{made.model}` version {made.version} at {out}", as_json=as_json)
