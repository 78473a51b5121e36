"""What ``doctor`` asks a running keeper about the keys: which are past their periods, and which no custodian opens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from strongroom.client.keys_shown import EpochShown, KekShown, KeysShown
from strongroom.core.clock import Instant
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ModelId, model_id
from strongroom.enclave.facts import Fact, FactState
from strongroom.ipc.adapters.client import UnixClient
from strongroom.keys.states import KeyState

_SECONDS: Final = 5.0
_PAGE: Final = 500
_MOST_PAGES: Final = 64
_MOST_KEYS: Final = 32_768
_MOST_MODELS: Final = 4096
_NAMED: Final = 8
"""Models that are named; the others are counted."""


def key_facts(home: Path, now: Instant) -> tuple[Fact, ...]:
    """Return what the keeper at ``home`` says of its keys; nothing where this user can ask none, or it is locked."""
    socket = home / "run" / "keeper.sock"
    if not socket.exists():
        return ()
    try:
        keys, closed = asyncio.run(_ask(socket))
    except (StrongroomError, OSError):
        return ()
    return tuple(judge(keys, closed, now))


def judge(keys: KeysShown, closed: Iterable[ModelId], now: Instant) -> Iterator[Fact]:
    """Say which keys are due, and which models one loss would end. Pure."""
    due = [*keys.due(now)]
    for text in due:
        what, _, command = text.partition(": ")
        yield Fact(
            name="key periods",
            state=FactState.DEGRADED,
            seen=what,
            lost="a key protects longer, or more, than it should",
            mend=command,
        )
    if not due:
        yield Fact(name="key periods", state=FactState.OK, seen="no key is past its period")
    shut = {*closed}
    apart = sorted({kek.model for kek in keys.keks if not kek.escrowed and kek.state is KeyState.ACTIVE})
    if apart:
        yield Fact(
            name="no escrow",
            state=FactState.DEGRADED,
            seen=f"irrecoverable, as the policy has it: {_named(apart)}",
            lost="when the key service or this machine is lost, they are",
            mend="",
        )
    if shut:
        yield Fact(
            name="no escrow",
            state=FactState.MISSING,
            seen=f"can't be opened now: {_named(sorted(shut))}",
            lost="what alone opens them isn't at hand; where it is lost, they are",
            mend="bring the key service back and start the keeper again",
        )


def _named(models: list[ModelId]) -> str:
    more = len(models) - _NAMED
    return ", ".join(models[:_NAMED]) + (f" and {more} more" if more > 0 else "")


async def _ask(socket: Path) -> tuple[KeysShown, tuple[ModelId, ...]]:
    client = UnixClient(socket, seconds=_SECONDS)
    try:
        keks: list[KekShown] = []
        for _page in range(_MOST_PAGES):
            after = keks[-1].model if keks else ""
            with await client.call("keys", after=after, count=_PAGE) as fields:
                generation, since = fields.integer("generation", least=1), fields.instant("since")
                epochs = fields.objects("epochs", EpochShown.read, most=_MOST_KEYS)
                page, more = fields.objects("keks", KekShown.read, most=_MOST_KEYS), fields.boolean("more")
            keks += page
            if not more or not page:
                break
        state = await client.call("status")
        closed = tuple(model_id(name) for name in state.texts("closed", most=_MOST_MODELS))
        return KeysShown(generation=generation, since=since, epochs=epochs, keks=tuple(keks)), closed
    finally:
        await client.close()
