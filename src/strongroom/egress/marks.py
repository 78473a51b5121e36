"""Shares of a limit that are worth a record when its use passes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.core.clock import Instant
from strongroom.core.ids import ModelId
from strongroom.egress.bits import MILLI
from strongroom.egress.errors import Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A mark was passed. The caller records it."""

    limit: Limit
    model: ModelId
    """The model whose answer passed it."""
    permille: int
    used: int
    """Bits."""
    of: int
    """Bits."""
    at: Instant


class Marks:
    """The marks of one limit. Each is told once, and again after ``again_after`` seconds if the limit refills.

    A limit that stands around its mark doesn't fill the log.
    """

    def __init__(self, permille: Sequence[int], *, again_after: int | None) -> None:
        self._permille, self._again_after = tuple(permille), again_after
        self._told: dict[int, Instant] = {}

    def passed(self, used: int, of: int, now: Instant) -> tuple[int, ...]:
        """Return the marks that are passed and weren't told yet; from now on they are."""
        new = []
        for mark in self._permille:
            told = self._told.get(mark)
            again = told is None or (self._again_after is not None and now - told >= self._again_after)
            if used * MILLI >= of * mark and again:
                self._told[mark] = now
                new.append(mark)
        return tuple(new)

    def begin_anew(self) -> None:
        """Forget what was told: the limit is another one."""
        self._told.clear()
