"""Screens: separate components that judge what goes in and what comes out (SL3-ARO-01, SL4-ARO-01). Pure.

A screen sees text, says one of three words and a category from a closed list. Several are asked at once, and the worst
word counts. One that can't say, blocks: it fails closed, and that isn't held against whoever asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from strongroom.core.errors import DeniedError, MalformedError, UnavailableError

MAX_SCREENED: Final = 1 << 20
"""Characters in one passage."""


class ContentBlockedError(DeniedError):
    """A screen blocked what was asked, or what the model said. ``reason`` is ``content-blocked.`` and the category."""

    code = "content-blocked"


class ScreenUnavailableError(UnavailableError):
    """A screen can't say. Nothing passes meanwhile."""

    code = "screen-unavailable"


class Direction(StrEnum):
    """Which way a passage goes."""

    INPUT = "input"
    OUTPUT = "output"


class Ruling(StrEnum):
    """What a screen says, mildest first."""

    ALLOW = "allow"
    FLAG = "flag"
    """It passes, and is counted."""
    BLOCK = "block"


class Category(StrEnum):
    """Why it isn't simply allowed."""

    JAILBREAK = "jailbreak"
    """Made to get around what the model was taught to refuse."""
    INJECTION = "injection"
    """Instructions in what should be data."""
    EXTRACTION = "extraction"
    """Asks after the model itself: its parameters, its training data, its hidden prompt."""
    DISTILLATION = "distillation"
    """Reads like the gathering of answers to train another model on."""
    CODE_EXECUTION = "code-execution"
    """Made to have something run what the model says."""
    HARM = "harm"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What is judged."""

    text: str
    direction: Direction
    principal: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a screen says of a passage.

    :raises MalformedError: (construction) an allowance with a category, or anything else without one.
    """

    ruling: Ruling
    category: Category | None = None

    def __post_init__(self) -> None:
        if (self.ruling is Ruling.ALLOW) != (self.category is None):
            raise MalformedError("a verdict has a category exactly if it isn't to allow")


ALLOWED: Final = Verdict(Ruling.ALLOW)
_ORDER: Final = tuple(Ruling)


class Screen(Protocol):
    """A component that judges passages."""

    @property
    def name(self) -> str:
        """What it is called in counts and in the program's log."""
        ...

    @property
    def directions(self) -> frozenset[Direction]:
        """What it is asked about."""
        ...

    async def judge(self, passage: Passage) -> Verdict:
        """Judge a passage.

        :raises ScreenUnavailableError: it can't say.
        """
        ...


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the verdict that counts: of equal ones the first, and to allow if there is none."""
    return max(verdicts, key=lambda verdict: _ORDER.index(verdict.ruling), default=ALLOWED)


class OutputWindow:
    """What the model said and nobody has seen yet, held back until there is enough of it to judge.

    Each passage begins with the last ``overlap`` characters of what went before. So whatever is at most ``overlap`` + 1
    characters long is judged as a whole; its beginning may have gone out by then.
    """

    def __init__(self, *, size: int, overlap: int) -> None:
        self._size, self._overlap = size, overlap
        self._before, self._held = "", ""

    def push(self, text: str) -> None:
        """Take text."""
        self._held += text

    @property
    def full(self) -> bool:
        """Whether it is to be judged now."""
        return len(self._held) >= self._size

    @property
    def empty(self) -> bool:
        """Whether nothing is held back."""
        return not self._held

    @property
    def passage(self) -> str:
        """What to judge."""
        return self._before + self._held

    def release(self) -> str:
        """Return what was held back, once it is allowed."""
        said, whole = self._held, self.passage
        self._before, self._held = whole[max(0, len(whole) - self._overlap) :], ""
        return said
