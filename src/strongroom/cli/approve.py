"""``strongroom approve``: look at a request's own bytes, then sign them."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.output import show
from strongroom.cli.request import review_json
from strongroom.cli.session import as_wallet, json_option, passphrase_option, session, yes_option
from strongroom.client.render import as_text
from strongroom.client.service import Review
from strongroom.core.errors import UsageError
from strongroom.framework.levels import SecurityLevel


@click.command("approve")
@click.argument("digest")
@as_wallet
@passphrase_option
@yes_option
@json_option
def approve(digest: str, wallet: Path, passphrase_fd: int | None, *, yes: bool, as_json: bool) -> None:
    """Show a request and sign an approval of it. DIGEST may be cut short.

    Refuses when the request was made under other documents, or by somebody who saw another log, than yours.
    """
    with session(wallet, passphrase_fd) as person:
        review = person.review(person.find(digest))
        click.echo(as_text(review.lines), err=as_json)
        person.check_approvable(review)
        _confirm(review, yes=yes)
        recorded = person.approve(review)
    data = review_json(review) | {"log_index": recorded.index}
    show(data, f"\napproved: log entry {recorded.index}", as_json=as_json)


def _confirm(review: Review, *, yes: bool) -> None:
    _roster, policy = review.trust.require_documents()
    model = review.request.model
    if policy.terms(model).level.rank >= SecurityLevel.SL4.rank:
        # A habit of pressing `y` must not be enough for the highest levels.
        typed = click.prompt(f"Type the model's name to approve (`{model}`)", err=True)
        if typed != model:
            raise UsageError("that isn't the model's name; nothing was signed")
    elif not yes:
        click.confirm("Approve this request?", abort=True, err=True)
