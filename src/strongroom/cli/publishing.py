"""What the verbs that make a model's next version share: where it may go, whom it waits for, and what is shown."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.output import show
from strongroom.client.publish import Published, Waiting
from strongroom.client.service import Session
from strongroom.client.unfinished import unfinished_name
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId
from strongroom.sealing.errors import DestinationExistsError


def is_unfinished(person: Session, model: ModelId, place: Path) -> bool:
    """Say whether the wallet keeps an interrupted sealing of the model to ``place``, which goes on then."""
    return person.wallet.kept(unfinished_name(model, str(place))) is not None


def require_free(out: Path) -> None:
    """Check that nothing is at ``out``.

    :raises DestinationExistsError: something is.
    """
    if out.exists():
        raise DestinationExistsError(f"`{out}` is there already", remedy="choose another name, or give --replace")


def waiting_for_approvals() -> Waiting:
    """Return what tells a terminal whose approvals are waited for."""
    return Waiting(submitted=_submitted, missing=_missing)


def show_published(made: Published, out: Path, first: str, *more: str, as_json: bool) -> None:
    """Show a version that was sealed to ``out`` and registered: between ``first`` and ``more``, where it stands."""
    data: Json = {
        "model": made.model,
        "version": made.version,
        "manifest": str(made.manifest),
        "request": str(made.request),
        "log_index": made.log_index,
        "sealed": str(out),
    }
    text = (first, f"  manifest   {made.manifest}", f"  log entry  {made.log_index}", *more)
    show(data, text, as_json=as_json)


def _submitted(digest: Digest, needed: int) -> None:
    click.echo(f"{needed} people must approve: strongroom approve {digest}", err=True)


def _missing(what: str) -> None:
    click.echo(f"waiting: {what}", err=True)
