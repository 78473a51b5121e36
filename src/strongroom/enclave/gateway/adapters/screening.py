"""Screens at work: all that look at a direction judge each passage, and what is blocked counts against its principal.

The text that was judged goes nowhere from here. What is written down is whose it was, which screen, and a category.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from strongroom.core.clock import Clock
from strongroom.enclave.gateway.adapters.classifier import Classifier
from strongroom.enclave.gateway.adapters.http_screen import HttpScreen
from strongroom.enclave.gateway.adapters.suspension_file import SuspensionFolder
from strongroom.enclave.gateway.screen_settings import ClassifierSettings, ScreenSettings
from strongroom.enclave.gateway.screens import (
    MAX_SCREENED,
    Category,
    ContentBlockedError,
    Direction,
    OutputWindow,
    Passage,
    Ruling,
    Screen,
    ScreenUnavailableError,
    Verdict,
    worst,
)
from strongroom.enclave.gateway.suspension import BlockLimit

_log = structlog.get_logger("strongroom.screens")
_NONE: Final = BlockLimit(blocks=1, seconds=1)


class ClosableScreen(Screen, Protocol):
    """A screen with something to end."""

    async def close(self) -> None:
        """End it."""
        ...


class Screening:
    """The screens before one model, and the credentials that they suspended."""

    def __init__(
        self,
        screens: Sequence[ClosableScreen],
        suspensions: SuspensionFolder,
        clock: Clock,
        *,
        limit: BlockLimit = _NONE,
        window: int = 1,
        overlap: int = 0,
    ) -> None:
        self._screens, self._suspensions, self._clock, self._limit = tuple(screens), suspensions, clock, limit
        self._window, self._overlap = window, overlap
        self.counts: Counter[tuple[str, Direction, Ruling]] = Counter()
        """How often each screen said what."""

    @classmethod
    def of(cls, settings: ScreenSettings | None, suspensions: SuspensionFolder, clock: Clock) -> Screening:
        """Return the screens of a settings file. Without one nothing is screened, and who was suspended stays so.

        :raises StrongroomError: a screen can't be set up.
        """
        if settings is None:
            return cls((), suspensions, clock)
        screens = [
            Classifier(one) if isinstance(one, ClassifierSettings) else HttpScreen(one) for one in settings.screens
        ]
        return cls(screens, suspensions, clock, limit=settings.limit, window=settings.window, overlap=settings.overlap)

    async def admit(self, principal: str, text: str) -> None:
        """Let a request in, or not.

        :raises CredentialSuspendedError: its principal isn't served.
        :raises ContentBlockedError: a screen blocks it.
        :raises ScreenUnavailableError: a screen can't say.
        """
        self.check(principal)
        await self.judge(Passage(text=text, direction=Direction.INPUT, principal=principal))
        # Requests that were sent all at once wait here together: those after the one too many get no answer.
        self.check(principal)

    def check(self, principal: str) -> None:
        """Refuse a suspended credential.

        :raises CredentialSuspendedError: it is one. :raises StrongroomError: the record can't be read.
        """
        self._suspensions.standing(principal).check()

    def output(self, principal: str) -> OutputScreen:
        """Return what holds an answer back until it is judged."""
        looks = any(Direction.OUTPUT in screen.directions for screen in self._screens)
        window = OutputWindow(size=self._window, overlap=self._overlap) if looks else None
        return OutputScreen(self, principal, window)

    async def judge(self, passage: Passage) -> None:
        """Have a passage judged by every screen that looks at its direction; raises as :meth:`admit`."""
        asked = [screen for screen in self._screens if passage.direction in screen.directions]
        if not asked:
            return
        if len(passage.text) > MAX_SCREENED:
            raise ScreenUnavailableError(f"a passage of more than {MAX_SCREENED} characters isn't judged")
        verdicts = await asyncio.gather(*(screen.judge(passage) for screen in asked), return_exceptions=True)
        for screen, verdict in zip(asked, verdicts, strict=True):
            self._note(screen, passage, verdict)
        given = [verdict for verdict in verdicts if isinstance(verdict, Verdict)]
        found = worst(given)
        if found.ruling is Ruling.BLOCK:
            await self._blocked(passage, found.category or Category.OTHER)
        failed = [verdict for verdict in verdicts if isinstance(verdict, BaseException)]
        if failed:
            # Fails closed. It isn't the asker's doing, so it doesn't count against anybody.
            raise (
                failed[0]
                if isinstance(failed[0], ScreenUnavailableError)
                else ScreenUnavailableError(f"a screen failed: {type(failed[0]).__name__}")
            )

    def _note(self, screen: Screen, passage: Passage, verdict: Verdict | BaseException) -> None:
        if not isinstance(verdict, Verdict):
            _log.error("screen failed", screen=screen.name, cause=type(verdict).__name__)
            return
        self.counts[screen.name, passage.direction, verdict.ruling] += 1
        if verdict.category is not None:
            _log.warning(
                "screened",
                screen=screen.name,
                direction=passage.direction.value,
                ruling=verdict.ruling.value,
                category=verdict.category.value,
                principal=passage.principal,
            )

    async def _blocked(self, passage: Passage, category: Category) -> None:
        now = self._clock.now()
        before = self._suspensions.standing(passage.principal)
        after = await asyncio.to_thread(
            self._suspensions.change,
            passage.principal,
            lambda standing: standing.blocked(category, self._limit, now),
        )
        if after.suspended is not None and before.suspended is None:
            _log.warning("credential suspended", principal=passage.principal, category=category.value)
        raise ContentBlockedError(
            f"the {passage.direction.value} was blocked: {category.value}", reason=f"content-blocked.{category.value}"
        )

    async def close(self) -> None:
        """End the screens."""
        for screen in self._screens:
            await screen.close()


class OutputScreen:
    """One answer's text on its way out."""

    def __init__(self, screening: Screening, principal: str, window: OutputWindow | None) -> None:
        self._screening, self._principal, self._window = screening, principal, window

    async def push(self, text: str) -> str:
        """Take text; returns what may go out now.

        :raises ContentBlockedError: what was held back is blocked. :raises ScreenUnavailableError: a screen can't say.
        """
        if self._window is None:
            return text
        self._window.push(text)
        return await self._judged(self._window) if self._window.full else ""

    async def finish(self) -> str:
        """Return what is left; raises as :meth:`push`."""
        if self._window is None or self._window.empty:
            return ""
        return await self._judged(self._window)

    async def _judged(self, window: OutputWindow) -> str:
        # Whoever was suspended meanwhile, for another answer, gets no more of this one.
        self._screening.check(self._principal)
        passage = Passage(text=window.passage, direction=Direction.OUTPUT, principal=self._principal)
        await self._screening.judge(passage)
        return window.release()
