"""The broker moves data keys: what was stored meanwhile stands, what can't be read is passed over, all is retried."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.broker.adapters.store import Store
from strongroom.broker.mover import BATCH, KeyMover
from strongroom.broker.ports import WrappedRow
from strongroom.broker.rows import stored_wrapped, wrapped_text
from strongroom.core.canonical import Json
from strongroom.core.errors import UnavailableError
from strongroom.core.fields import Fields
from strongroom.keys.wrapping import WrappedKey
from strongroom.release.dossier import WrappedDataKey

pytestmark = pytest.mark.integration
MODEL = "atlas"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "broker.db")
    yield opened
    opened.close()


def row(name: str, kek: str = "old") -> WrappedRow:
    wrapped = WrappedDataKey(data_key=name, kek=kek, data=WrappedKey(bytes(12), bytes(48)))
    return WrappedRow(data_key=name, model=MODEL, version=1, body=wrapped_text(wrapped))


class Keeper:
    """Moves every row to the KEK `new`, and retires the old one when it saw all of them there."""

    def __init__(self, names: set[str]) -> None:
        self.left = set(names)
        self.calls: list[tuple[int, bool]] = []
        self.down = 0

    async def call(self, operation: str, **members: Json) -> Fields:
        if self.down:
            self.down -= 1
            raise UnavailableError("the keeper isn't there")
        if operation == "key-moves":
            waits = self.left and members["after"] == ""
            return Fields({"models": [MODEL] if waits else []}, "answer")
        rows = members["rows"]
        assert isinstance(rows, list)
        self.calls.append((len(rows), bool(members["complete"])))
        came: list[Json] = []
        for one in rows:
            assert isinstance(one, dict)
            if one["kek"] == "new":
                self.left.discard(str(one["data_key"]))
            came.append({**one, "kek": "new"})
        left: list[Json] = [*sorted(self.left)[:64]]
        return Fields({"rows": came, "left": left, "retired": not self.left}, "answer")


async def filled(store: Store, count: int) -> set[str]:
    for number in range(count):
        await store.put_wrapped(row(f"dk-{number:04}"))
    return {f"dk-{number:04}" for number in range(count)}


async def keks(store: Store) -> set[str]:
    return {stored_wrapped(one.body).kek for one in await store.wrapped_rows(MODEL, after="", limit=1000)}


def test_every_row_is_moved_in_batches_and_shown_once_more(store: Store) -> None:
    async def story() -> None:
        keeper = Keeper(await filled(store, 2 * BATCH + 3))
        assert await KeyMover(keeper, store, asyncio.Event()).move_all() == 1
        assert keeper.calls == [(BATCH, False), (BATCH, False), (3, False), (BATCH, False), (BATCH, False), (3, True)]
        assert await keks(store) == {"new"}
        assert await KeyMover(keeper, store, asyncio.Event()).move_all() == 0

    asyncio.run(story())


def test_a_model_without_rows_is_finished_too(store: Store) -> None:
    async def story() -> None:
        keeper = Keeper({"never-stored"})
        assert not await KeyMover(keeper, store, asyncio.Event()).move(MODEL)
        assert keeper.calls == [(0, False), (0, True)]

    asyncio.run(story())


def test_what_was_stored_meanwhile_isnt_overwritten(store: Store) -> None:
    async def story() -> None:
        await filled(store, 2)
        read = await store.wrapped_rows(MODEL, after="", limit=9)
        await store.put_wrapped(row("dk-0000", "newest"))
        changes = [(one, one.body.replace("old", "new")) for one in read]
        assert await store.swap_wrapped(changes) == 1
        assert await keks(store) == {"newest", "new"}

    asyncio.run(story())


def test_a_row_that_cant_be_read_holds_up_no_other(store: Store) -> None:
    async def story() -> None:
        names = await filled(store, 3)
        await store.put_wrapped(WrappedRow(data_key="dk-0001", model=MODEL, version=1, body="[]"))
        keeper = Keeper(names)
        assert not await KeyMover(keeper, store, asyncio.Event()).move(MODEL)
        assert keeper.left == {"dk-0001"}
        await store.put_wrapped(row("dk-0001"))
        assert await KeyMover(keeper, store, asyncio.Event()).move(MODEL)

    asyncio.run(story())


def test_it_goes_on_when_the_keeper_is_back(store: Store) -> None:
    async def story() -> None:
        keeper, woken = Keeper(await filled(store, 2)), asyncio.Event()
        keeper.down = 2
        following = asyncio.create_task(KeyMover(keeper, store, woken).follow())
        while keeper.left:
            await asyncio.sleep(0.01)
            woken.set()
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        assert await keks(store) == {"new"}

    asyncio.run(story())
