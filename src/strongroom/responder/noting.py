"""Has the deployment's log hold how far each record has come; who was told of an incident hears of its phases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from strongroom.core.clock import Clock, Instant
from strongroom.core.errors import StrongroomError
from strongroom.responder.cases import Case
from strongroom.responder.ports import Notes, Telling
from strongroom.response.entries import Phase

NOTE_SECONDS: Final = 600
"""How long the log may be behind a record whose phase is the same."""
LOG: Final = "log"


class Noting:
    """Remembers what the log was told.

    :param failed: hears of what the log doesn't hold yet; it is told again.
    """

    def __init__(
        self, notes: Notes, telling: Telling, clock: Clock, failed: Callable[[str, StrongroomError], None]
    ) -> None:
        self._notes = notes
        self._telling = telling
        self._clock = clock
        self._failed = failed
        self._noted: dict[str, tuple[Instant, Phase]] = {}

    async def keep(self, cases: Mapping[str, Case]) -> None:
        """Note every record: at its opening, at each new phase, and every ten minutes in between."""
        due = [case for case in tuple(cases.values()) if self._is_due(case)]
        # Of each at once: while the keeper doesn't answer, people hear all the same.
        for case in due:
            if any(name != LOG for name in case.told):
                self._telling.tell(case)
        # What is real comes first: the keeper takes so many a minute, and drills may be many.
        for case in sorted(due, key=lambda case: case.token is not None):
            phase, size = case.incident.phase, case.incident.size
            try:
                await self._notes.note(case)
                # Before the disk takes it: one that is full mustn't have the log told the same every few seconds.
                self._noted[case.id] = self._clock.now(), phase
                await case.was_told(LOG, size)
            except StrongroomError as error:
                self._failed("note", error)
                return

    def _is_due(self, case: Case) -> bool:
        at, before = self._noted.get(case.id, (0, None))
        news = before is not case.incident.phase or self._clock.now() - at >= NOTE_SECONDS
        return news and case.told.get(LOG) != case.incident.size
