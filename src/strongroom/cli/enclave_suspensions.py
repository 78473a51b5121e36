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
from strongroom.enclave.gateway.adapters.suspension_file import SuspensionFile
from strongroom.enclave.gateway.keys import principal_name

_STATE: Final = click.Path(path_type=Path, exists=True, file_okay=False)
_state = click.option("--state", type=_STATE, required=True, help="Governor's folder.")


@click.command("suspensions")
@click.argument("model")
@_state
@json_option
def suspensions(model: str, state: Path, *, as_json: bool) -> None:
    """List the credentials of MODEL's gateway that are suspended, and the last that were lifted."""
    standing = SuspensionFile(state, model_id(model)).standing()
    suspended: list[Json] = [
        {"principal": one.principal, "since": format_instant(one.since), "category": one.category.value}
        for _name, one in sorted(standing.suspended.items())
    ]
    lifted: list[Json] = [
        {"principal": one.principal, "at": format_instant(one.at), "reason": one.reason} for one in standing.lifted
    ]
    lines = [
        *(
            f"suspended  {one.principal}  since {format_instant(one.since)}  {one.category.value}"
            for _name, one in sorted(standing.suspended.items())
        ),
        *(f"lifted     {one.principal}  at {format_instant(one.at)}  {one.reason}" for one in standing.lifted),
    ]
    show({"suspended": suspended, "lifted": lifted}, lines or ["no credential is suspended"], as_json=as_json)


@click.command("lift")
@click.argument("model")
@click.argument("principal")
@_state
@click.option("--reason", required=True, help="Why, in one line; it is kept beside the record.")
def lift(model: str, principal: str, state: Path, reason: str) -> None:
    """Serve PRINCIPAL again by MODEL's gateway, which needn't be stopped. What was blocked before counts no more."""
    name, now = principal_name(principal), SystemClock().now()
    SuspensionFile(state, model_id(model)).change(lambda standing: standing.lift(name, reason, now))
    click.echo(f"lifted: `{name}` is served again")
