"""The notice board tells what is in the log, all of it, in order, and only what the keeper signed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.audit.entries import make_entry
from strongroom.audit.facts import Producer
from strongroom.broker import noticeboard
from strongroom.broker.noticeboard import Announcing, NoticeBoard
from strongroom.broker.notices import Notice, NoticeKind, Priority
from strongroom.core.errors import DeniedError, UnavailableError, UsageError
from strongroom.core.events import EventName
from strongroom.core.signature import Ed25519Signer
from support.logs import AT, sample_facts
from support.notices import Log, Store, board, digest

pytestmark = pytest.mark.integration  # an event loop needs a socket pair
Act = Callable[[NoticeBoard], Awaitable[None]]


def following(told: NoticeBoard, act: Act) -> None:
    """Let a board follow its log while ``act`` runs."""

    async def both() -> None:
        task = asyncio.create_task(told.follow())
        try:
            await told.end()
            await asyncio.wait_for(act(told), 20)
        finally:
            task.cancel()

    asyncio.run(both())


async def everything(told: NoticeBoard, after: int) -> list[Notice]:
    """Read page by page up to the end."""
    found, end = list[Notice](), await told.end()
    while after < end:
        page = await told.page(after, wait=0)
        assert page.place > after
        found += page.notices
        after = page.place
    return found


def test_what_was_there_before_and_what_comes_are_told_alike() -> None:
    log = Log()
    first = log.ask("one")

    async def act(told: NoticeBoard) -> None:
        second = log.ask("two")
        log.add(EventName.REQUEST_APPROVED, request=digest("one"))
        found = await everything(told, 0)
        assert [(notice.index, notice.kind.value) for notice in found] == [
            (first, "request-created"),
            (second, "request-created"),
            (3, "request-approved"),
        ]
        assert found[2].asked == found[0].asked is not None

    following(board(log), act)


def test_a_reader_that_waits_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    # Who isn't woken looks for itself long after the reader has gone.
    monkeypatch.setattr(noticeboard, "LOOK_SECONDS", 1000.0)

    async def act(told: NoticeBoard) -> None:
        waiting = asyncio.create_task(told.page(0, wait=60))
        await asyncio.sleep(0.1)
        log.ask("one")
        told.wake()
        page = await waiting
        assert [notice.kind for notice in page.notices] == [NoticeKind.REQUEST_CREATED]

    following(board(log), act)


def test_what_nobody_announced_is_seen_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noticeboard, "LOOK_SECONDS", 0.05)
    log = Log()

    async def act(told: NoticeBoard) -> None:
        waiting = asyncio.create_task(told.page(0, wait=20))
        await asyncio.sleep(0.1)
        log.ask("one")
        assert len((await waiting).notices) == 1

    following(board(log), act)


def test_nothing_within_the_time_is_an_empty_page() -> None:
    async def act(told: NoticeBoard) -> None:
        page = await told.page(0, wait=0.05)
        assert (page.notices, page.place) == ((), 0)

    following(board(Log()), act)


def test_only_notices_of_one_request_where_they_are_asked_for() -> None:
    log = Log()

    async def act(told: NoticeBoard) -> None:
        waiting = asyncio.create_task(told.page(0, wait=20, request=digest("two")))
        log.ask("one")
        told.wake()
        await asyncio.sleep(0.2)
        assert not waiting.done()
        log.ask("two")
        told.wake()
        page = await waiting
        assert [notice.index for notice in page.notices] == [2]

    following(board(log), act)


def test_a_place_that_the_log_has_not_is_refused() -> None:
    async def act(told: NoticeBoard) -> None:
        with pytest.raises(UsageError, match="no entry"):
            await told.page(1, wait=0)

    following(board(Log()), act)


def test_a_closed_board_keeps_nobody_waiting() -> None:
    async def act(told: NoticeBoard) -> None:
        waiting = asyncio.create_task(told.page(0, wait=20))
        await asyncio.sleep(0.05)
        told.close()
        assert (await waiting).notices == ()
        assert (await told.page(0, wait=20)).notices == ()

    following(board(Log()), act)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 60), st.integers(1, 7), st.integers(1, 9))
def test_pages_leave_nothing_out_whatever_is_kept(asked: list[int], before: int, kept: int, size: int) -> None:
    log = Log()

    def add(what: int) -> None:
        if what == 0:
            log.add(EventName.KEEPER_UNLOCKED)
        elif what == 1:
            log.ask(f"r{len(log.entries)}", action="break-glass")
        else:
            log.ask("glass", action="break-glass")
            log.add(EventName.RELEASED, request=digest("glass"), use=1)

    for what in asked[:before]:
        add(what)

    async def act(told: NoticeBoard) -> None:
        for what in asked[before:]:
            add(what)
        found = await everything(told, 0)
        fresh = await everything(board(log), 0)
        assert found == fresh
        indices = [notice.index for notice in found]
        assert indices == sorted(indices)
        glass = sum(2 for what in asked if what > 1)
        assert sum(notice.kind.value.startswith("break-glass") for notice in found) == glass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noticeboard, "KEPT", kept)
        patch.setattr(noticeboard, "PAGE_NOTICES", size)
        patch.setattr(noticeboard, "HISTORY", size)
        following(board(log), act)


@pytest.mark.parametrize("forged", [b"{}", b"\xff", None])
def test_an_entry_that_the_keeper_did_not_sign_gives_no_notice(forged: bytes | None) -> None:
    log = Log()
    event = EventName.REQUEST_CREATED
    mallory = Ed25519Signer.from_seed(b"m" * 32)
    facts = sample_facts(event)
    signed = make_entry(event, at=AT, by=Producer.KEEPER, seq=0, facts=facts, signer=mallory)
    log.entries.append(signed if forged is None else forged)
    after = log.ask("one")

    async def act(told: NoticeBoard) -> None:
        assert [notice.index for notice in await everything(told, 0)] == [after]

    following(board(log), act)


@pytest.mark.parametrize("row", [None, 0, 1, 2, 99])
def test_what_a_request_is_for_comes_from_the_log_whatever_a_row_says(row: int | None) -> None:
    log = Log()
    log.ask("other", action="freeze")
    log.ask("glass", action="break-glass")
    used = log.add(EventName.RELEASED, request=digest("glass"), use=2)
    store = Store({} if row is None else {str(digest("glass")): row})

    async def act(told: NoticeBoard) -> None:
        # A page of its own: a reader that begins here has seen neither request.
        (notice,) = (await told.page(used - 1, wait=0)).notices
        assert (notice.kind, notice.priority) == (NoticeKind.BREAK_GLASS_USED, Priority.PAGE)
        assert notice.asked is not None
        assert notice.asked.requester == "dana"

    following(board(log, store), act)


def test_a_released_key_without_any_recorded_request_pages() -> None:
    log = Log()
    log.add(EventName.RELEASED, request=digest("nowhere"))

    async def act(told: NoticeBoard) -> None:
        (notice,) = await everything(told, 0)
        assert (notice.kind, notice.priority) == (NoticeKind.RELEASED, Priority.PAGE)

    following(board(log), act)


def test_a_log_that_is_away_or_shorter_stops_notices_and_no_longer() -> None:
    log = Log()
    log.ask("one")

    async def act(told: NoticeBoard) -> None:
        kept, log.broken = log.entries[:], True
        with pytest.raises(UnavailableError):
            await told.end()
        log.broken = False
        del log.entries[1:]
        with pytest.raises(UnavailableError, match="shorter"):
            await told.end()
        log.entries[:] = kept
        log.ask("two")
        told.wake()
        assert len((await told.page(1, wait=5)).notices) == 1

    following(board(log), act)


def test_the_keepers_acts_wake_the_board_refusals_too() -> None:
    class Keeper:
        async def call(self, operation: str, **_members: object) -> None:
            if operation == "release":
                raise DeniedError("no")

    woken: list[str] = []

    async def act() -> None:
        keeper = Announcing(Keeper(), lambda: woken.append("woken"))  # type: ignore[arg-type]  # answers aren't read here
        for operation in ("status", "explain"):
            await keeper.call(operation)
        assert woken == []
        await keeper.call("submit")
        with pytest.raises(DeniedError):
            await keeper.call("release")
        assert woken == ["woken"] * 2

    asyncio.run(act())
