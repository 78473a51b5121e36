"""Moving data keys: after a model's KEK was rotated, the store's rows are handed to the keeper and stored as it says.

The broker sees wrapped bytes before and after, and can't tell whether they are right; the keeper counts a row as moved
only when the store shows it in its new form. So every row is handed in twice, and what a crash, a concurrent write or a
hostile database kept from being stored is handed in until it is there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

import structlog

from strongroom.broker.ports import KeeperPort, StorePort, WrappedRow
from strongroom.broker.rows import stored_wrapped, wrapped_text
from strongroom.core.canonical import Json
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import reading
from strongroom.release.dossier import WrappedDataKey

BATCH: Final = 128
PAGE: Final = 256
IDLE_SECONDS: Final = 300.0
"""How long until what couldn't be moved is tried again."""
_log = structlog.get_logger("strongroom.broker")


class KeyMover:
    """Moves data keys whenever a model waits for it."""

    def __init__(self, keeper: KeeperPort, store: StorePort, woken: asyncio.Event) -> None:
        self._keeper = keeper
        self._store = store
        self._woken = woken

    async def follow(self) -> None:
        """Move what waits, now, after each rotation, and now and then; until cancelled."""
        while True:
            self._woken.clear()
            try:
                await self.move_all()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next round is the remedy
                code = error.reason if isinstance(error, StrongroomError) else type(error).__name__
                _log.warning("data keys weren't moved", code=code)
            with contextlib.suppress(TimeoutError):
                # Not `wait_for`: that one can lose a cancellation that comes together with the event.
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._woken.wait()

    async def move_all(self) -> int:
        """Move the data keys of every model that waits for it; returns how many models have no old KEK any more.

        :raises StrongroomError: the keeper or the store isn't there.
        """
        after, done = "", 0
        while True:
            with await self._keeper.call("key-moves", after=after, count=PAGE) as answer:
                models = answer.texts("models", most=PAGE, max_length=64)
            if not models:
                return done
            for model in models:
                done += await self.move(model)
            after = models[-1]

    async def move(self, model: str) -> bool:
        """Move a model's data keys: one round hands out, the next shows what is stored. Tells whether all are moved.

        :raises StrongroomError: the keeper or the store isn't there.
        """
        left: tuple[str, ...] = ()
        for last in (False, True):
            after = ""
            while True:
                rows = await self._store.wrapped_rows(model, after=after, limit=BATCH)
                retired, left = await self._batch(model, rows, complete=last and len(rows) < BATCH)
                if retired:
                    return True
                if len(rows) < BATCH:
                    break
                after = rows[-1].data_key
        # Named for whoever looks: their rows are missing, or aren't what the broker once stored.
        _log.warning("data keys of a model don't move", model=model, count=len(left), first=list(left[:8]))
        return False

    async def _batch(self, model: str, rows: Sequence[WrappedRow], *, complete: bool) -> tuple[bool, tuple[str, ...]]:
        readable: list[tuple[WrappedRow, WrappedDataKey]] = []
        for row in rows:
            with contextlib.suppress(StrongroomError):
                readable.append((row, stored_wrapped(row.body)))
        handed: list[Json] = [wrapped.to_json() for _row, wrapped in readable]
        with await self._keeper.call("rewrap", model=model, rows=handed, complete=complete) as answer:
            came = [None if item is None else _wrapped(item) for _where, item in answer.items("rows", most=BATCH)]
            left, retired = answer.texts("left", most=BATCH, max_length=64), answer.boolean("retired")
        changes = [
            (row, wrapped_text(after))
            for (row, before), after in zip(readable, came, strict=True)
            if after is not None and after != before
        ]
        if changes:
            await self._store.swap_wrapped(changes)
        return retired, left


def _wrapped(item: Json) -> WrappedDataKey:
    with reading(item, "row") as fields:
        return WrappedDataKey.read(fields)
