"""``strongroom precaution``: what a responder takes away for a while beside a freeze, and how people lift it."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.access.request import Action, Purpose, Request
from strongroom.cli.asking import Called, ask_or_carry_out, control_options, seconds
from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, passphrase_option, session
from strongroom.client.precautions import longest, precaution_text, take
from strongroom.client.requests import Asking, ask_to_lift
from strongroom.client.service import Session
from strongroom.client.trust import Trust
from strongroom.core.digest import Digest
from strongroom.core.errors import UsageError
from strongroom.core.ids import model_id
from strongroom.release.precautions import Cause, PrecautionKind


@click.group("precaution")
def precaution() -> None:
    """Take something away for a while, short of a freeze."""


@precaution.command("take")
@click.argument("kind", type=click.Choice([kind.value for kind in PrecautionKind]))
@click.argument("subject", required=False)
@click.option("--cause", type=click.Choice([cause.value for cause in Cause]), required=True, help="Why.")
@click.option("--incident", help="The incident that this is about.")
@click.option("--for", "lasting", help="How long, like `2d`; as long as it may last if not given. A hold has no end.")
@as_wallet
@passphrase_option
@json_option
def take_precaution(
    *,
    kind: str,
    subject: str | None,
    cause: str,
    incident: str | None,
    lasting: str | None,
    wallet: Path,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Take a precaution as a responder: `approver` PERSON, `sampling` MODEL, `hold` MODEL, or `hold` for everything."""
    asked = PrecautionKind(kind)
    with session(wallet, passphrase_fd) as person:
        now = person.clock.now()
        until = longest(asked, now) if lasting is None else now + seconds(lasting)
        recorded = take(person, asked, subject, cause=Cause(cause), incident=incident, until=until)
    show({"log_index": recorded.index}, f"taken: log entry {recorded.index}", as_json=as_json)


@precaution.command("ls")
@as_wallet
@passphrase_option
@json_option
def list_precautions(*, wallet: Path, passphrase_fd: int | None, as_json: bool) -> None:
    """List the precautions that stand."""
    with session(wallet, passphrase_fd) as person:
        standing = person.refresh().precautions
    lines = [precaution_text(one) for one in standing] or ["none stands"]
    show({"precautions": [one.to_json() for one in standing]}, lines, as_json=as_json)


@precaution.command("lift")
@click.argument("name", required=False)
@click.option("--model", help="The model whose rule decides; needed where the whole deployment is held.")
@control_options(Purpose.MAINTENANCE)
def lift(name: str | None, model: str | None, called: Called) -> None:
    """Ask to lift the sampling or hold called NAME; with --request, do it once enough people agreed."""
    if (name is None) is (called.request is None):
        raise UsageError("give either a precaution or --request")

    def ask(_person: Session, trust: Trust, asked: Asking) -> Request:
        named = Digest.parse(name or "")
        about = model or next((one.subject for one in trust.precautions if one.name == named), None)
        if about is None:
            raise UsageError("no model's precaution is called so", remedy="for a hold on everything, name a --model")
        return ask_to_lift(trust, asked, model=model_id(about), precaution=named)

    ask_or_carry_out(called, Action.LIFT, ask, verb="precaution lift", done="the precaution is lifted")
