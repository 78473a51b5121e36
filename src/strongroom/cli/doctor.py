"""``strongroom doctor``: what this host offers, what is lost without it, and the command that mends it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from strongroom.core.errors import ExitCode
from strongroom.enclave.adapters.host_facts import host_facts
from strongroom.enclave.facts import Fact, FactState


@click.command("doctor")
@click.option("--home", type=click.Path(path_type=Path), default=Path(), help="The deployment's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(home: Path, *, as_json: bool) -> None:
    """Say which protections this host gives. Exit code 7: one that enclaves can't do without is missing."""
    facts = host_facts(home)
    blocked = [fact for fact in facts if fact.blocks]
    if as_json:
        click.echo(json.dumps({"ready": not blocked, "facts": [fact.to_json() for fact in facts]}, indent=2))
    else:
        _print_table(facts)
        click.echo(_verdict(facts, blocked))
    if blocked:
        sys.exit(ExitCode.UNAVAILABLE)


def _print_table(facts: tuple[Fact, ...]) -> None:
    wide = max(len(fact.name) for fact in facts)
    for fact in facts:
        click.echo(f"{fact.state.value:<8}  {fact.name:<{wide}}  {fact.seen}")
        if fact.state is not FactState.OK:
            for label, text in (("lost", fact.lost), ("mend", fact.mend)):
                click.echo(f"{'':<8}  {'':<{wide}}  {label}: {text}")


def _verdict(facts: tuple[Fact, ...], blocked: list[Fact]) -> str:
    if blocked:
        return f"\nNo enclave can run here until this is mended: {', '.join(fact.name for fact in blocked)}."
    weaker = sum(fact.state is not FactState.OK for fact in facts)
    return (
        "\nAll protections are there." if not weaker else f"\nEnclaves can run here, with {weaker} weaker protections."
    )
