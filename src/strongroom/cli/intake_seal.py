"""``strongroom intake seal`` and ``discard``: the two ends of a delivery that passed its checks."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.access.request import Purpose
from strongroom.cli.asking import Why, asking, why_options
from strongroom.cli.intake_show import ended, show_standing
from strongroom.cli.output import progress_bar
from strongroom.cli.publishing import is_unfinished, waiting_for_approvals
from strongroom.cli.session import as_wallet, json_option, passphrase_option, read_file, session, yes_option
from strongroom.client.precautions import require_no_hold
from strongroom.client.publish import Waiting, publish
from strongroom.client.requests import Asking
from strongroom.client.service import Session
from strongroom.core.envelope import Envelope
from strongroom.core.errors import DeniedError
from strongroom.intake.reviews import MAX_SIGNED
from strongroom.intake.states import State
from strongroom.quarantine.adapters.delivery_folder import DeliveryFolder, delivery_folder
from strongroom.quarantine.gate import Gate, sealing_place
from strongroom.quarantine.wiring import gate, seal_copy
from strongroom.sealing.adapters.directory import read_envelope

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command("seal")
@click.argument("delivery", type=_FOLDER)
@click.option(
    "--review",
    "reviews",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A signed review. Repeatable.",
)
@click.option("--wait", is_flag=True, help="Where the sealing needs approvals, wait for them.")
@click.option("--window", help="How long the request to seal holds, e.g. 8h.")
@why_options(Purpose.PUBLISH)
@as_wallet
@passphrase_option
@json_option
def seal(
    *,
    delivery: Path,
    reviews: tuple[Path, ...],
    wait: bool,
    window: str | None,
    why: Why,
    wallet: Path,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Seal DELIVERY, from its encrypted copy, as the model's next version, once enough people accept it.

    The sealed model is in DELIVERY's folder `sealed`. The copy and its key are gone then. Interrupted: run it again.
    """
    said = [Envelope.parse(read_file(one, most=MAX_SIGNED)) for one in reviews]
    with session(wallet, passphrase_fd) as person, delivery_folder(delivery) as folder:
        gated = gate(person, folder)
        standing = gated.review(said)
        if standing.last.state is State.REVIEWED:
            asked = asking(person, why, window=window)
            _seal(person, folder, gated, asked, waiting_for_approvals() if wait else None)
            standing = gated.standing()
        show_standing(folder, standing, as_json=as_json)
        ended(standing)


def _seal(person: Session, folder: DeliveryFolder, gated: Gate, why: Asking, waiting: Waiting | None) -> None:
    standing = gated.standing()
    place, model, name = folder.sealed, standing.last.model, sealing_place(standing.last.delivery)
    # Sealed and registered before an interruption: only the record of it is missing. The keeper knows which it is.
    before = place.is_dir() and not is_unfinished(person, model, Path(name))
    if before and gated.sealed(read_envelope(place).digest):
        return
    try:
        with progress_bar("sealing") as progress:
            publish(
                person,
                seal_copy(person, folder, standing, progress),
                model=model,
                place=name,
                asking=why,
                waiting=waiting,
            )
    except DeniedError:
        # Perhaps it was registered, and only the answer lost.
        if not place.is_dir() or not gated.sealed(read_envelope(place).digest):
            raise
    else:
        gated.sealed(read_envelope(place).digest)


@click.command("discard")
@click.argument("delivery", type=_FOLDER)
@as_wallet
@passphrase_option
@yes_option
@json_option
def discard(*, delivery: Path, wallet: Path, passphrase_fd: int | None, yes: bool, as_json: bool) -> None:
    """Give DELIVERY up: recorded as refused, and its copy's key destroyed. What was delivered is untouched."""
    with session(wallet, passphrase_fd) as person, delivery_folder(delivery) as folder:
        gated = gate(person, folder)
        require_no_hold(person.refresh(), gated.standing().last.model)
        if not yes:
            click.confirm("Destroy the key of this delivery's copy, for good?", abort=True, err=True)
        sealed = read_envelope(folder.sealed).digest if folder.sealed.is_dir() else None
        standing = gated.withdraw(sealed)
        show_standing(folder, standing, as_json=as_json)
