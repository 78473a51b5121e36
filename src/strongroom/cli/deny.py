"""``strongroom deny``: look at a request's own bytes, then sign a denial. One denial stops a request for good."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.output import show
from strongroom.cli.request import review_json
from strongroom.cli.session import as_wallet, json_option, passphrase_option, session, yes_option
from strongroom.client.render import as_text


@click.command("deny")
@click.argument("digest")
@as_wallet
@passphrase_option
@yes_option
@json_option
def deny(digest: str, wallet: Path, passphrase_fd: int | None, *, yes: bool, as_json: bool) -> None:
    """Show a request and sign a denial of it, which stops it for good. DIGEST may be cut short."""
    with session(wallet, passphrase_fd) as person:
        review = person.review(person.find(digest))
        click.echo(as_text(review.lines), err=as_json)
        if not yes:
            click.confirm("Deny this request for good?", abort=True, err=True)
        recorded = person.deny(review)
    data = review_json(review) | {"log_index": recorded.index}
    show(data, f"\ndenied: log entry {recorded.index}", as_json=as_json)
