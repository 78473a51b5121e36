"""Group commit: one writer takes whatever is queued, commits it once, and answers every caller of that batch.

A queue and one worker, not a lock: callers that fight for a lock starve each other, and small batches waste syncs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from strongroom.audit.entries import Entry, read_entry
from strongroom.audit.errors import (
    LogBusyError,
    LogHaltedError,
    LogOutcomeUnknownError,
    OutOfSequenceError,
    SuccessionError,
)
from strongroom.audit.facts import Producer
from strongroom.audit.sequencer import Batch, CheckpointSigner, Counters, EntryStore, make_batch, read_own
from strongroom.audit.space import Space, require_space
from strongroom.audit.succession import Opening, check_opening
from strongroom.core.errors import UsageError
from strongroom.core.events import EventName

MAX_BATCH: Final = 2048
MAX_APPEND: Final = 1024


@dataclass(frozen=True, slots=True)
class Receipt:
    """Durable: the entries stand at ``first`` and on, in the log of ``size`` entries that ``checkpoint`` signs."""

    first: int
    size: int
    checkpoint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A shard as the writer appends to it. ``base`` is the number of all entries before it.

    ``committed`` is called in the commit thread after each commit. ``opening`` is what the first entry must say.
    """

    store: EntryStore
    origin: str
    sign: CheckpointSigner
    committed: Callable[[Batch], None] = lambda _batch: None
    base: int = 0
    opening: Opening | None = None


def _no_other(_closing: Entry) -> None:
    raise OutOfSequenceError("no shard was prepared to go on with")


def _no_tree(_batch: Batch) -> Tree:
    raise OutOfSequenceError("no shard was prepared to go on with")


@dataclass(slots=True)
class _Waiting:
    entries: tuple[bytes, ...]
    closes: bool
    """Its last entry closes the shard: what was queued behind it belongs to the next."""
    length: int
    until: float
    done: asyncio.Future[Receipt]


