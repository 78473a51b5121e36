"""``strongroom seal``: a directory of weights becomes a model's next version."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import click

from strongroom.access.request import Purpose
from strongroom.cli.asking import asking, why_options
from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, passphrase_option, session
from strongroom.client.publish import Waiting, publish
from strongroom.client.wiring import seal as seal_directory
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.errors import UsageError
from strongroom.core.ids import model_id
from strongroom.sealing.errors import DestinationExistsError


@click.command("seal")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--model", required=True, help="The model's name, as the policy has it.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The sealed directory to make.")
@click.option("--replace", is_flag=True, help="Exchange what is at --out, in one step.")
@click.option("--wait", is_flag=True, help="Where approvals are needed, wait for them.")
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
    purpose: str,
    ticket: str,
    justification: Path | None,
    wallet: Path,
    passphrase_fd: int | None,
    replace: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Seal DIRECTORY as the model's next version and register it. The plaintext stays where it is."""
    name = model_id(model)
    if out.exists() and not replace:
        raise DestinationExistsError(f"`{out}` is there already", remedy="choose another name, or give --replace")
    if not any(directory.iterdir()):
        raise UsageError(f"`{directory}` is empty")
    with session(wallet, passphrase_fd) as person, _progress() as progress:
        made = publish(
            person,
            directory,
            out,
            model=name,
            asking=asking(person, purpose=purpose, ticket=ticket, justification=justification, window=window),
            seal_directory=seal_directory,
            progress=progress,
            replace=replace,
            waiting=Waiting(sleep=sleep, submitted=_submitted, missing=_missing) if wait else None,
        )
    data: Json = {
        "model": made.model,
        "version": made.version,
        "manifest": str(made.manifest),
        "request": str(made.request),
        "log_index": made.log_index,
        "sealed": str(out),
    }
    text = (
        f"sealed `{made.model}` version {made.version} at {out}",
        f"  manifest   {made.manifest}",
        f"  log entry  {made.log_index}",
    )
    show(data, text, as_json=as_json)


def _submitted(digest: Digest, needed: int) -> None:
    click.echo(f"{needed} people must approve: strongroom approve {digest}", err=True)


def _missing(what: str) -> None:
    click.echo(f"waiting: {what}", err=True)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], object] | None]:
    """Show a bar on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, label="sealing", file=sys.stderr) as bar:
        before = 0

        def report(done: int, total: int) -> None:
            nonlocal before
            bar.length = total
            bar.update(done - before)
            before = done

        yield report
