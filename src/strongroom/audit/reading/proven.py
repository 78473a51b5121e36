"""Entries that were proven once, kept in memory: for a reader that serves several people and looks again and again.

What stands at a place of a log never changes, and every newer head is checked to continue the ones before. So an entry
that was proven under one head needs no proof under the next. Only whole, judged entries are kept, never a claim.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.entries import Entry
from strongroom.audit.reading.query import Query
from strongroom.audit.reading.search import Hit, Index, IndexWrongError, confirmed, find_all
from strongroom.audit.reading.view import LogView, entries_at

KEPT: Final = 8192
"""Entries in memory: some megabytes."""
CHOSEN_FROM: Final = 10_000
"""Entries among which a few are chosen: of a gateway that asks once an hour, more than a year's."""
_Choose = Callable[[], tuple[Sequence[int], int]]
"""Where to look, and down to where that was looked for."""


@dataclass(frozen=True, slots=True)
class Found:
    """What an index led to, in the order of the log."""

    hits: tuple[Hit, ...]
    reach: int
    """How many of the log's entries the index knows: what stands behind them wasn't looked for."""
    looked: int = 0
    """What stands before this place wasn't looked for either: a search goes on from there."""


class ProvenEntries:
    """Reads entries of one log, each proven, and keeps them. For several threads; the log is asked under no lock."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, Entry] = OrderedDict()
        self._turn = threading.Lock()

    def read(self, view: LogView, head: Checkpoint, places: Iterable[int]) -> Mapping[int, Entry]:
        """Return the entries at these places: what isn't kept takes a call for some dozens of them.

        :raises IndexWrongError: one isn't below the head's size. :raises LogError: the log isn't what was signed.
        """
        wanted = sorted(set(places))
        with self._turn:
            found = {place: self._kept[place] for place in wanted if place in self._kept}
        found |= read_proven(view, head, [place for place in wanted if place not in found])
        self._keep(found)
        return found

    def look(self, view: LogView, head: Checkpoint, index: Index, query: Query, limit: int, before: int) -> Found:
        """Return the newest ``limit`` entries before the place ``before`` that answer a query.

        The index takes in one step of what the log grew by. What it names is read and judged again; an index that names
        a wrong place is thrown away, and nothing is found until it was built anew.

        :raises LogError: the log isn't what was signed.
        """

        def choose() -> tuple[Sequence[int], int]:
            return find_all(index, query, limit, min(before, head.size)), 0

        return self._led(view, head, index, query, choose)

    def search(self, view: LogView, head: Checkpoint, index: Index, query: Query, limit: int, before: int) -> Found:
        """Return as :meth:`look` does, as far as the index looks at once: of what is in very many entries, a part.

        :raises LogError: the log isn't what was signed.
        """

        def choose() -> tuple[Sequence[int], int]:
            places = index.find(query, limit, min(before, head.size))
            return places.found, places.looked

        return self._led(view, head, index, query, choose)

    def sample(self, view: LogView, head: Checkpoint, index: Index, query: Query, most: int) -> Found:
        """Return at most ``most`` (2 or more) of the entries that answer a query, evenly chosen, the newest one too.

        They are chosen among the newest :data:`CHOSEN_FROM`. Otherwise as :meth:`look`.
        """
        return self._led(
            view, head, index, query, lambda: (_evenly(find_all(index, query, CHOSEN_FROM, head.size), most), 0)
        )

    def _led(
        self,
        view: LogView,
        head: Checkpoint,
        index: Index,
        query: Query,
        choose: _Choose,
    ) -> Found:
        known: dict[int, Entry] = {}

        def read(place: int) -> Entry:
            if place not in known:
                known.update(self.read(view, head, [place]))
            return known[place]

        try:
            reach = min(index.grow(view, head), head.size)
            places, looked = choose()
            known.update(self.read(view, head, places))
            # What recorded the hits' requests is wanted as well: asked for together, not with a call for each.
            known.update(self.read(view, head, _recording(index, query, known.values(), head.size)))
            hits = confirmed(read, index, query, places, head.size)
        except IndexWrongError:
            index.discard()
            return Found((), 0)
        return Found(hits, reach, looked)

    def _keep(self, found: Mapping[int, Entry]) -> None:
        with self._turn:
            for place, entry in found.items():
                self._kept[place] = entry
                self._kept.move_to_end(place)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)


def read_proven(view: LogView, head: Checkpoint, places: Sequence[int]) -> dict[int, Entry]:
    """Return the entries at these places, each proven; nothing is kept.

    :raises IndexWrongError: one isn't below the head's size. :raises LogError: the log isn't what was signed.
    """
    if any(place >= head.size for place in places):
        raise IndexWrongError("the index names an entry that the log doesn't have")
    # Each once, and in their order: what came is the first of what was asked for.
    found, left = dict[int, Entry](), sorted(set(places))
    while len(found) < len(left):
        found |= entries_at(view, head, left[len(found) :])
    return found


def _recording(index: Index, query: Query, entries: Iterable[Entry], size: int) -> list[int]:
    """Return where the requests were recorded that entries name: by them it's told which model those are about."""
    asked: set[str] = set()
    for entry in entries if query.model is not None else ():
        query.matches(entry, asked.add)
    found = (index.recorded(request) for request in asked)
    return [place for place in found if place is not None and place < size]


def _evenly(places: Sequence[int], most: int) -> list[int]:
    if len(places) <= most:
        return [*places]
    return [places[number * (len(places) - 1) // (most - 1)] for number in range(most)]
