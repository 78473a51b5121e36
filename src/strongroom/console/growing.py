"""What one visit can't take in is read on beside the pages, by a thread, step by step: the index of a long log first.

The console has no identity of its own before the broker. So the log is read with the connection of whoever looked last,
and no longer than their session may last without a visit: they asked for a page that needs it, and it is what the
broker shows to everybody in the roster.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.reading.query import Query
from strongroom.audit.reading.search import Index, Places
from strongroom.audit.reading.view import LogView
from strongroom.console.door import IDLE_SECONDS
from strongroom.core.canonical import Json
from strongroom.core.errors import StrongroomError, TamperedError

NEAR: Final = 256
"""Entries at the log's end that a visit takes in itself, so that who did something sees it at once."""
REST: Final = 1.0
"""How long the thread rests after a step, in times of what the step took: half of one core is the pages'."""
LEAST_REST: Final = 0.05
"""Seconds: where somebody else lets the index grow, a step takes none."""


@dataclass(frozen=True, slots=True)
class _Loan:
    """Somebody's view of the log, and since when, by the monotonic clock."""

    view: LogView
    head: Checkpoint
    since: float


class ReadsOn:
    """Reads on in the log with the view of whoever looked last, step by step, until nothing is left for it.

    :param step: reads some of what is left; returns whether more is. It may end with the process at any place: what it
        writes, it writes whole or not at all.
    """

    def __init__(
        self,
        step: Callable[[LogView, Checkpoint], bool],
        *,
        name: str,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        note: Callable[[str, Mapping[str, Json]], None],
    ) -> None:
        self._step = step
        self._name = name
        self._monotonic = monotonic
        self._sleep = sleep
        self._note = note
        self._turn = threading.Lock()
        self._loan: _Loan | None = None
        self._thread: threading.Thread | None = None
        self._found: TamperedError | None = None

    def check(self) -> None:
        """Say to whoever comes next what was found wrong beside the pages, once.

        :raises TamperedError: something was.
        """
        with self._turn:
            found, self._found = self._found, None
        if found is not None:
            raise found

    def lend(self, view: LogView, head: Checkpoint) -> None:
        """Have it read on with this view."""
        with self._turn:
            self._loan = _Loan(view, head, self._monotonic())
            # One that couldn't be started, or that ended by an error of its own, isn't waited for.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._read_on, name=self._name, daemon=True)
                self._thread.start()

    def _read_on(self) -> None:
        while (loan := self._lent()) is not None:
            began = self._monotonic()
            try:
                if not self._step(loan.view, loan.head):
                    self._give_back(loan)
            except Exception as error:  # noqa: BLE001 - whatever ends one loan, the next visit's is another
                self._ended(loan, error)
            self._sleep(max(LEAST_REST, REST * (self._monotonic() - began)))

    def _lent(self) -> _Loan | None:
        """Return whose view to read on with, or end the thread."""
        with self._turn:
            if self._loan is None or self._monotonic() - self._loan.since > IDLE_SECONDS:
                self._loan = self._thread = None
            return self._loan

    def _give_back(self, loan: _Loan) -> None:
        with self._turn:
            if self._loan is loan:
                self._loan = None

    def _ended(self, loan: _Loan, error: Exception) -> None:
        why = error.code if isinstance(error, StrongroomError) else type(error).__name__
        self._note(f"{self._name} stopped", {"why": why})
        with self._turn:
            if isinstance(error, TamperedError):
                self._found = error
        self._give_back(loan)


class GrowsAside:
    """An :class:`~strongroom.audit.reading.search.Index` whose visits never wait for a long log."""

    def __init__(
        self,
        index: Index,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        note: Callable[[str, Mapping[str, Json]], None],
    ) -> None:
        self._index = index
        self._reach: int | None = None
        """How far the index goes, once somebody asked; what another thread reached meanwhile is told next time."""
        self._beside = ReadsOn(self._step, name="index", monotonic=monotonic, sleep=sleep, note=note)

    def update(self, view: LogView, head: Checkpoint) -> None:
        """Take in all of it."""
        self._index.update(view, head)

    def grow(self, view: LogView, head: Checkpoint) -> int:
        """Take in what is missing where that is little, else have it read on; returns how far the index goes.

        :raises LogError: as the index's own; what was found wrong beside the pages is told to the next who asks.
        """
        self._beside.check()
        if self._reach is None or head.size - self._reach <= NEAR:
            self._reach = self._index.grow(view, head)
        reach = self._reach
        if head.size - reach > NEAR:
            self._beside.lend(view, head)
        return reach

    def find(self, query: Query, limit: int, before: int) -> Places:
        """Return where to look."""
        return self._index.find(query, limit, before)

    def recorded(self, request: str) -> int | None:
        """Return where a request was recorded."""
        return self._index.recorded(request)

    def discard(self) -> None:
        """Forget everything."""
        self._index.discard()
        self._reach = 0

    def _step(self, view: LogView, head: Checkpoint) -> bool:
        if (self._reach or 0) < head.size:
            self._reach = self._index.grow(view, head)
        return self._reach is not None and self._reach < head.size
