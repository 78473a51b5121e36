"""``strongroom key ls``: the states and ages of the keys that open models, and which are due for rotation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, session
from strongroom.cli.status import destruction_lines, escrow_lines
from strongroom.client.keys_shown import KeysShown
from strongroom.client.trust import Trust
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant
from strongroom.keys.states import KeyState


@click.command("ls")
@click.option("--all", "everything", is_flag=True, help="Destroyed keys too.")
@as_wallet
@json_option
def list_keys(wallet: Path, *, everything: bool, as_json: bool) -> None:
    """List root generation, epochs and each model's KEKs: state (SP 800-57), age in days, and what is due.

    This is what the deployment says of itself; `strongroom audit ls --event keys` shows the entries that it rests on.
    """
    with session(wallet) as person:
        trust = person.refresh()
        keys, now = person.api.keys(), person.clock.now()
    data: Json = {
        **keys.to_json(now),
        "destructions": [one.to_json() for one in trust.destructions],
        "destroyed": [*trust.destroyed],
        "irrecoverable": [*trust.irrecoverable],
        "closed": [*trust.closed],
        "lost": [*trust.lost],
        "moves": [*_moves(keys, trust)],
    }
    lines = [*_lines(keys, now, everything=everything), *(f"due       {text}" for text in _moves(keys, trust))]
    show(data, [*lines, *destruction_lines(trust), *escrow_lines(trust)], as_json=as_json)


def _moves(keys: KeysShown, trust: Trust) -> Iterator[str]:
    """Return whose KEK stands in another tree than the policy wants: a rotation moves it."""
    wanted = {} if trust.policy is None else {terms.model: terms.recoverable for terms in trust.policy.models}
    for kek in keys.keks:
        if kek.state is KeyState.ACTIVE and wanted.get(kek.model, kek.escrowed) is not kek.escrowed:
            where = "still in escrow" if kek.escrowed else "in no escrow yet"
            yield f"the KEK of `{kek.model}` is {where}, against the policy: strongroom key rotate {kek.model}"


def _lines(keys: KeysShown, now: Instant, *, everything: bool) -> list[str]:
    lines = [f"root key  generation {keys.generation}, {_days(keys.since, now)}"]
    for epoch in keys.epochs:
        if everything or epoch.state is not KeyState.DESTROYED:
            apart = "" if epoch.escrowed else ", WITHOUT ESCROW"
            lines.append(f"epoch     {epoch.epoch}, {epoch.state.value}, {_days(epoch.created, now)}{apart}")
    for kek in keys.keks:
        if everything or kek.state is not KeyState.DESTROYED:
            apart = "" if kek.escrowed else ", WITHOUT ESCROW"
            lines.append(
                f"kek       {kek.model}  {kek.kek[:12]}  {kek.state.value}, {_days(kek.created, now)}, "
                f"epoch {kek.epoch}, {kek.data_keys} data keys{apart}"
            )
    return [*lines, *(f"due       {text}" for text in keys.due(now))]


def _days(since: Instant, now: Instant) -> str:
    days = max(0, now - since) // 86_400
    return f"{days} day{'' if days == 1 else 's'} old"
