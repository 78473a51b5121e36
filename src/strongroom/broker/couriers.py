"""Couriers carry notices to webhooks: one for each, one message under way at a time, each at its own pace.

None of them is waited for by anybody: a receiver that is slow, gone or hostile delays its own notices and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from strongroom.broker.noticeboard import NoticeBoard
from strongroom.broker.notices import Notice
from strongroom.broker.outbox import Failure, Outbox
from strongroom.broker.webhooks import AddressRefusedError, Message, NotTakenError, Webhook, message_of
from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError

WAIT_SECONDS: Final = 25.0
RELOAD_SECONDS: Final = 1.0
_SAVE_SECONDS: Final = 60.0
"""How often a place is kept that moved over entries that nobody is told of."""
_log = structlog.get_logger("strongroom.broker")


class SenderPort(Protocol):
    """Sends to one receiver."""

    async def send(self, message: Message) -> None:
        """Send a message once.

        :raises NotTakenError: it wasn't taken; its ``reason`` is a value of :class:`Failure`.
        :raises AddressRefusedError: the host leads where nothing is sent.
        """
        ...


class FilesPort(Protocol):
    """What is kept on disk for webhooks."""

    def stamp(self) -> object:
        """Return something that differs whenever the list of webhooks was changed."""
        ...

    def webhooks(self) -> tuple[Webhook, ...]:
        """Return the list of webhooks.

        :raises StrongroomError: it can't be read.
        """
        ...

    def place(self, name: str) -> int | None:
        """Return the index of the last entry that is settled for a webhook; None before the first."""
        ...

    def keep_place(self, name: str, place: int) -> None:
        """Keep it, durably."""
        ...

    def sender(self, webhook: Webhook) -> SenderPort:
        """Return what sends to a webhook.

        :raises StrongroomError: its secret or authority can't be read.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every courier is given: the board, the files, whose deployment it is, time and chance."""

    board: NoticeBoard
    files: FilesPort
    genesis: Digest
    clock: Clock
    chance: Callable[[], float]


class Courier:
    """Carries notices to one webhook. What was delivered is kept; a crash repeats at most what wasn't yet."""

    def __init__(self, webhook: Webhook, sender: SenderPort, around: Surroundings) -> None:
        self._webhook = webhook
        self._sender = sender
        self._around = around
        self._outbox = Outbox()
        self._place = 0
        self._kept = 0
        self._kept_at = 0.0

    async def run(self) -> None:
        """Carry until cancelled, or the board is closed: it would keep nobody waiting then."""
        await self._begin()
        loop = asyncio.get_running_loop()
        while not self._around.board.closed:
            pause = self._outbox.pause(loop.time())
            if not self._outbox.full:
                await self._fetch(WAIT_SECONDS if pause is None else min(pause, WAIT_SECONDS))
            elif pause:
                await asyncio.sleep(pause)
            notice = self._outbox.next(loop.time())
            if notice is not None:
                await self._carry(notice)

    async def _begin(self) -> None:
        files, name = self._around.files, self._webhook.name
        place = await asyncio.to_thread(files.place, name)
        if place is None:
            # A new webhook is told of what comes, not of what was.
            place = await self._around.board.end()
            await asyncio.to_thread(files.keep_place, name, place)
        self._place = self._kept = place

    async def _fetch(self, wait: float) -> None:
        page = await self._around.board.page(self._place, wait=wait)
        for notice in page.notices:
            if self._webhook.wants(notice):
                self._outbox.offer(notice)
        self._place = page.place
        if asyncio.get_running_loop().time() - self._kept_at >= _SAVE_SECONDS:
            await self._keep()

    async def _carry(self, notice: Notice) -> None:
        around, loop = self._around, asyncio.get_running_loop()
        try:
            await self._sender.send(message_of(around.genesis, notice))
        except (NotTakenError, AddressRefusedError) as error:
            failure = Failure.REFUSED if error.reason == Failure.REFUSED else Failure.UNREACHABLE
            told = {"webhook": self._webhook.name, "kind": notice.kind.value, "index": notice.index}
            told["cause"] = error.message
            if self._outbox.failed(notice, failure, now=loop.time(), at=around.clock.now(), chance=around.chance()):
                _log.error("gave up on a notice", **told)
                await self._keep()
            else:
                _log.warning("a notice wasn't taken", **told)
            return
        self._outbox.delivered(notice)
        await self._keep()

    async def _keep(self) -> None:
        settled = self._outbox.settled(self._place)
        self._kept_at = asyncio.get_running_loop().time()
        if settled != self._kept:
            await asyncio.to_thread(self._around.files.keep_place, self._webhook.name, settled)
            self._kept = settled


class Couriers:
    """One courier for each webhook on the list, as the list stands."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._running: dict[Webhook, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Keep couriers running until cancelled; a list that can't be read leaves those that run."""
        stamp: object = None
        try:
            while True:
                now = await asyncio.to_thread(self._around.files.stamp)
                if now != stamp:
                    stamp = now
                    await self._reload()
                await asyncio.sleep(RELOAD_SECONDS)
        finally:
            await self._stop(set(self._running))

    async def _reload(self) -> None:
        try:
            listed = await asyncio.to_thread(self._around.files.webhooks)
        except (StrongroomError, OSError) as error:
            told = error.message if isinstance(error, StrongroomError) else type(error).__name__
            _log.error("the webhooks can't be read; those that were stay", error=told)
            return
        await self._stop(self._running.keys() - set(listed))
        for webhook in listed:
            if webhook not in self._running:
                self._running[webhook] = asyncio.create_task(self._always(webhook), name=f"webhook-{webhook.name}")
        _log.info("webhooks", count=len(listed))

    async def _stop(self, webhooks: set[Webhook]) -> None:
        tasks = [self._running.pop(webhook) for webhook in webhooks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _always(self, webhook: Webhook) -> None:
        while not self._around.board.closed:
            try:
                sender = await asyncio.to_thread(self._around.files.sender, webhook)
                await Courier(webhook, sender, self._around).run()
            except Exception as error:  # noqa: BLE001 - one webhook's trouble must not end the others'
                told = error.message if isinstance(error, StrongroomError) else type(error).__name__
                _log.error("a webhook stands still", webhook=webhook.name, error=told)
            await asyncio.sleep(WAIT_SECONDS)
