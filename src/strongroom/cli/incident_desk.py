"""What the verbs of incidents share: the responder's door, and acts that a wallet's key signs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from strongroom.cli.session import open_wallet
from strongroom.core.clock import SystemClock
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.responder.adapters.desk_door import DeskDoor
from strongroom.responder.reading import DeskReader, Shown
from strongroom.response.acts import ACT_TYPE, NONCE_BYTES, Act, ActKind

F = TypeVar("F", bound=Callable[..., Any])
DESK_VARIABLE: Final = "STRONGROOM_DESK"


def desk_option(function: F) -> F:
    """Add ``--desk``, the responder's door; passed as ``desk``."""
    return click.option(
        "--desk",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar=DESK_VARIABLE,
        required=True,
        help=f"The responder's socket, `desk.sock` in its folder (or {DESK_VARIABLE}).",
    )(function)


def reader(desk: Path) -> DeskReader:
    """Return what reads at the responder's door, and hands in there."""
    return DeskReader(DeskDoor(desk))


def fetch(desk: Path, text: str) -> Shown:
    """Return the incident whose id begins so.

    :raises NotFoundError: none does. :raises UsageError: several do, or too little text.
    :raises BrokenRecordError: the responder shows something else.
    """
    asked = reader(desk)
    return asked.read(asked.find(text))


def act(
    desk: Path,
    wallet: Path,
    passphrase_fd: int | None,
    incident: str,
    kind: ActKind,
    facts: Mapping[str, str | int],
    *,
    found: Mapping[str, str] | None = None,
) -> int:
    """Sign an act with a wallet's key and hand it in; returns how many entries the record has then."""
    opened = open_wallet(wallet, passphrase_fd)
    genesis: Digest = opened.genesis().digest
    made = Act(
        genesis=genesis,
        incident=incident,
        person=opened.identity.person,
        at=SystemClock().now(),
        kind=kind,
        nonce=os.urandom(NONCE_BYTES),
        facts=facts,
        found=found or {},
    )
    # What is signed is what every reader parses: an act that nobody could read is refused here.
    payload = made.to_bytes()
    Act.parse(payload)
    return reader(desk).hand_in(sign(ACT_TYPE, payload, opened.signer()))
