"""The log, as everybody who is signed in reads it here: one index and one memory of what was proven, for all of them.

What they hold is what the broker shows to every person of the roster. Nobody gets at it without having been let in by
the broker in the same visit: each look begins with the log's head, asked with the visitor's own certificate.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.reading.exposure import Window
from strongroom.audit.reading.proven import Found, ProvenEntries
from strongroom.audit.reading.query import Query
from strongroom.audit.reading.search import Index, Places
from strongroom.audit.reading.view import LogView
from strongroom.client.log_view import BrokerLog
from strongroom.client.service import Session
from strongroom.console.exposures import Exposures, ReadSoFar
from strongroom.core.ids import ModelId


class OneStep:
    """The index in one visit: it takes in one step of what the log grew by, however often the visit looks."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._reach: int | None = None

    def update(self, view: LogView, head: Checkpoint) -> None:
        """Take in all of it."""
        self._index.update(view, head)

    def grow(self, view: LogView, head: Checkpoint) -> int:
        """Take in one step the first time; returns how far the index goes."""
        if self._reach is None:
            self._reach = self._index.grow(view, head)
        return self._reach

    def find(self, query: Query, limit: int, before: int) -> Places:
        """Return where to look."""
        return self._index.find(query, limit, before)

    def recorded(self, request: str) -> int | None:
        """Return where a request was recorded."""
        return self._index.recorded(request)

    def discard(self) -> None:
        """Forget everything: nothing is known any more in this visit."""
        self._index.discard()
        self._reach = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """The log in one visit: its head was verified, and no other is asked for."""

    view: LogView
    head: Checkpoint
    index: OneStep

    @property
    def size(self) -> int:
        """Its entries."""
        return self.head.size


@dataclass(frozen=True, slots=True)
class LogReader:
    """Where to look, and what was looked at. Shared by all visits."""

    index: Index
    proven: ProvenEntries = field(default_factory=ProvenEntries)
    exposures: Exposures = field(default_factory=Exposures)

    def open(self, session: Session) -> Opened:
        """Ask for the log's head as the person whose session it is.

        :raises StrongroomError: as :meth:`~strongroom.client.log_view.BrokerLog.head`, or they aren't let in any more.
        """
        # No waiting for one's turn here: a page that takes minutes is none.
        view = BrokerLog(session, lambda _seconds: None)
        return Opened(view, view.head(), OneStep(self.index))

    def look(self, log: Opened, query: Query, limit: int, before: int) -> Found:
        """Return the newest ``limit`` entries before ``before`` that answer a query, oldest first, each proven."""
        return self.proven.look(log.view, log.head, log.index, query, limit, before)

    def search(self, log: Opened, query: Query, limit: int, before: int) -> Found:
        """Return what :meth:`look` does, as far as the index looks at once: ``looked`` says from where to go on."""
        return self.proven.search(log.view, log.head, log.index, query, limit, before)

    def sample(self, log: Opened, query: Query, most: int) -> Found:
        """Return at most ``most`` of the entries that answer a query, evenly chosen, the newest too, each proven."""
        return self.proven.sample(log.view, log.head, log.index, query, most)

    def exposure(self, log: Opened, model: ModelId, window: Window) -> ReadSoFar:
        """Return what the log says of a model's exposure, as far as it's read: a visit reads some, and others follow.

        :raises LogError: the log isn't what was signed.
        """
        return self.exposures.look(log.view, log.head, log.index, model, window)