class LogWriter:
    """The only way into the log. Bound to one event loop; commits run in ``executor``, which has one thread.

    ``prepared`` is given an entry that would close the shard, before it is queued, and raises unless it names the keys
    that were made for the next; ``succeed`` is called in the commit thread once it is durable, and opens that. ``lag``
    returns the bytes that derived copies still owe; above ``max_lag`` appends are refused, so that nothing grows
    without bound. ``space`` says how full the disk is.

    There is no switch to go on without the log: after one failed commit every append fails for as long as this process
    lives. A failed sync may have dropped the page, and a second try that succeeds would lie.
    """

    def __init__(
        self,
        tree: Tree,
        counters: Counters,
        *,
        executor: Executor,
        prepared: Callable[[Entry], None] = _no_other,
        succeed: Callable[[Batch], Tree] = _no_tree,
        lag: Callable[[], int] = lambda: 0,
        space: Callable[[], Space] = lambda: Space.AMPLE,
        max_queued: int = 4096,
        max_bytes: int = 16 << 20,
        wait_seconds: float = 5.0,
    ) -> None:
        self._tree = tree
        self._counters = counters
        self._executor = executor
        self._prepared = prepared
        self._succeed = succeed
        self._between = tree.base > 0 and tree.store.frontier.size == 0
        """Whether the entry queued last closed a shard: then the next one's opening is due."""
        self._lag = lag
        self._space = space
        self._max_lag = max_bytes
        self._max_queued = max_queued
        self._max_bytes = max_bytes
        self._wait = wait_seconds
        self._queue: deque[_Waiting] = deque()
        self._taken: list[_Waiting] = []
        self._queued = 0
        self._bytes = 0
        self._halted: str | None = None
        self._worker: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def halted(self) -> bool:
        """Whether the log takes nothing more in this process."""
        return self._halted is not None

    @property
    def tight(self) -> bool:
        """Whether space is short, so that nothing more should be begun."""
        return self._space() is not Space.AMPLE

    def next_seq(self, producer: Producer) -> int:
        """Return the counter that the producer's next entry must carry."""
        return self._counters.next(producer)

    def submit(self, entries: Sequence[bytes], *, by: Producer) -> asyncio.Future[Receipt]:
        """Queue entries in the order of the calls; the future ends when they are durable, or with an error.

        That error is LogHaltedError if the write failed, LogOutcomeUnknownError if it took too long: then it may
        still become durable.

        :raises LogHaltedError: an earlier write failed.
        :raises LogBusyError: the queue is full; nothing was queued.
        :raises LogFullError: the disk is nearly full, and this doesn't take access away; nothing was queued.
        :raises EntryError: a malformed entry; nothing was queued.
        :raises OutOfSequenceError: not the producer's next entry, or one that may not stand at a shard's end or
            beginning; nothing was queued.
        """
        if self._halted is not None:
            raise LogHaltedError(self._halted, remedy=_RESTART)
        if not 0 < len(entries) <= MAX_APPEND:
            raise UsageError(f"one append takes 1 to {MAX_APPEND} entries")
        length = sum(map(len, entries))
        if self._queued + len(entries) > self._max_queued or self._bytes + length > self._max_bytes:
            raise LogBusyError("the log writer's queue is full")
        if self._lag() > self._max_lag:
            raise LogBusyError("the published tiles lag too far behind the log")
        read = read_own(entries, by=by)
        if self._space() is Space.RESERVE:
            require_space(entry.event for entry in read)
        between = self._between_after(read)
        self._counters.admit(read)
        self._between = between
        loop = asyncio.get_running_loop()
        waiting = _Waiting(tuple(entries), between, length, loop.time() + self._wait, loop.create_future())
        self._queue.append(waiting)
        self._queued += len(entries)
        self._bytes += length
        if self._worker is None:
            self._worker = loop.create_task(self._work(), name="log-writer")
        if self._timer is None:
            self._timer = loop.call_at(waiting.until, self._expire)
        return waiting.done

    async def append(self, entries: Sequence[bytes], *, by: Producer) -> Receipt:
        """Queue entries and wait until they are durable. Raises what :meth:`submit` does and what ends its future."""
        # Whoever is cancelled here gives up its own future alone: its entries stay in an order that others follow.
        return await self.submit(entries, by=by)

    async def drain(self) -> None:
        """Wait until everything queued so far is durable or refused."""
        while self._worker is not None:
            await asyncio.shield(self._worker)

    def _expire(self) -> None:
        """End the waits that are over. One timer serves all: they end in the order in which they began."""
        loop, self._timer = asyncio.get_running_loop(), None
        for waiting in (*self._taken, *self._queue):
            if waiting.until > loop.time():
                self._timer = loop.call_at(waiting.until, self._expire)
                return
            if not waiting.done.done():
                waiting.done.set_exception(
                    LogOutcomeUnknownError(
                        f"the log didn't confirm the entry within {self._wait:g} seconds",
                        remedy="Treat the act as not done.",
                    )
                )

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._queue and self._halted is None:
                self._taken = taken = self._take()
                try:
                    base, batch = await loop.run_in_executor(self._executor, self._commit, taken)
                except Exception as error:  # noqa: BLE001 - whatever failed, the log must stop and say so
                    self._halt(taken, error)
                else:
                    self._answer(taken, base, batch)
        finally:
            self._worker, self._taken = None, []

    def _take(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        count = 0
        while self._queue and (not taken or count + len(self._queue[0].entries) <= MAX_BATCH):
            waiting = self._queue.popleft()
            taken.append(waiting)
            count += len(waiting.entries)
            if waiting.closes:
                break
        return taken

    def _between_after(self, read: Sequence[Entry]) -> bool:
        """Return whether a shard is closed by the last of these entries."""
        between = self._between
        for left, entry in enumerate(reversed(read)):
            if entry.event is EventName.SHARD_CLOSED and left:
                raise OutOfSequenceError("the entry that closes a shard is the last of its append")
        if (read[0].event is EventName.SHARD_CONTINUED) is not between:
            raise OutOfSequenceError("a closed shard is followed by the opening of the next, and by nothing else")
        if any(entry.event is EventName.SHARD_CONTINUED for entry in read[1:]):
            raise OutOfSequenceError("a shard is opened by its first entry alone")
        if read[-1].event is not EventName.SHARD_CLOSED:
            return False
        self._prepared(read[-1])
        return True

    def _commit(self, taken: list[_Waiting]) -> tuple[int, Batch]:
        tree = self._tree
        entries = [entry for waiting in taken for entry in waiting.entries]
        if tree.store.frontier.size == 0 and tree.opening is not None:
            # Written, it would spoil the log for every later reader: this log writer's next start among them.
            check_opening(read_entry(entries[0]), first=True, opening=tree.opening, genesis=None)
        end = tree.base + tree.store.frontier.size + len(entries)
        if taken[-1].closes and read_entry(entries[-1]).integer("base") != end:
            raise SuccessionError("the entry closes the shard at another place than where it stands")
        batch = make_batch(tree.store.frontier, entries, origin=tree.origin, sign=tree.sign)
        tree.store.commit(batch)
        tree.committed(batch)
        if taken[-1].closes:
            self._tree = self._succeed(batch)
        return tree.base, batch

    def _answer(self, taken: list[_Waiting], base: int, batch: Batch) -> None:
        first, size = base + batch.first, base + batch.size
        for waiting in taken:
            self._queued -= len(waiting.entries)
            self._bytes -= waiting.length
            if not waiting.done.done():
                waiting.done.set_result(Receipt(first, size, batch.checkpoint))
            first += len(waiting.entries)

    def _halt(self, taken: list[_Waiting], error: Exception) -> None:
        self._halted = f"the log writer halted: a commit failed ({getattr(error, 'code', type(error).__name__)})"
        for waiting in (*taken, *self._queue):
            if not waiting.done.done():
                waiting.done.set_exception(LogHaltedError(self._halted, remedy=_RESTART))
        self._queue.clear()
        self._queued = self._bytes = 0


_RESTART: Final = "Find out why the disk refused, then restart the log writer; it checks all entries before it goes on."
