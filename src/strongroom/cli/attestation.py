"""``strongroom attestation``: evidence and what it is judged with. Each of its commands is imported when it is used."""

from __future__ import annotations

from typing import Final

import click

from strongroom.cli.lazy import LazyGroup

# Command -> (module, object, what the list says of it). The text stands here so that `--help` imports nothing.
COMMANDS: Final[dict[str, tuple[str, str, str]]] = {
    "collateral": ("collateral", "collateral", "What makers publish: fetch, carry, import, see its age."),
    "collect": ("attestation_collect", "collect", "Have this machine's chip or devices make a statement."),
    "kept": ("attestation_kept", "kept", "Fetch what a release was proved by, as the log names it."),
    "policy": ("attestation_policy", "policy", "Print the strictest appraisal policy, to start from."),
    "result": ("attestation_result", "result", "Check a signed attestation result that you were shown."),
    "verify": ("attestation_verify", "verify", "Judge evidence in a file: genuine, then wanted."),
}


class _Commands(LazyGroup):
    commands_of = COMMANDS


@click.group(cls=_Commands)
def attestation() -> None:
    """Evidence of what runs where, and what chip makers publish to judge it by."""
