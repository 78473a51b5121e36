"""``strongroom enclave serve suspensions`` and ``lift``: credentials that the screens suspended."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from strongroom.cli.files import json_option
from strongroom.cli.output import show
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock, format_instant
from strongroom.core.ids import model_id
from strongroom.enclave.gateway.adapters.suspension_file import SuspensionFolder
from strongroom.enclave.gateway.keys import principal_name
from strongroom.enclave.gateway.suspension import Lifting

_STATE: Final = click.Path(path_type=Path, exists=True, file_okay=False)
_state = click.option("--state", type=_STATE, required=True, help="Governor's folder.")


@click.command("suspensions")
@click.argument("model")
@_state
@json_option
def suspensions(model: str, state: Path, *, as_json: bool) -> None:
    """List the credentials of MODEL's gateway that are suspended, and the last that were lifted."""
    suspended: list[Json] = []
    lifted: list[tuple[Lifting, str]] = []
    lines: list[str] = []
    for one in SuspensionFolder(state, model_id(model)).all():
        lifted += [(lifting, one.principal) for lifting in one.lifted]
        if one.suspended is not None:
            since, category = format_instant(one.suspended.since), one.suspended.category.value
            suspended.append({"principal": one.principal, "since": since, "category": category})
            lines.append(f"suspended  {one.principal}  since {since}  {category}")
    ended: list[Json] = []
    for lifting, principal in sorted(lifted, key=lambda pair: pair[0].at):
        at = format_instant(lifting.at)
        ended.append({"principal": principal, "at": at, "reason": lifting.reason})
        lines.append(f"lifted     {principal}  at {at}  {lifting.reason}")
    show({"suspended": suspended, "lifted": ended}, lines or ["no credential is suspended"], as_json=as_json)


@click.command("lift")
@click.argument("model")
@click.argument("principal")
@_state
@click.option("--reason", required=True, help="Why, in one line; it is kept beside the record.")
def lift(model: str, principal: str, state: Path, reason: str) -> None:
    """Serve PRINCIPAL again by MODEL's gateway, which needn't be stopped. What was blocked before counts no more."""
    name, now = principal_name(principal), SystemClock().now()
    SuspensionFolder(state, model_id(model)).change(name, lambda standing: standing.lift(reason, now))
    click.echo(f"lifted: `{name}` is served again")
