"""Whole releases inside one process: steps 4 to 6 over a log in memory, and where the time goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from benchmarks.access_parts.clockwork import Timing

from strongroom.access.engine import CedarEngine
from strongroom.keeper import service
from strongroom.keeper.service import Keeper
from strongroom.keys.recipient import RecipientKey
from strongroom.release import judge
from support.room import Room

WARM_UP: Final = 10


async def _released(count: int, watches: dict[str, _Watch]) -> list[tuple[float, float]]:
    room = await Room().furnish()
    request = await room.ask(max_uses=1000)
    dossiers = [await room.dossier(request, RecipientKey()) for _ in range(count + WARM_UP)]
    for dossier in dossiers[:WARM_UP]:
        await room.keeper.release(dossier)
    for watch in watches.values():
        watch.spent = 0.0
    took = []
    for dossier in dossiers[WARM_UP:]:
        wall, cpu = time.perf_counter(), time.thread_time()
        await room.keeper.release(dossier)
        took.append((1e6 * (time.perf_counter() - wall), 1e6 * (time.thread_time() - cpu)))
    return took


class _Watch:
    """Adds up the processor time that a function takes."""

    def __init__(self, owner: Any, name: str) -> None:
        self.spent = 0.0
        self._owner, self._name = owner, name
        self._inner: Callable[..., Any] = getattr(owner, name)

    def __enter__(self) -> None:
        setattr(self._owner, self._name, self._timed())

    def __exit__(self, *_error: object) -> None:
        setattr(self._owner, self._name, self._inner)

    def _timed(self) -> Callable[..., Any]:
        def timed(*args: Any, **members: Any) -> Any:
            began = time.thread_time()
            try:
                return self._inner(*args, **members)
            finally:
                self.spent += time.thread_time() - began

        return timed


def released(count: int, rounds: int) -> Timing:
    """Time releases under one grant, each with evidence and a recipient key of its own."""
    every = [asyncio.run(_released(count, {})) for _ in range(rounds)]
    means = sorted(sum(cpu for _wall, cpu in one) / count for one in every)
    wall = sorted(wall for one in every for wall, _cpu in one)
    return Timing(least=means[0], median=means[rounds // 2], p50=wall[len(wall) // 2], p99=wall[int(len(wall) * 0.99)])


def parts(count: int) -> dict[str, float]:
    """Return microseconds a release for parts of it; a part holds those that it calls."""
    watches = {
        "steps 4.1 to 4.9": _Watch(service, "examine"),
        "of them, the decision": _Watch(judge, "decide"),
        "of it, Cedar": _Watch(CedarEngine, "allows"),
        "keeping the decision": _Watch(Keeper, "_keep_decision"),
    }
    for watch in watches.values():
        watch.__enter__()
    try:
        asyncio.run(_released(count, watches))
    finally:
        for watch in watches.values():
            watch.__exit__()
    return {name: round(1e6 * watch.spent / count, 1) for name, watch in watches.items()}
