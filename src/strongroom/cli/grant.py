"""``strongroom grant``: who holds access now; and ending it, or a platform's standing, for good."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.access.request import Action, Purpose, Request
from strongroom.cli.asking import Called, ask_or_carry_out, control_options
from strongroom.cli.output import show, table
from strongroom.cli.session import as_wallet, json_option, session
from strongroom.client.requests import Asking, ask_to_revoke_grant, ask_to_revoke_platforms
from strongroom.client.service import Session
from strongroom.client.told import GrantShown
from strongroom.client.trust import Trust
from strongroom.core.clock import format_instant
from strongroom.core.errors import UsageError
from strongroom.core.ids import model_id


@click.group("grant")
def grant() -> None:
    """See who holds access, and end it."""


@grant.command("ls")
@click.option("--all", "everything", is_flag=True, help="Those that are over too.")
@as_wallet
@json_option
def ls(wallet: Path, *, everything: bool, as_json: bool) -> None:
    """List grants, newest first: whose, of which class of access, how often used, and until when."""
    with session(wallet) as person:
        person.refresh()
        listed = [one for one in person.api.grants() if everything or one.live]
    rows = [grant_row(one) for one in listed]
    text = table(rows, ("GRANT", "BY", "MODEL", "ACCESS", "USES", "LAST USED", "UNTIL")) if rows else "nobody holds any"
    show({"grants": [one.to_json() for one in listed]}, text, as_json=as_json)


def grant_row(one: GrantShown) -> tuple[str, ...]:
    """Return a grant as a row of a table."""
    used = "never" if one.last_used is None else format_instant(one.last_used)
    until = format_instant(one.expires) if one.live else "over"
    return one.grant.value.hex()[:12], one.requester, one.model, one.access, str(one.uses), used, until


@grant.command("revoke")
@click.argument("digest", required=False)
@control_options(Purpose.INCIDENT_RESPONSE)
def revoke(digest: str | None, called: Called) -> None:
    """End the grant of request DIGEST for good; its leases end with it."""
    if (digest is None) is (called.request is None):
        raise UsageError("give the request whose grant falls, or --request")

    def ask(person: Session, trust: Trust, asked: Asking) -> Request:
        review = person.review(person.find(digest or ""))
        return ask_to_revoke_grant(trust, asked, model=review.request.model, target=review.digest)

    ask_or_carry_out(called, Action.REVOKE_GRANT, ask, verb="grant revoke", done="the grant is revoked")


@click.command("revoke")
@click.argument("platforms", nargs=-1)
@click.option("--model", help="The model whose rule decides.")
@control_options(Purpose.INCIDENT_RESPONSE)
def revoke_platforms(platforms: tuple[str, ...], model: str | None, called: Called) -> None:
    """End enrolled platforms' standing for good: they are never served again, and their leases end."""
    if bool(platforms) is (called.request is not None) or bool(platforms) is not (model is not None):
        raise UsageError("give platforms and --model, or --request")

    def ask(person: Session, trust: Trust, asked: Asking) -> Request:
        named = person.platform(platforms)
        return ask_to_revoke_platforms(trust, asked, model=model_id(model or ""), platforms=named)

    ask_or_carry_out(called, Action.REVOKE_PLATFORM, ask, verb="enclave revoke", done="the platforms are revoked")
