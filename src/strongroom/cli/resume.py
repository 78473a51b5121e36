"""``strongroom resume``: allow releases of a frozen model again, by a quorum."""

from __future__ import annotations

import click

from strongroom.access.request import Action, Purpose, Request
from strongroom.cli.asking import Called, ask_or_carry_out, control_options
from strongroom.client.requests import Asking, ask_to_resume
from strongroom.client.service import Session
from strongroom.client.trust import Trust
from strongroom.core.errors import UsageError
from strongroom.core.ids import model_id


@click.command("resume")
@click.argument("model", required=False)
@control_options(Purpose.MAINTENANCE)
def resume(model: str | None, called: Called) -> None:
    """Ask to allow releases of MODEL again; with --request, do it once enough people agreed."""
    if (model is None) is (called.request is None):
        raise UsageError("give either a model or --request")

    def ask(_person: Session, trust: Trust, asked: Asking) -> Request:
        return ask_to_resume(trust, asked, model=model_id(model or ""))

    ask_or_carry_out(called, Action.RESUME, ask, verb="resume", done="the model is resumed")
