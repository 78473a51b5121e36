"""``strongroom grant``: who holds access now; and ending it, or a platform's standing, for good."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.access.request import Action, Purpose
from strongroom.cli.asking import Why, act, asking, carry_out, why_options
from strongroom.cli.output import show, table
from strongroom.cli.session import as_wallet, json_option, passphrase_option, session
from strongroom.client.requests import ask_to_revoke_grant, ask_to_revoke_platforms
from strongroom.client.told import GrantShown
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
@click.option("--request", "approved", help="Carry out this request to revoke, once it is approved.")
@why_options(Purpose.INCIDENT_RESPONSE)
@as_wallet
@passphrase_option
@json_option
def revoke(
    *,
    digest: str | None,
    approved: str | None,
    why: Why,
    wallet: Path,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """End the grant of request DIGEST for good; its leases end with it."""
    if (digest is None) is (approved is None):
        raise UsageError("give the request whose grant falls, or --request")
    with session(wallet, passphrase_fd) as person:
        if approved is not None:
            carry_out(person, person.find(approved), Action.REVOKE_GRANT, done="revoked", as_json=as_json)
            return
        trust = person.refresh()
        asked = asking(person, why)
        review = person.review(person.find(digest or ""))
        made = ask_to_revoke_grant(trust, asked, model=review.request.model, target=review.digest)
        done = f"the grant of {review.digest} is revoked"
        act(person, made, trust, verb="grant revoke", done=done, as_json=as_json)


@click.command("revoke")
@click.argument("platforms", nargs=-1)
@click.option("--model", help="The model whose rule decides.")
@click.option("--request", "approved", help="Carry out this request to revoke, once it is approved.")
@why_options(Purpose.INCIDENT_RESPONSE)
@as_wallet
@passphrase_option
@json_option
def revoke_platforms(
    *,
    platforms: tuple[str, ...],
    model: str | None,
    approved: str | None,
    why: Why,
    wallet: Path,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """End enrolled platforms' standing for good: they are never served again, and their leases end."""
    if bool(platforms) is (approved is not None) or bool(platforms) is not (model is not None):
        raise UsageError("give platforms and --model, or --request")
    with session(wallet, passphrase_fd) as person:
        if approved is not None:
            carry_out(person, person.find(approved), Action.REVOKE_PLATFORM, done="revoked", as_json=as_json)
            return
        trust = person.refresh()
        asked = asking(person, why)
        named = person.platform(platforms)
        made = ask_to_revoke_platforms(trust, asked, model=model_id(model or ""), platforms=named)
        act(person, made, trust, verb="enclave revoke", done=f"{len(named)} platforms are revoked", as_json=as_json)
