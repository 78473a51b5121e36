"""``strongroom key destroy`` and ``key certificate``: a model's keys are destroyed for good, and what that reached."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.access.request import Action, Purpose
from strongroom.cli.asking import Why, act, asking, carry_out, why_options
from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, passphrase_option, session, write_file, yes_option
from strongroom.client.certificates import certificate_lines
from strongroom.client.requests import ask_to_destroy
from strongroom.core.canonical import parse
from strongroom.core.errors import UsageError
from strongroom.core.ids import model_id
from strongroom.release.destruction import verify_certificate


@click.command("destroy")
@click.argument("model", required=False)
@click.option("--request", "digest", help="Carry out this request, once it is approved and has waited.")
@why_options(Purpose.MAINTENANCE)
@as_wallet
@passphrase_option
@yes_option
@json_option
def destroy(
    model: str | None,
    digest: str | None,
    why: Why,
    wallet: Path,
    passphrase_fd: int | None,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Ask to destroy the keys of every version of MODEL; with --request, destroy them, once agreed on and waited for.

    From then on nobody opens the model again, and nobody can undo it. While it waits, `strongroom status` shows it, and
    a denial, a revocation of its grant or a freeze of the model stops it.
    """
    if (model is None) is (digest is None):
        raise UsageError("give either a model or --request")
    done = "the model's keys are being destroyed; what came of it: strongroom key certificate MODEL"
    with session(wallet, passphrase_fd) as person:
        if digest is not None:
            review = person.review(person.find(digest))
            if not yes:
                click.confirm(f"destroy every key of `{review.request.model}`, for good?", abort=True, err=True)
            carry_out(person, review.digest, Action.DESTROY, done=done, as_json=as_json)
            return
        trust = person.refresh()
        asked = asking(person, why)
        made = ask_to_destroy(trust, asked, model=model_id(model or ""))
        act(person, made, trust, verb="key destroy", done=done, as_json=as_json)


@click.command("certificate")
@click.argument("model")
@click.option("--again", is_flag=True, help="Ask the key services again; custodians may have answered, too.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the signed certificate here.")
@as_wallet
@json_option
def certificate(model: str, out: Path | None, wallet: Path, *, again: bool, as_json: bool) -> None:
    """Show the destruction certificate of MODEL: what is gone, who had its data keys, and what nobody reached."""
    with session(wallet) as person:
        person.refresh()
        name = model_id(model)
        envelope = person.api.certify(name) if again else person.api.certificate(name)
        told = verify_certificate(envelope, person.wallet.genesis())
    if told.model != name:
        raise UsageError("the server handed over another model's certificate")
    if out is not None:
        write_file(out, envelope.to_bytes())
    data = {"certificate": str(envelope.digest), "body": parse(envelope.payload)}
    show(data, [*certificate_lines(told)], as_json=as_json)
