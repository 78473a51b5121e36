"""``strongroom key rotate``: give a model a new key-encryption key, by the quorum that its policy wants."""

from __future__ import annotations

import click

from strongroom.access.request import Action, Purpose, Request
from strongroom.cli.asking import Called, ask_or_carry_out, control_options
from strongroom.client.requests import Asking, ask_to_rotate
from strongroom.client.service import Session
from strongroom.client.trust import Trust
from strongroom.core.errors import UsageError
from strongroom.core.ids import model_id


@click.command("rotate")
@click.argument("model", required=False)
@control_options(Purpose.MAINTENANCE)
def rotate(model: str | None, called: Called) -> None:
    """Give MODEL a new key-encryption key; with --request, once enough people agreed. Releases go on meanwhile.

    The weights and their data keys stay as they are: each data key is wrapped anew, and the key before is destroyed
    when the last one was. A data key that somebody may have seen isn't mended by this: seal a new version.
    """
    if (model is None) is (called.request is None):
        raise UsageError("give either a model or --request")

    def ask(_person: Session, trust: Trust, asked: Asking) -> Request:
        return ask_to_rotate(trust, asked, model=model_id(model or ""))

    done = "the model has a new key; its data keys are being moved (strongroom key ls)"
    ask_or_carry_out(called, Action.ROTATE, ask, verb="key rotate", done=done)
