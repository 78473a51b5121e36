"""``strongroom enclave gate``: a metered way out for an enclave that can't do without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click

from strongroom.cli.files import read_file
from strongroom.cli.seconds import Seconds
from strongroom.cli.session import json_option
from strongroom.enclave.gate.rules import Reading
from strongroom.enclave.gate.wiring import MAX_SETTINGS, Gate, read_settings

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_settings = click.argument("settings", type=_FILE)
_state = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The folder with the gate's record. It must outlive the machine's restart.",
)


@click.group("gate")
def gate() -> None:
    """Give an enclave named peers and counted bytes, where it can't do without a network. Needs root."""


@gate.command("open")
@_settings
@_state
@json_option
def open_gate(settings: Path, state: Path, *, as_json: bool) -> None:
    """Open the gate of the file SETTINGS: everything dropped first, then its peers, read back and probed."""
    made = _gate(settings, state)
    _tell(made, made.open(), as_json=as_json)


@gate.command("show")
@_settings
@_state
@json_option
def show(settings: Path, state: Path, *, as_json: bool) -> None:
    """Compare the kernel's rules with SETTINGS and print its counters. Exit code 6: they aren't the ones loaded."""
    made = _gate(settings, state)
    _tell(made, made.read(), as_json=as_json)


@gate.command("watch")
@_settings
@_state
@click.option("--seconds", type=Seconds(min=0), help="How long; for ever, if left out.")
@json_option
def watch(settings: Path, state: Path, seconds: float | None, *, as_json: bool) -> None:
    """Compare once a second, and let the next block through when one is half used. Whatever differs shuts the gate."""
    made, before = _gate(settings, state), [Reading(out=-1, back=0, limit_out=0, limit_in=0, passed=0, refused=0)]

    def told(now: Reading) -> None:
        if now != before[0]:
            before[0] = now
            _tell(made, now, as_json=as_json)

    made.watch(told, seconds=seconds)


@gate.command("freeze")
@_settings
@_state
@click.option("--cause", default="asked-for", show_default=True, help="Why, in a word.")
def freeze(settings: Path, state: Path, cause: str) -> None:
    """Drop everything at once. The gate stays shut, over restarts too, until its mark is removed by hand."""
    _gate(settings, state).freeze(ascii(cause)[1:-1][:96])
    click.echo("shut")


@gate.command("close")
@_settings
@_state
def close(settings: Path, state: Path) -> None:
    """Take the gate away. What its block had left counts as used."""
    _gate(settings, state).close()
    click.echo("closed")


def _gate(settings: Path, state: Path) -> Gate:
    return Gate(read_settings(read_file(settings, most=MAX_SETTINGS)), state)


def _tell(made: Gate, now: Reading, *, as_json: bool) -> None:
    settings = made.settings
    if as_json:
        facts = {"gate": settings.name, "out": now.out, "in": now.back, "passed": now.passed, "refused": now.refused}
        click.echo(json.dumps({**facts, "limit_out": now.limit_out, "limit_in": now.limit_in}, sort_keys=True))
        return
    click.echo(
        f"gate `{settings.name}`: {now.out:,} of {settings.bytes_out:,} bytes out, {now.back:,} of "
        f"{settings.bytes_in:,} in; {now.passed:,} packets passed, {now.refused:,} dropped"
    )
