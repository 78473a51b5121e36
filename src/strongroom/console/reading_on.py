"""What one visit can't take in is read on beside the pages, by a thread, step by step: a long log, a long record.

The console has no identity of its own before the broker. So the log is read with the connection of whoever looked last,
and no longer than their session may last without a visit: they asked for a page that needs it, and it is what the
broker shows to everybody in the roster. An incident's record the desk shows to the console's user, whoever visits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.console.door import IDLE_SECONDS
from strongroom.core.canonical import Json
from strongroom.core.errors import StrongroomError, TamperedError

REST: Final = 1.0
"""How long the thread rests after a step, in times of what the step took: half of one core is the pages'."""
LEAST_REST: Final = 0.05
"""Seconds: where somebody else reads on in the same, a step takes none."""
MOST: Final = 16
"""How much waits to be read on; what else is left over, its next visit begins with again."""
Step = Callable[[], bool]
"""Reads some of what is left; returns whether more is. It may end with the process at any place: what it writes, it
writes whole or not at all."""


@dataclass(frozen=True, slots=True)
class _Left:
    """What a visit left over, and since when, by the monotonic clock."""

    step: Step
    since: float


class ReadsOn:
    """Reads on in what visits left over, one thing to its end and then the next, resting as long as each step took.

    Not by turns: a reader forgets whose turn is longest ago where it remembers too much, and would begin for ever.

    :param name: of the thread, and of what is noted when something ends it.
    """

    def __init__(
        self,
        name: str,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        note: Callable[[str, Mapping[str, Json]], None],
    ) -> None:
        self._name = name
        self._monotonic = monotonic
        self._sleep = sleep
        self._note = note
        self._turn = threading.Lock()
        self._left: dict[str, _Left] = {}
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

    def later(self, what: str, step: Step) -> None:
        """Have something read on; the newest step that was given for it is the one that is taken."""
        with self._turn:
            if what not in self._left and len(self._left) >= MOST:
                return
            self._left[what] = _Left(step, self._monotonic())
            # One that couldn't be started, or that ended by an error of its own, isn't waited for.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._read_on, name=self._name, daemon=True)
                self._thread.start()

    def _read_on(self) -> None:
        what = ""
        while (found := self._next(what)) is not None:
            what, left = found
            began = self._monotonic()
            try:
                more = left.step()
            except Exception as error:  # noqa: BLE001 - whatever ends one visit's step, the next visit's is another
                more = False
                self._ended(what, error)
            if more:
                with self._turn:
                    self._left.setdefault(what, left)
            self._sleep(max(LEAST_REST, REST * (self._monotonic() - began)))

    def _next(self, last: str) -> tuple[str, _Left] | None:
        """Take off what is read on: the last one if it goes on, else the one that waits longest; or end the thread."""
        with self._turn:
            begun = self._monotonic() - IDLE_SECONDS
            self._left = {what: left for what, left in self._left.items() if left.since >= begun}
            if not self._left:
                self._thread = None
                return None
            what = last if last in self._left else next(iter(self._left))
            return what, self._left.pop(what)

    def _ended(self, what: str, error: Exception) -> None:
        why = error.code if isinstance(error, StrongroomError) else type(error).__name__
        self._note(f"{self._name} stopped", {"what": what, "why": why})
        with self._turn:
            if isinstance(error, TamperedError):
                self._found = error
