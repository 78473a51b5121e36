"""Other custodians for a running deployment: a plan, whose digest the root quorum's order names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from strongroom.cli.ceremony import read_cards
from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, open_wallet, read_file, write_file
from strongroom.client.custody import MAX_ESCROW_FILE, plan_lines
from strongroom.client.wiring import open_custody
from strongroom.core.canonical import Json
from strongroom.keys.escrow import EscrowPlan

_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@click.command("plan")
@click.option("--out", type=_FILE, required=True, help="Where the plan goes.")
@click.option(
    "--custodian", "custodians", multiple=True, required=True, metavar="NAME=FILE", help="One and their card."
)
@click.option("--threshold", type=int, required=True, help="How many custodians open the root key.")
@as_wallet
@json_option
def make_plan(out: Path, custodians: tuple[str, ...], threshold: int, wallet: Path, *, as_json: bool) -> None:
    """Write down who shall keep shares of the root key. Compare each card's digest with its owner, by voice.

    Where others keep shares already, carrying the order out also rotates the root key: the old shares open nothing
    that is made after it.
    """
    cards = read_cards(custodians)
    plan = EscrowPlan(
        genesis=open_wallet(wallet).genesis().digest,
        threshold=threshold,
        custodians=tuple(card.custodian for card in cards),
    )
    write_file(out, plan.to_bytes())
    _show(plan, out, as_json=as_json)


@click.command("show-plan")
@click.argument("file", type=_FILE)
@json_option
def show_plan(file: Path, *, as_json: bool) -> None:
    """Show the plan in FILE: root holders compare it before they sign an order with its digest."""
    _show(_read(file), file, as_json=as_json)


@click.command("hand-in")
@click.argument("file", type=_FILE)
@as_wallet
@json_option
def hand_in(file: Path, wallet: Path, *, as_json: bool) -> None:
    """Hand the plan in FILE to the keeper, which forgets it when it stops: do it before `strongroom key carry-out`."""
    plan = _read(file)
    with open_custody(open_wallet(wallet)) as api:
        api.plan(plan)
    show({"plan": str(plan.digest)}, f"handed in: {plan.digest}", as_json=as_json)


def _read(file: Path) -> EscrowPlan:
    return EscrowPlan.parse(read_file(file, most=MAX_ESCROW_FILE))


def _show(plan: EscrowPlan, file: Path, *, as_json: bool) -> None:
    custodians: list[Json] = [one.person for one in plan.custodians]
    data: Json = {"plan": str(plan.digest), "threshold": plan.threshold, "custodians": custodians}
    show(data, _lines(plan, file), as_json=as_json)


def _lines(plan: EscrowPlan, file: Path) -> Iterator[str]:
    yield from plan_lines(plan)
    yield f"next: strongroom key order adopt-escrow --subject {plan.digest} --out {file.with_suffix('.order')}"
