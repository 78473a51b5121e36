"""``strongroom resume``: allow releases of a frozen model again, by a quorum."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.access.request import Action, Purpose
from strongroom.cli.asking import Why, act, asking, carry_out, why_options
from strongroom.cli.session import as_wallet, json_option, passphrase_option, session
from strongroom.client.requests import ask_to_resume
from strongroom.core.errors import UsageError
from strongroom.core.ids import model_id


@click.command("resume")
@click.argument("model", required=False)
@click.option("--request", "digest", help="Carry out this request, once it is approved.")
@why_options(Purpose.MAINTENANCE)
@as_wallet
@passphrase_option
@json_option
def resume(
    model: str | None,
    digest: str | None,
    why: Why,
    wallet: Path,
    passphrase_fd: int | None,
    *,
    as_json: bool,
) -> None:
    """Ask to allow releases of MODEL again; with --request, do it once enough people agreed."""
    if (model is None) is (digest is None):
        raise UsageError("give either a model or --request")
    with session(wallet, passphrase_fd) as person:
        if digest is not None:
            carry_out(person, person.find(digest), Action.RESUME, done="the model is resumed", as_json=as_json)
            return
        name = model_id(model or "")
        trust = person.refresh()
        asked = asking(person, why)
        made = ask_to_resume(trust, asked, model=name)
        act(person, made, trust, verb="resume", done=f"`{name}` is resumed", as_json=as_json)
