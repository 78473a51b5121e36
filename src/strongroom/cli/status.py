"""``strongroom status``: what is in force, checked against the caller's own wallet."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.output import end, show
from strongroom.cli.session import as_wallet, json_option, open_wallet, session
from strongroom.client.adapters.session_files import session_until
from strongroom.client.precautions import precaution_text
from strongroom.client.trust import Trust
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.errors import ExitCode
from strongroom.core.printable import printable
from strongroom.release.documents import DocumentKind


@click.command("status")
@as_wallet
@json_option
def status(wallet: Path, *, as_json: bool) -> None:
    """Show what is in force: documents and log verified against your wallet, models as the server tells them.

    Exit code 5: the keeper is locked. 6: what is shown is forged, rolled back or forked.
    """
    with session(wallet) as person:
        before = person.wallet.seen()
        trust = person.refresh()
    ends = session_until(open_wallet(wallet))
    until = None if ends is None else format_instant(ends)
    data: dict[str, Json] = {
        "session": {"until": until},
        "deployment": trust.genesis.deployment,
        "genesis": str(trust.genesis.digest),
        "locked": trust.locked,
        "log": {"size": trust.head.size, "root": str(trust.head.root), "seen_before": before.log.size},
        "documents": {
            kind.value: {"epoch": seen.epoch, "digest": str(seen.digest)} for kind, seen in trust.seen.documents.items()
        },
        "waiting": [
            {
                "kind": change.kind.value,
                "epoch": change.epoch,
                "document": str(change.document),
                "effective": format_instant(change.effective),
            }
            for change in trust.waiting
        ],
        "destructions": [one.to_json() for one in trust.destructions],
        "destroyed": [*trust.destroyed],
        "irrecoverable": [*trust.irrecoverable],
        "closed": [*trust.closed],
        "lost": [*trust.lost],
        "suspended": [*trust.suspended],
        "precautions": [one.to_json() for one in trust.precautions],
        "models": {
            name: {"version": model.version, "manifest": str(model.manifest), "frozen": model.frozen}
            for name, model in sorted(trust.models.items())
        },
    }
    show(data, _lines(trust, before.log.size, until), as_json=as_json)
    if trust.locked:
        end(ExitCode.LOCKED)


def destruction_lines(trust: Trust) -> list[str]:
    """Return what was agreed to be destroyed and can still be stopped, and what is gone."""
    waiting = [
        f"TO BE DESTROYED   {one.model}, from {format_instant(one.effective)} on, asked by {one.requester}; to stop "
        f"it: strongroom deny {one.request}"
        for one in trust.destructions
    ]
    return [*waiting, *(f"destroyed         {model}: strongroom key certificate {model}" for model in trust.destroyed)]


def escrow_lines(trust: Trust) -> list[str]:
    """Return which models no custodian can open, which of those the keeper can't open now, and which are lost."""
    return [
        *(f"IRRECOVERABLE     {model}: its keys are in no escrow" for model in trust.irrecoverable),
        *(f"NOT OPENABLE      {model}: the key service that alone opens it isn't at hand" for model in trust.closed),
        *(f"LOST              {model}: its keys are gone, and nobody destroyed them" for model in trust.lost),
    ]


def _lines(trust: Trust, before: int, until: str | None) -> list[str]:
    lines = [
        f"deployment        {trust.genesis.deployment}, {trust.genesis.digest}",
        f"keeper            {f'LOCKED: {printable(trust.cause)}' if trust.locked else 'unlocked'}",
        f"log               {trust.head.size} entries, root {trust.head.root}; continues the {before} seen before",
    ]
    if until is not None:
        lines.insert(1, f"session           until {until}")
    for kind in DocumentKind:
        seen = trust.seen.documents.get(kind)
        lines.append(f"{kind.value:<16}  {f'epoch {seen.epoch}, {seen.digest}' if seen else 'none in force'}")
    lines += [
        f"WAITING           {change.kind.value} epoch {change.epoch}, {change.document}, until "
        f"{format_instant(change.effective)}; to stop it: strongroom people object {change.document}"
        for change in trust.waiting
    ]
    lines += [*destruction_lines(trust), *escrow_lines(trust)]
    lines += [f"PRECAUTION        {precaution_text(one)}" for one in trust.precautions]
    lines += [f"suspended         {person}" for person in trust.suspended]
    for name, model in sorted(trust.models.items()):
        lines.append(f"model             {name} version {model.version}{', FROZEN' if model.frozen else ''}")
    return lines
