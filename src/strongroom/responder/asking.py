"""One approver more, for a while, for somebody whom the statistics find unusual: whom, how long, and how often.

Statistics are weak, so they stop nothing: all that follows from a finding is that one person more looks at what that
person asks for. The keeper takes it as a precaution, which ends by itself. Whoever can make somebody look unusual gains
no more than that, a few times an hour.

The alert's line in the responder's record names the person before anything is asked, and another says what came of it;
so a start asks what the last run was about to.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from strongroom.core.canonical import Json
from strongroom.core.clock import Clock, Instant, format_instant, parse_instant
from strongroom.core.errors import ConflictError, DeniedError, MalformedError, StrongroomError
from strongroom.core.ids import PersonId, person_id
from strongroom.detection.detector import Alert
from strongroom.responder.acting import Outcome, Record
from strongroom.responder.drilling import DRILL
from strongroom.responder.limits import HOUR
from strongroom.responder.settings import AskingSettings

POLL_SECONDS: Final = 5.0


class Doubts:
    """Decides of whom one approver more is asked.

    :param knows: tells whether somebody is in the roster: services and strangers ask for nothing.
    """

    def __init__(self, settings: AskingSettings, knows: Callable[[str], bool]) -> None:
        self._settings = settings
        self._knows = knows
        self._asked: dict[PersonId, Instant] = {}
        self._within: deque[Instant] = deque(maxlen=settings.an_hour)

    def person(self, alert: Alert, source: str, now: Instant) -> PersonId | None:
        """Return of whom an alert asks it, and count that; None where it asks nothing, or was asked often enough."""
        # A drill harms nobody.
        if alert.rule not in self._settings.rules or source == DRILL:
            return None
        person = _named(alert)
        if person is None or not self._knows(person):
            return None
        before = self._asked.get(person)
        if before is not None and now - before < self._settings.seconds // 2:
            # It stands for as long again at least.
            return None
        if len(self._within) == self._settings.an_hour and now - self._within[0] < HOUR:
            return None
        self.remember(person, now)
        return person

    def remember(self, person: PersonId, at: Instant) -> None:
        """Count what was asked, now or by the last run."""
        self._within.append(at)
        # Whoever isn't in the roster any more is asked nothing: there are no more of them than people.
        self._asked = {name: then for name, then in self._asked.items() if at - then < self._settings.seconds}
        self._asked[person] = at


def _named(alert: Alert) -> PersonId | None:
    name = alert.event.get("person", alert.event.get("requester"))
    try:
        return person_id(name) if isinstance(name, str) else None
    except MalformedError:
        return None


class Precautions(Protocol):
    """The keeper, as far as it takes precautions."""

    async def one_more_approver(self, person: str, seconds: int) -> None:
        """Have it stand, from now on for so long.

        :raises StrongroomError: it isn't known to stand.
        """
        ...


class Asker:
    """Asks the keeper, beside everything else, until it answers; what came of it goes into the record.

    :param failed: hears why the keeper wasn't reached; it is asked again.
    """

    def __init__(
        self,
        precautions: Precautions,
        record: Record,
        settings: AskingSettings,
        clock: Clock,
        failed: Callable[[str, StrongroomError], None],
    ) -> None:
        self._precautions = precautions
        self._record = record
        self._settings = settings
        self._clock = clock
        self._failed = failed
        self._waiting: dict[PersonId, str] = {}
        self._came = asyncio.Event()

    def recall(self, facts: Iterable[Mapping[str, Json]], doubts: Doubts) -> None:
        """Read what the last run asked, and what it was about to ask, while that still matters."""
        for line in facts:
            named = line.get("asks", line.get("asked"))
            if not isinstance(named, str):
                continue
            person, at = person_id(named), parse_instant(str(line.get("at", "")))
            self._waiting.pop(person, None)
            # Counted once: by the line that says it was about to be asked.
            if "asks" in line and self._clock.now() - at < self._settings.seconds:
                doubts.remember(person, at)
                self._waiting[person] = str(line.get("rule", ""))

    def hear(self, outcome: Outcome) -> None:
        """Take a decision once its alert is in the record. Returns without waiting."""
        person = outcome.decision.asks
        if person is not None:
            self._waiting[person] = outcome.decision.alert.rule
            self._came.set()

    async def serve(self) -> None:
        """Ask for ever."""
        while True:
            # Before they are asked: who comes meanwhile is asked at once.
            self._came.clear()
            for person, rule in tuple(self._waiting.items()):
                await self._ask(person, rule)
            try:
                async with asyncio.timeout(POLL_SECONDS if self._waiting else None):
                    await self._came.wait()
            except TimeoutError:
                continue

    async def _ask(self, person: PersonId, rule: str) -> None:
        told: dict[str, Json] = {"asked": person, "rule": rule, "hours": self._settings.hours}
        try:
            await self._precautions.one_more_approver(person, self._settings.seconds)
        except (DeniedError, ConflictError) as error:
            # Asking again changes nothing; the record has it.
            told["failed"] = error.reason
        except StrongroomError as error:
            self._failed(f"one approver more for {person}", error)
            return
        try:
            line = await self._record.append({"at": format_instant(self._clock.now()), **told})
        except StrongroomError as error:
            # Asked twice is asked once.
            self._failed("record", error)
            return
        if line is not None:
            self._record.settle(line)
        self._waiting.pop(person, None)
