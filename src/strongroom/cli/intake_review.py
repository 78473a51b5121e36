"""``strongroom intake review``: a person's yes or no to a delivery."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.intake_show import show_standing
from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, passphrase_option, read_file, session, write_file, yes_option
from strongroom.client.service import Session
from strongroom.core.canonical import Json
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import ConflictError, UsageError
from strongroom.intake.reviews import MAX_SIGNED, REVIEW_TYPE, Decision, Review
from strongroom.quarantine.adapters.delivery_folder import DeliveryFolder
from strongroom.quarantine.gate import checked, review_of, terms_of
from strongroom.release.errors import STATEMENT_KNOWN
from strongroom.release.statements import StatementKind


@click.command("review")
@click.argument("delivery", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--accept", is_flag=True, help="Let it in.")
@click.option("--deny", is_flag=True, help="Refuse it, for good: one denial is enough.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Where your signed review goes, for the operator."
)
@as_wallet
@passphrase_option
@yes_option
@json_option
def review(
    *,
    delivery: Path,
    accept: bool,
    deny: bool,
    out: Path | None,
    wallet: Path,
    passphrase_fd: int | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Sign what you make of DELIVERY, whose folder (or a copy of it, without `copy/`) its operator gave you.

    Without --accept or --deny it is shown, no more. Your word goes into the log: for this delivery as it stands, by its
    newest record.
    """
    if accept and deny:
        raise UsageError("a delivery is accepted or denied")
    folder = DeliveryFolder(delivery)
    standing = checked(folder)
    terms = terms_of(folder, standing)
    if not accept and not deny:
        show_standing(folder, standing, as_json=as_json)
        return
    if out is None:
        raise UsageError("a review goes into a file", remedy="give --out with the name of a file to make")
    decision = Decision.ACCEPT if accept else Decision.DENY
    with session(wallet, passphrase_fd) as person:
        who = person.wallet.identity.person
        said = review_of(terms, standing, who, decision)
        if terms.genesis != person.refresh().genesis.digest:
            raise ConflictError("the delivery was taken in for another deployment than your wallet's")
        if not yes:
            show_standing(folder, standing, as_json=False)
            click.confirm(f"{decision.value.capitalize()} this delivery as `{who}`?", abort=True, err=True)
        index = _hand_in(person, _signed(person, said, out))
    data: Json = {
        "delivery": said.delivery,
        "record": str(said.records),
        "decision": decision.value,
        "log_index": index,
        "review": str(out),
    }
    show(data, f"{decision.value}: it stands in the log; give {out} to the operator", as_json=as_json)


def _signed(person: Session, said: Review, out: Path) -> Envelope:
    """Sign a review and write it down before it is handed in, unless an interrupted call did."""
    if out.exists():
        envelope = Envelope.parse(read_file(out, most=MAX_SIGNED))
        if envelope.kind != REVIEW_TYPE or envelope.payload != said.to_bytes():
            raise ConflictError(f"`{out}` is there already, and isn't this review", remedy="choose another --out")
        return envelope
    envelope = sign(REVIEW_TYPE, said.to_bytes(), person.wallet.signer())
    write_file(out, envelope.to_bytes())
    return envelope


def _hand_in(person: Session, envelope: Envelope) -> int | None:
    try:
        return person.api.hand_in(StatementKind.INTAKE_REVIEW, envelope).index
    except ConflictError as error:
        if error.reason != STATEMENT_KNOWN:
            raise
        return None
