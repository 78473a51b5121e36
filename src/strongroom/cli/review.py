"""``strongroom people review`` and ``request review``: unused access, and break-glass openings, looked at later."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from strongroom.cli.grant import grant_row
from strongroom.cli.output import show, table
from strongroom.cli.session import as_wallet, json_option, read_file, session
from strongroom.cli.statements import save_draft
from strongroom.client import reviews
from strongroom.client.reviews import DAY, SOON, UNUSED
from strongroom.client.service import Session
from strongroom.client.statements import draft, read_statement
from strongroom.client.told import GrantShown
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import UsageError
from strongroom.personnel.statements import AccessDecision, AccessReview, BreakGlassReview, Outcome
from strongroom.release.statements import StatementKind

DANGER: Final = 0.9
"""Share of a cap from which on it is said."""
MAX_REPORT: Final = 16 << 20


@click.command("review")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option(
    "--unused", type=click.IntRange(min=0), default=UNUSED // DAY, show_default=True, help="Days without a use."
)
@click.option("--keep", multiple=True, help="A grant that stays, or how its digest begins; may repeat.")
@click.option("--remove", multiple=True, help="A grant that ends, or how its digest begins; may repeat.")
@as_wallet
@json_option
def review(
    file: Path | None, unused: int, keep: tuple[str, ...], remove: tuple[str, ...], wallet: Path, *, as_json: bool
) -> None:
    """List live grants that weren't used for a while, and caps nearly reached.

    With FILE, --keep and --remove, draft a decision on each of them for a reviewer to sign: none may be left out.
    """
    with session(wallet) as person:
        trust = person.refresh()
        now = person.clock.now()
        idle = reviews.unused(person.api.grants(), now, seconds=unused * DAY)
        if file is not None:
            decided = _decided(idle, keep, remove)
            statement = AccessReview(genesis=trust.genesis.digest, at=now, decisions=decided)
            read = read_statement(draft(StatementKind.ACCESS_REVIEW, statement.to_bytes()), trust.genesis)
            save_draft(file, read, as_json=as_json)
            return
        _list(person, idle, unused, now, as_json=as_json)


@click.command("review")
@click.argument("digest")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--outcome", type=click.Choice([one.value for one in Outcome]), required=True, help="What was found.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The report; named by its digest."
)
@as_wallet
@json_option
def review_break_glass(digest: str, file: Path, outcome: str, report: Path, wallet: Path, *, as_json: bool) -> None:
    """Draft in FILE the review of break-glass request DIGEST, for two people of another unit to sign."""
    with session(wallet) as person:
        trust, found = person.refresh(), person.find(digest)
    statement = BreakGlassReview(
        genesis=trust.genesis.digest,
        request=found,
        outcome=Outcome(outcome),
        report=Digest.of(read_file(report, most=MAX_REPORT)),
    )
    read = read_statement(draft(StatementKind.BREAK_GLASS_REVIEW, statement.to_bytes()), trust.genesis)
    save_draft(file, read, as_json=as_json)


def _list(person: Session, idle: list[GrantShown], unused: int, now: Instant, *, as_json: bool) -> None:
    known, caps = person.api.people()
    near = [cap for cap in caps if cap.people >= DANGER * cap.cap]
    lapsing = [*reviews.uncleared(known, now), *reviews.ending(known, now)]
    data: dict[str, Json] = {
        "unused": [one.to_json() for one in idle],
        "caps_in_danger": [{"access": cap.access, "people": cap.people, "cap": cap.cap} for cap in near],
        "vetting_lapses": [one.person for one in lapsing],
    }
    header = ("GRANT", "BY", "MODEL", "ACCESS", "USES", "LAST USED", "UNTIL")
    lines = [
        table([grant_row(one) for one in idle], header) if idle else f"no live grant is unused for {unused} days",
        *(f"cap in danger: {cap.people} of {cap.cap} people hold {cap.access} access" for cap in near),
        *(f"vetting lapses within {SOON // DAY} days, or has: {one.person}" for one in lapsing),
    ]
    show(data, lines, as_json=as_json)


def _decided(idle: list[GrantShown], keep: tuple[str, ...], remove: tuple[str, ...]) -> tuple[AccessDecision, ...]:
    decided: dict[str, AccessDecision] = {}
    for texts, stays in ((keep, True), (remove, False)):
        for text in texts:
            fitting = [one for one in idle if one.grant.value.hex().startswith(text.removeprefix("sha256:"))]
            if len(fitting) != 1:
                raise UsageError(f"{len(fitting)} of the unused grants begin with `{text[:80]}`")
            if str(fitting[0].grant) in decided:
                raise UsageError(f"`{text[:80]}` is decided on twice")
            decided[str(fitting[0].grant)] = AccessDecision(grant=fitting[0].grant, keep=stays)
    left = [one for one in idle if str(one.grant) not in decided]
    if left:
        raise UsageError(f"{len(left)} unused grants aren't decided on", remedy="give --keep or --remove for each")
    return tuple(decided.values())
