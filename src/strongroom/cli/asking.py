"""What the verbs that make requests share: why, for how long, and what becomes of a request once it is recorded."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from strongroom.access.request import Action, Purpose, Request
from strongroom.cli.grouped import grouped
from strongroom.cli.output import end, show
from strongroom.cli.session import as_wallet, json_option, passphrase_option, read_file, session
from strongroom.client.requests import Asking
from strongroom.client.service import Session
from strongroom.client.trust import Trust
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.errors import ExitCode, UsageError

MAX_JUSTIFICATION: Final = 16 << 20
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Why something is asked for, as it was given."""

    purpose: str
    ticket: str
    justification: Path | None


def why_options(default: Purpose | None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add ``--purpose``, ``--ticket`` and ``--justification``; passed as ``why``."""
    return grouped(
        Why,
        "why",
        click.option(
            "--purpose",
            type=click.Choice([purpose.value for purpose in Purpose]),
            default=default.value if default else None,
            required=default is None,
            show_default=default is not None,
            help="Why.",
        ),
        click.option("--ticket", default="", help="The ticket that this is about."),
        click.option(
            "--justification",
            type=click.Path(path_type=Path, dir_okay=False),
            help="A file with the reasons; the request names its digest.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """How a verb was called that asks for a control act, or carries one out."""

    request: str | None
    """The request to carry out, by its digest or the beginning of it; None to make one."""
    why: Why
    wallet: Path
    passphrase_fd: int | None
    as_json: bool


def control_options(default: Purpose) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add ``--request``, and what every verb has that asks for something; passed as ``called``."""
    return grouped(
        Called,
        "called",
        click.option("--request", help="Carry out this request, once it is approved."),
        why_options(default),
        as_wallet,
        passphrase_option,
        json_option,
    )


def asking(person: Session, why: Why, *, window: str | None = None) -> Asking:
    """Return who asks, why and for how long."""
    reasons = None if why.justification is None else Digest.of(read_file(why.justification, most=MAX_JUSTIFICATION))
    return Asking(
        requester=person.wallet.identity.person,
        purpose=Purpose(why.purpose),
        ticket=why.ticket,
        now=person.clock.now(),
        window=None if window is None else seconds(window),
        justification=reasons,
        random_bytes=os.urandom,
    )


def seconds(text: str) -> int:
    """Read a span of time: ``90s``, ``30m``, ``8h``, ``2d``.

    :raises UsageError: another form.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", text)
    if found is None:
        raise UsageError("a span of time is written like `30m`, `8h` or `2d`")
    return int(found[1]) * _UNITS[found[2]]


def ask_or_carry_out(
    called: Called, action: Action, ask: Callable[[Session, Trust, Asking], Request], *, verb: str, done: str
) -> None:
    """Carry out the control request that was named; without one, make one as ``ask`` says, and :func:`act` on it."""
    with session(called.wallet, called.passphrase_fd) as person:
        if called.request is not None:
            carry_out(person, person.find(called.request), action, done=done, as_json=called.as_json)
            return
        trust = person.refresh()
        made = ask(person, trust, asking(person, called.why))
        act(person, made, trust, verb=verb, done=done, as_json=called.as_json)


def act(person: Session, request: Request, trust: Trust, *, verb: str, done: str, as_json: bool) -> None:
    """Record a control request, and carry it out unless others must approve it first; then the exit code is 4."""
    needed = person.approvals_needed(request, trust)
    _envelope, recorded = person.submit(request, trust)
    if needed:
        data: Json = {"request": str(request.digest), "log_index": recorded.index, "approvals_needed": needed}
        text = (
            f"recorded as {request.digest}, log entry {recorded.index}; {needed} people must approve it",
            f"then: strongroom {verb} --request {request.digest}",
        )
        show(data, text, as_json=as_json)
        end(ExitCode.PENDING)
    carry_out(person, request.digest, request.action, done=done, as_json=as_json)


def carry_out(person: Session, digest: Digest, *allowed: Action, done: str, as_json: bool) -> None:
    """Carry out a recorded control request."""
    recorded = person.control(digest, *allowed)
    data: Json = {"request": str(digest), "log_index": recorded.index}
    show(data, f"{done}: log entry {recorded.index}", as_json=as_json)
