"""``strongroom key rotate``: give a model a new key-encryption key, by the quorum that its policy wants."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.access.request import Action, Purpose
from strongroom.cli.asking import Why, act, asking, carry_out, why_options
from strongroom.cli.session import as_wallet, json_option, passphrase_option, session
from strongroom.client.requests import ask_to_rotate
from strongroom.core.errors import UsageError
from strongroom.core.ids import model_id


@click.command("rotate")
@click.argument("model", required=False)
@click.option("--request", "digest", help="Carry out this request, once it is approved.")
@why_options(Purpose.MAINTENANCE)
@as_wallet
@passphrase_option
@json_option
def rotate(
    model: str | None,
    digest: str | None,
    why: Why,
    wallet: Path,
    passphrase_fd: int | None,
    *,
    as_json: bool,
) -> None:
    """Give MODEL a new key-encryption key; with --request, once enough people agreed. Releases go on meanwhile.

    The weights and their data keys stay as they are: each data key is wrapped anew, and the key before is destroyed
    when the last one was. A data key that somebody may have seen isn't mended by this: seal a new version.
    """
    if (model is None) is (digest is None):
        raise UsageError("give either a model or --request")
    done = "the model has a new key; its data keys are being moved (strongroom key ls)"
    with session(wallet, passphrase_fd) as person:
        if digest is not None:
            carry_out(person, person.find(digest), Action.ROTATE, done=done, as_json=as_json)
            return
        trust = person.refresh()
        asked = asking(person, why)
        made = ask_to_rotate(trust, asked, model=model_id(model or ""))
        act(person, made, trust, verb="key rotate", done=done, as_json=as_json)
