"""``strongroom doctor``: what this host offers, what is lost without it, and the command that mends it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from strongroom.cli.doctor_self import examine_installation
from strongroom.cli.escrow_facts import escrow_facts
from strongroom.cli.files import json_option
from strongroom.cli.keeper_facts import held_facts, keeper_facts
from strongroom.cli.key_facts import key_facts
from strongroom.cli.root_parts import PartState, part_states
from strongroom.core.clock import SystemClock
from strongroom.core.errors import ExitCode, StrongroomError, UsageError
from strongroom.enclave.adapters.host_facts import host_facts
from strongroom.enclave.facts import Fact, FactState
from strongroom.keys.uri import Service

_FILE = click.Path(path_type=Path, dir_okay=False)
_SITE = "With --self: another environment's site-packages folder. Default: where this program runs from."


@click.command("doctor")
@click.option("--home", type=click.Path(path_type=Path), default=Path(), help="The deployment's folder.")
@click.option("--self", "installation", is_flag=True, help="Look at what is installed here instead of at the host.")
@click.option("--provenance", type=_FILE, help="With --self: how the wheel was built, signed.")
@click.option("--key", help="With --provenance: the signer's publishing key, or a file with it.")
@click.option("--sbom", type=_FILE, help="With --provenance: the bill of materials that came with the wheel.")
@click.option("--site", type=click.Path(path_type=Path, exists=True, file_okay=False), help=_SITE)
@json_option
def doctor(
    home: Path,
    provenance: Path | None,
    key: str | None,
    sbom: Path | None,
    site: Path | None,
    *,
    installation: bool,
    as_json: bool,
) -> None:
    """Say which protections this host gives, and whether both wraps of its deployment's root key open.

    One is the key service's; the other is the custodians', whose words nobody asks for here: the escrow is compared
    with the root key's generation and with the log, and its custodians with the roster. What a single loss would end is
    named: models that are in no escrow, too. So are keys that are past their periods.

    With --self: compare every installed file with what was built, and name what was changed, is missing or is nobody's.
    A program that was changed can say anything of itself: run it from elsewhere, and give --site.

    Exit code 7: one that enclaves can't do without is missing. With --self, 6: something isn't as it was built.
    """
    if installation:
        examine_installation(site, provenance, key, sbom, as_json=as_json)
        return
    if any((provenance, key, sbom, site)):
        raise UsageError("only `doctor --self` looks at what is installed", remedy="give --self")
    keeper = (*keeper_facts(home), *held_facts(home), *key_facts(home, SystemClock().now()))
    facts = (*host_facts(home), *_root_facts(home), *keeper)
    blocked = [fact for fact in facts if fact.blocks]
    if as_json:
        click.echo(json.dumps({"ready": not blocked, "facts": [fact.to_json() for fact in facts]}, indent=2))
    else:
        _print_table(facts)
        click.echo(_verdict(facts, blocked))
    if blocked:
        sys.exit(ExitCode.UNAVAILABLE)


def _root_facts(home: Path) -> tuple[Fact, ...]:
    try:
        if not (home / "keeper" / "keyring.json").exists():
            return ()
        states = part_states(home)
    except (StrongroomError, OSError):
        unread = "can't be read by this user", "whether it opens isn't known", "run as the keeper's user"
        return (_root_fact(FactState.DEGRADED, *unread),)
    return (*(_root_part(state) for state in states), *_escrow(home))


def _escrow(home: Path) -> tuple[Fact, ...]:
    try:
        return escrow_facts(home, SystemClock())
    except StrongroomError as error:
        return (
            Fact(name="escrow", state=FactState.DEGRADED, seen=error.message, lost="nothing is known of it", mend=""),
        )


def _root_part(state: PartState) -> Fact:
    if state.provider.service is Service.LOCAL:
        lost = "whoever copies the keeper's file can guess the passphrase offline"
        return _root_fact(FactState.DEGRADED, "local: under a passphrase", lost, "strongroom root-key move")
    if state.error is not None:
        lost = f"the keeper can't start: {state.error.message}"
        return _root_fact(FactState.MISSING, f"{state.provider} doesn't open", lost, state.error.remedy)
    return _root_fact(FactState.OK, f"{state.provider} opens ({', '.join(sorted(state.capabilities))})", "", "")


def _root_fact(state: FactState, seen: str, lost: str, mend: str) -> Fact:
    return Fact(name="root key", state=state, seen=seen, lost=lost, mend=mend)


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
