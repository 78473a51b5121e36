"""The notice board: follows the log, keeps the newest notices in memory, and lets readers wait for the next.

All of it comes from the log, so nothing is missed across a restart: a reader says which entry it saw last. The broker's
acts only wake the board; whatever else is appended is seen within a second. An entry that the keeper didn't sign gives
no notice, whoever put it there.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from strongroom.audit.entries import Entry, read_entry, verify_entry
from strongroom.audit.errors import EntryError, EntryForgedError
from strongroom.broker.notices import KINDS, Asked, Notice, asked_of, notices_of, request_of
from strongroom.broker.ports import KeeperPort, LogPort, StorePort
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.errors import NotFoundError, StrongroomError, UnavailableError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.signature import PublicKey

LOOK_SECONDS: Final = 1.0
"""How long an entry that nobody woke the board for may stay unseen."""
PAUSE_SECONDS: Final = 0.025
"""Between two looks: under load, readers are woken this often and not at every entry."""
KEPT: Final = 4096
PAGE_NOTICES: Final = 200
"""How many notices one page has at most, but for a last entry that gives two."""
HISTORY: Final = 128
"""How many old entries one page reads: the event loop is shared with releases."""
_SILENT: Final = frozenset({"status", "explain", "challenge", "odometer"})
"""Operations of the keeper that append nothing."""
_log = structlog.get_logger("strongroom.broker")

Find = Callable[[Digest], Awaitable[int]]
"""Finds the entry that recorded a request by searching the log.

