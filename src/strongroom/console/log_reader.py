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
from strongroom.audit.reading.search import Index
from strongroom.audit.reading.view import LogView
from strongroom.client.log_view import BrokerLog
from strongroom.client.service import Session
from strongroom.console.exposures import Exposures, ReadSoFar
from strongroom.console.growing import OneStep
from strongroom.core.ids import ModelId


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
