"""``strongroom status``: what is in force, checked against the caller's own wallet."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.cli.output import end, show
from strongroom.cli.session import as_wallet, json_option, session
from strongroom.client.render import printable
from strongroom.client.trust import Trust
from strongroom.core.canonical import Json
from strongroom.core.errors import ExitCode
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
    data: dict[str, Json] = {
        "deployment": trust.genesis.deployment,
        "genesis": str(trust.genesis.digest),
        "locked": trust.locked,
        "log": {"size": trust.head.size, "root": str(trust.head.root), "seen_before": before.log.size},
        "documents": {
            kind.value: {"epoch": seen.epoch, "digest": str(seen.digest)} for kind, seen in trust.seen.documents.items()
        },
        "models": {
            name: {"version": model.version, "manifest": str(model.manifest), "frozen": model.frozen}
            for name, model in sorted(trust.models.items())
        },
    }
    show(data, _lines(trust, before.log.size), as_json=as_json)
    if trust.locked:
        end(ExitCode.LOCKED)


def _lines(trust: Trust, before: int) -> list[str]:
    lines = [
        f"deployment        {trust.genesis.deployment}, {trust.genesis.digest}",
        f"keeper            {f'LOCKED: {printable(trust.cause)}' if trust.locked else 'unlocked'}",
        f"log               {trust.head.size} entries, root {trust.head.root}; continues the {before} seen before",
    ]
    for kind in DocumentKind:
        seen = trust.seen.documents.get(kind)
        lines.append(f"{kind.value:<16}  {f'epoch {seen.epoch}, {seen.digest}' if seen else 'none in force'}")
    for name, model in sorted(trust.models.items()):
        lines.append(f"model             {name} version {model.version}{', FROZEN' if model.frozen else ''}")
    return lines
