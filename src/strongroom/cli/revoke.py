"""``strongroom revoke``: end a grant, or a platform's standing, for good."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.access.request import Action, Purpose
from strongroom.cli.asking import act, asking, carry_out, why_options
from strongroom.cli.session import as_wallet, json_option, passphrase_option, session
from strongroom.client.requests import ask_to_revoke_grant, ask_to_revoke_platforms
from strongroom.core.errors import UsageError
from strongroom.core.ids import model_id


@click.command("revoke")
@click.option("--grant", help="Digest of the request whose grant falls.")
@click.option("--platform", "platforms", multiple=True, help="An enrolled platform that is never served again.")
@click.option("--model", help="With --platform: the model whose rule decides.")
@click.option("--request", "digest", help="Carry out this request, once it is approved.")
@why_options(Purpose.INCIDENT_RESPONSE)
@as_wallet
@passphrase_option
@json_option
def revoke(
    *,
    grant: str | None,
    platforms: tuple[str, ...],
    model: str | None,
    digest: str | None,
    purpose: str,
    ticket: str,
    justification: Path | None,
    wallet: Path,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """End a grant, or a platform's standing, for good."""
    if sum((grant is not None, bool(platforms), digest is not None)) != 1 or bool(platforms) is not (model is not None):
        raise UsageError("give one of --grant, --platform with --model, or --request")
    with session(wallet, passphrase_fd) as person:
        if digest is not None:
            allowed = (Action.REVOKE_GRANT, Action.REVOKE_PLATFORM)
            carry_out(person, person.find(digest), *allowed, done="revoked", as_json=as_json)
            return
        trust = person.refresh()
        why = asking(person, purpose=purpose, ticket=ticket, justification=justification)
        if grant is not None:
            review = person.review(person.find(grant))
            made = ask_to_revoke_grant(trust, why, model=review.request.model, target=review.digest)
            done = f"the grant of {review.digest} is revoked"
        else:
            named = person.platform(platforms)
            made = ask_to_revoke_platforms(trust, why, model=model_id(model or ""), platforms=named)
            done = f"{len(named)} platforms are revoked"
        act(person, made, trust, verb="revoke", done=done, as_json=as_json)
