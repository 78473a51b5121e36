"""``strongroom freeze``: one person stops every release of a model."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.access.request import Purpose
from strongroom.cli.asking import Why, act, asking, why_options
from strongroom.cli.session import as_wallet, json_option, passphrase_option, session
from strongroom.client.requests import ask_to_freeze
from strongroom.core.ids import model_id


@click.command("freeze")
@click.argument("model")
@why_options(Purpose.INCIDENT_RESPONSE)
@as_wallet
@passphrase_option
@json_option
def freeze(
    model: str,
    why: Why,
    wallet: Path,
    passphrase_fd: int | None,
    *,
    as_json: bool,
) -> None:
    """Stop every release of a model, at once. Resuming takes a quorum."""
    name = model_id(model)
    with session(wallet, passphrase_fd) as person:
        trust = person.refresh()
        asked = asking(person, why)
        made = ask_to_freeze(trust, asked, model=name)
        act(person, made, trust, verb="resume", done=f"`{name}` is frozen", as_json=as_json)
