"""``strongroom drill``: practise a playbook. A signed synthetic event goes through everything that a real one would."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import click

from strongroom.cli.incident_desk import DESK_VARIABLE, reader
from strongroom.cli.output import show
from strongroom.cli.seconds import Seconds
from strongroom.cli.session import as_wallet, json_option, open_wallet, passphrase_option
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.errors import NotFoundError
from strongroom.response.actions import Command
from strongroom.response.drills import (
    DRILL_TYPE,
    MOST_PACE,
    NONCE_BYTES,
    PACE,
    PRACTISED,
    drill_of,
    measure,
    planned_at_once,
    tabletop,
)
from strongroom.response.executor import due, withheld
from strongroom.response.wiring import playbook_called

POLL_SECONDS: Final = 0.25


@click.command("drill")
@click.argument("playbook", type=click.Choice(sorted(PRACTISED)))
@click.option("--tabletop", "on_table", is_flag=True, help="Print its questions as cards, and touch nothing.")
@click.option(
    "--pace", type=click.IntRange(1, MOST_PACE), default=PACE, show_default=True, help="Minutes between cards."
)
@click.option("--wait", type=Seconds(1, 600), default=30.0, show_default=True, help="Seconds to look on.")
@click.option("--desk", type=click.Path(path_type=Path), envvar=DESK_VARIABLE, help="The responder's socket.")
@as_wallet
@passphrase_option
@json_option
def drill(
    playbook: str,
    *,
    on_table: bool,
    pace: int,
    wait: float,
    desk: Path | None,
    wallet: Path,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Practise PLAYBOOK against stand-ins, and say how long it took and what was missed.

    A drill hides nothing: whatever real happens meanwhile is real.
    """
    if on_table:
        cards = tabletop(playbook_called(playbook), pace=pace)
        rows: list[Json] = [{"minute": one.minute, "text": one.text, "asks": one.asks} for one in cards]
        show({"cards": rows}, [f"{one.minute:>4} min  {one.asks}: {one.text}" for one in cards], as_json=as_json)
        return
    if desk is None:
        raise NotFoundError("no responder is named", remedy="name its socket with --desk")
    opened = open_wallet(wallet, passphrase_fd)
    token = drill_of(playbook, genesis=opened.genesis().digest, now=SystemClock().now(), nonce=os.urandom(NONCE_BYTES))
    envelope = sign(DRILL_TYPE, token.to_bytes(), opened.signer())
    reader(desk).hold_drill(envelope)
    _tell(_opened(desk, envelope.digest, wait), desk, playbook, wait, as_json=as_json)


def _opened(desk: Path, token: Digest, wait: float) -> str:
    ends, asked = time.monotonic() + wait, reader(desk)
    while time.monotonic() < ends:
        listed, _broken = asked.incidents()
        found = [row.incident for row in listed if row.drill == token]
        if found:
            return found[0]
        time.sleep(POLL_SECONDS)
    raise NotFoundError(
        f"nothing alerted within {wait:.0f} seconds: the drill was missed",
        remedy="see that a rule of the loaded pack names this playbook",
    )


def _tell(name: str, desk: Path, playbook: str, wait: float, *, as_json: bool) -> None:
    ends, planned = time.monotonic() + wait, planned_at_once(playbook_called(playbook))
    asked = reader(desk)
    while True:
        shown = asked.read(name)
        measured = measure(shown.entries, planned)
        runs = shown.runs.values()
        people = any(withheld(run) for run in runs)
        # What is under way isn't missed yet, also while people are asked.
        under_way = any(isinstance(one, Command) for run in runs for one in due(run))
        if not measured.missed or (people and not under_way) or time.monotonic() >= ends:
            break
        time.sleep(POLL_SECONDS)
    told = measured.to_json()
    rest = f"{'people are asked now' if people else 'it goes on'}: strongroom incident show {name[:12]}"
    lines = [f"{key:<20} {value}" for key, value in told.items()]
    show({"incident": name, **told, "waits_for_people": people}, [name, *lines, rest], as_json=as_json)