:raises NotFoundError: there is none within reach.
"""


@dataclass(frozen=True, slots=True)
class Page:
    """Notices in the order of the log, and the index of the last entry that was looked at."""

    notices: tuple[Notice, ...]
    place: int


class NoticeBoard:
    """Follows the log. Bound to one event loop."""

    def __init__(self, *, log: LogPort, store: StorePort, keeper_key: PublicKey, find: Find) -> None:
        self._log = log
        self._store = store
        self._keeper_key = keeper_key
        self._find = find
        self._recent: deque[Notice] = deque()
        self._floor = 0
        """From this entry on, ``recent`` is whole."""
        self._filled = 0
        """Up to this entry, which isn't among them."""
        self._size = 0
        """How many entries the log has, as far as is known; 0 before the first look."""
        self._asked: OrderedDict[Digest, Asked] = OrderedDict()
        self._looking = asyncio.Lock()
        self._filling = asyncio.Lock()
        self._reading_history = asyncio.Lock()
        self._woken = asyncio.Event()
        self._news = asyncio.Event()
        self.closed = False
        self.waiting: Counter[str] = Counter()
        """How many calls of each caller wait; whoever lets them wait counts."""

    # --- following ----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Look soon: something was probably appended."""
        self._woken.set()

    def close(self) -> None:
        """Let every reader that waits go on, and keep none waiting from now on: the process stops."""
        self.closed = True
        self._news.set()

    async def follow(self) -> None:
        """Look whenever woken, and every second, until cancelled."""
        before = ""
        while True:
            trouble = ""
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look is the remedy
                trouble = type(error).__name__
            if trouble != before:
                _log.warning("notices stand still", error=trouble) if trouble else _log.info("notices go on")
            before = trouble
            await asyncio.sleep(PAUSE_SECONDS)
            # Not `wait_for`: in Python 3.11 it may swallow the cancellation that ends this loop.
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._woken.wait()
            self._woken.clear()

    async def _look(self) -> None:
        async with self._looking:
            size, _checkpoint = await self._log.checkpoint()
            if self._size == 0:
                self._floor = self._filled = size
            if size < self._size:
                raise UnavailableError("the log is shorter than it was")
            if size > self._size:
                self._size = size
                news, self._news = self._news, asyncio.Event()
                news.set()

    async def _fill(self) -> None:
        # Only when somebody reads: entries cost time to verify, and releases need it more than an empty room does.
        async with self._filling:
            if self._size - self._filled > KEPT:
                self._recent.clear()
                self._floor = self._filled = self._size
            while self._filled < self._size:
                found, self._filled = await self._read(self._filled, self._size)
                self._recent.extend(found)
                while len(self._recent) > KEPT:
                    self._floor = self._recent.popleft().index + 1

    # --- reading ------------------------------------------------------------------------------------------------------

    async def end(self) -> int:
        """Return the index of the newest entry."""
        await self._look()
        return self._size - 1

    async def page(self, after: int, *, wait: float, request: Digest | None = None) -> Page:
        """Return the notices of entries after ``after``; without any, wait up to ``wait`` seconds for the first.

        A page may be empty before the time is over, when many entries without notices were looked at: ask again with
        its ``place``.

        :param request: only those about this request.
        :raises UsageError: the log isn't that long.
        """
        if after >= self._size:
            await self._look()
        if after >= self._size:
            raise UsageError("the log has no entry of that index", remedy="leave `after` out to begin at its end")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        place = after
        while True:
            news = self._news
            found, place = await self._since(place + 1)
            if request is not None:
                found = tuple(notice for notice in found if notice.request == request)
            left = deadline - loop.time()
            if found or place + 1 < self._filled or left <= 0 or self.closed:
                return Page(found, place)
            if place + 1 >= self._size:
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await news.wait()

    async def _since(self, start: int) -> tuple[tuple[Notice, ...], int]:
        if start >= self._floor:
            await self._fill()
        if start < self._floor:
            async with self._reading_history:
                found, stop = await self._read(start, min(self._floor, start + HISTORY))
            return tuple(found), stop - 1
        newest: list[Notice] = []
        for notice in reversed(self._recent):
            if notice.index < start:
                break
            newest.append(notice)
        newest.reverse()
        if len(newest) <= PAGE_NOTICES:
            return tuple(newest), self._filled - 1
        # Notices of one entry aren't parted: a place is an entry's index.
        last = newest[PAGE_NOTICES - 1].index
        return tuple(notice for notice in newest[: PAGE_NOTICES + 1] if notice.index <= last), last

    async def _read(self, start: int, stop: int) -> tuple[list[Notice], int]:
        entries = await self._log.read(start, min(HISTORY, stop - start))
        if not entries:
            raise UnavailableError("the log shows fewer entries than its checkpoint says")
        found: list[Notice] = []
        for index, data in enumerate(entries, start):
            entry = self._genuine(index, data)
            if entry is not None:
                found += notices_of(index, entry, await self._about(index, entry))
        return found, start + len(entries)

    def _genuine(self, index: int, data: bytes) -> Entry | None:
        try:
            entry = read_entry(data)
            if entry.event not in KINDS:
                return None
            verify_entry(entry, self._keeper_key)
        except (EntryError, EntryForgedError) as error:
            # Nothing that the keeper said: no notice of it, and no reason to miss the ones behind it.
            _log.error("a log entry isn't the keeper's", index=index, error=error.code)
            return None
        return entry

    # --- what a request was for ---------------------------------------------------------------------------------------

    async def _about(self, index: int, entry: Entry) -> Asked | None:
        request = request_of(entry)
        if request is None:
            return None
        asked = asked_of(entry) or self._asked.get(request) or await self._recorded(request)
        if asked is None:
            _log.error("the log shows no record of a request", index=index)
            return None
        self._asked[request] = asked
        self._asked.move_to_end(request)
        while len(self._asked) > KEPT:
            self._asked.popitem(last=False)
        return asked

    async def _recorded(self, request: Digest) -> Asked | None:
        # The store only says where to look. If it lies or is lost, the log is searched.
        with suppress(StrongroomError):
            row = await self._store.request(str(request))
            if row is not None and row.log_index is not None:
                asked = await self._asked_at(row.log_index, request)
                if asked is not None:
                    return asked
        try:
            return await self._asked_at(await self._find(request), request)
        except NotFoundError:
            return None

    async def _asked_at(self, index: int, request: Digest) -> Asked | None:
        for data in await self._log.read(index, 1):
            entry = self._genuine(index, data)
            if entry is not None and request_of(entry) == request:
                return asked_of(entry)
        return None


class Announcing:
    """The keeper, with the notice board woken whenever it may have appended something, refusals too."""

    def __init__(self, keeper: KeeperPort, wake: Callable[[], None]) -> None:
        self._keeper = keeper
        self._wake = wake

    async def call(self, operation: str, **members: Json) -> Fields:
        """Call the keeper; raises as it does."""
        try:
            return await self._keeper.call(operation, **members)
        finally:
            if operation not in _SILENT:
                self._wake()
