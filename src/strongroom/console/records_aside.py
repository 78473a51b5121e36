"""Long records of incidents are read on beside the pages: a visit reads some of one, and a thread the rest.

The desk shows a record to the console's user, whoever visits: so no visitor's connection is used, and what is read is
what people who may see incidents asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

from strongroom.console.growing import LEAST_REST, REST
from strongroom.core.canonical import Json
from strongroom.core.errors import StrongroomError
from strongroom.responder.reading import StillReadingError

MOST: Final = 16
"""Records that are read on; others, the next visit begins with again."""
Work = Callable[[], object]


class RecordsAside:
    """Reads on in records, one to its end and then the next, resting as long as each step took.

    Not by turns: a reader forgets whose turn is longest ago where it remembers too much, and would begin for ever.
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], float],
        sleep: Callable[[float], None],
        note: Callable[[str, Mapping[str, Json]], None],
    ) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._note = note
        self._turn = threading.Lock()
        self._waiting: dict[str, Work] = {}
        self._thread: threading.Thread | None = None

    def later(self, name: str, work: Work) -> None:
        """Have a record read on.

        :param work: reads some of it; raises :class:`StillReadingError` while there is more.
        """
        with self._turn:
            if name not in self._waiting and len(self._waiting) >= MOST:
                return
            self._waiting[name] = work
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._read_on, name="records", daemon=True)
                self._thread.start()

    def _read_on(self) -> None:
        name = ""
        while (found := self._next(name)) is not None:
            name, work = found
            began = self._monotonic()
            try:
                work()
            except StillReadingError:
                # It asked to go on by itself.
                pass
            except Exception as error:  # noqa: BLE001 - the next visit meets it, and says so
                why = error.code if isinstance(error, StrongroomError) else type(error).__name__
                self._note("record stopped", {"incident": name, "why": why})
            self._sleep(max(LEAST_REST, REST * (self._monotonic() - began)))

    def _next(self, last: str) -> tuple[str, Work] | None:
        """Take a record off: the last one if it goes on, else the one that waits longest; or end the thread."""
        with self._turn:
            if not self._waiting:
                self._thread = None
                return None
            name = last if last in self._waiting else next(iter(self._waiting))
            return name, self._waiting.pop(name)
