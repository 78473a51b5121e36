"""The index of a long log: no visit waits until it is through, and each says how far it went when it was asked."""

from __future__ import annotations

from functools import partial
from typing import Final

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.reading.query import Query
from strongroom.audit.reading.search import Index, Places
from strongroom.audit.reading.view import LogView
from strongroom.console.reading_on import ReadsOn

NEAR: Final = 256
"""Entries at the log's end that a visit takes in itself, so that who did something sees it at once."""


class Reached:
    """An index and how far it went when it was asked last; when it grows, whoever is one says."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._reach: int | None = None
        """None: nobody asked. What another thread reached meanwhile is told next time."""

    def update(self, view: LogView, head: Checkpoint) -> None:
        """Take in all of it."""
        self._index.update(view, head)

    def find(self, query: Query, limit: int, before: int) -> Places:
        """Return where to look."""
        return self._index.find(query, limit, before)

    def recorded(self, request: str) -> int | None:
        """Return where a request was recorded."""
        return self._index.recorded(request)

    def discard(self) -> None:
        """Forget everything: nothing is known any more."""
        self._index.discard()
        self._reach = 0


class OneStep(Reached):
    """The index in one visit: it takes in one step of what the log grew by, however often the visit looks."""

    def grow(self, view: LogView, head: Checkpoint) -> int:
        """Take in one step the first time; returns how far the index goes."""
        if self._reach is None:
            self._reach = self._index.grow(view, head)
        return self._reach


class GrowsAside(Reached):
    """An :class:`~strongroom.audit.reading.search.Index` whose visits never wait for a long log."""

    def __init__(self, index: Index, beside: ReadsOn) -> None:
        super().__init__(index)
        self._beside = beside

    def grow(self, view: LogView, head: Checkpoint) -> int:
        """Take in what is missing where that is little, else have it read on; returns how far the index goes.

        :raises LogError: as the index's own; what was found wrong beside the pages is told to the next who asks.
        """
        self._beside.check()
        if self._reach is None or head.size - self._reach <= NEAR:
            self._reach = self._index.grow(view, head)
        reach = self._reach
        if head.size - reach > NEAR:
            self._beside.later("log", partial(self._step, view, head))
        return reach

    def _step(self, view: LogView, head: Checkpoint) -> bool:
        if (self._reach or 0) < head.size:
            self._reach = self._index.grow(view, head)
        return self._reach is not None and self._reach < head.size
