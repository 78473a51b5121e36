"""Alerts on their way into incidents: each gets there once, also over a kill.

An alert is a line of the responder's own record before it is anything else. How many of those lines are dealt with is
kept beside the incidents, so a start finds the alerts that the last run recorded and did no more with.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.responder.cases import CaseStore
from strongroom.responder.record import Line
from strongroom.responder.signalling import Signalled, signalled_again

MAX_WAITING: Final = 1024
"""Alerts that wait for the disk; beyond that the oldest are let go of: the next start finds them in the record."""


class Lines(Protocol):
    """The responder's own record, as far as its alerts go."""

    def since(self, count: int) -> list[tuple[Line, bytes]]:
        """Return the lines after the first ``count``, as the last run left them; each is to be settled."""
        ...

    def settle(self, line: Line) -> int:
        """Take that a line is dealt with; returns how many are, from the first on."""
        ...


class Waiting:
    """Alerts that wait.

    :param failed: hears of what couldn't be read back.
    """

    def __init__(self, store: CaseStore, record: Lines, failed: Callable[[str, StrongroomError], None]) -> None:
        self._store = store
        self._record = record
        self._failed = failed
        self._alerts: deque[Signalled] = deque()
        self._kept = 0
        """How many lines the disk knows to be dealt with."""

    def load(self, host: str) -> None:
        """Take the alerts that the last run left."""
        try:
            self._kept = self._store.heard()
        except MalformedError as error:
            # All of them are looked at again, then: those that are in an incident are known there.
            self._failed("heard", error)
        for line, text in self._record.since(self._kept):
            found = None
            try:
                found = signalled_again(line, text, host=host)
            except MalformedError as error:
                self._failed("heard", error)
            if found is None:
                self._record.settle(line)
            else:
                self._alerts.append(found)

    def add(self, signalled: Signalled) -> None:
        """Have an alert wait. One that has no line, while the same waits without one, is the same told again."""
        if signalled.line is None and any(_is_same(one, signalled) for one in self._alerts):
            return
        self._alerts.append(signalled)
        while len(self._alerts) > MAX_WAITING:
            self._alerts.popleft()

    def pass_over(self, line: Line | None) -> None:
        """Take that a line of the record belongs in no incident."""
        if line is not None:
            self._record.settle(line)

    @property
    def first(self) -> Signalled | None:
        """The alert that has waited longest."""
        return self._alerts[0] if self._alerts else None

    def doubt(self, signalled: Signalled) -> None:
        """Keep an alert waiting that the disk may have taken half of."""
        if self.first is signalled:
            self._alerts[0] = replace(signalled, again=True)

    async def done(self, signalled: Signalled) -> None:
        """Take that an alert is in its incident, or can be in none.

        :raises UnavailableError: the disk refused: it still waits.
        """
        if signalled.line is not None:
            settled = self._record.settle(signalled.line)
            # Fewer than the disk knows: what it has is another record's, of before that one was put aside.
            if settled != self._kept:
                await asyncio.to_thread(self._store.save_heard, settled)
                self._kept = settled
        if self.first is signalled:
            self._alerts.popleft()


def _is_same(one: Signalled, other: Signalled) -> bool:
    return one.line is None and (one.alert.rule, one.alert.event, one.token) == (
        other.alert.rule,
        other.alert.event,
        other.token,
    )
