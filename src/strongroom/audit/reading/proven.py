"""Entries that were proven once, kept in memory: for a reader that serves several people and looks again and again.

What stands at a place of a log never changes, and every newer head is checked to continue the ones before. So an entry
that was proven under one head needs no proof under the next. Only whole, judged entries are kept, never a claim.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.entries import Entry
from strongroom.audit.reading.growth import stretch
from strongroom.audit.reading.query import Query
from strongroom.audit.reading.search import Hit, Index, IndexWrongError, confirmed, find_all, read_named
from strongroom.audit.reading.view import LogView

KEPT: Final = 8192
"""Entries in memory: some megabytes."""
CHOSEN_FROM: Final = 10_000
"""Entries among which a few are chosen: of a gateway that asks once an hour, more than a year's."""
WINDOW: Final = 64
"""Entries that lie this near to each other are read at once."""
_Choose = Callable[[], tuple[Sequence[int], int]]
"""Where to look, and down to where that was looked for."""
_CALLS_OF_ONE: Final = 2
_CALLS_OF_STRETCH: Final = 5
"""What a log is asked for one entry with its proof, and for several that stand together."""


@dataclass(frozen=True, slots=True)
class Found:
    """What an index led to, in the order of the log."""

    hits: tuple[Hit, ...]
    reach: int
    """How many of the log's entries the index knows: what stands behind them wasn't looked for."""
    looked: int = 0
    """What stands before this place wasn't looked for either: a search goes on from there."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """As much as was read of what was asked for, in the order of the log."""

    hits: tuple[Hit, ...]
    named: int
    """How many entries the index named."""
    reach: int
    """As in :class:`Found`."""
    enough: bool
    """Whether the index named no more than were allowed; if not, none was read."""

    @property
    def whole(self) -> bool:
        """Whether all of them were read."""
        return self.enough and len(self.hits) == self.named


class ProvenEntries:
    """Reads entries of one log, each proven, and keeps them. For several threads; the log is asked under no lock."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, Entry] = OrderedDict()
        self._turn = threading.Lock()

    def read(self, view: LogView, head: Checkpoint, places: Iterable[int], calls: int) -> Mapping[int, Entry]:
        """Return the entries at these places, as many as are kept or take no more than ``calls`` calls of the log.

        :param places: below the head's size.
        :raises LogError: the log isn't what was signed.
        """
        wanted = sorted(set(places))
        with self._turn:
            found = {place: self._kept[place] for place in wanted if place in self._kept}
        for group in _groups([place for place in wanted if place not in found]):
            together = len(group) * _CALLS_OF_ONE > _CALLS_OF_STRETCH
            calls -= _CALLS_OF_STRETCH if together else len(group) * _CALLS_OF_ONE
            if calls < 0:
                break
            for place in group:
                # A stretch ends where its shard does: the rest is one more stretch.
                if place not in found:
                    found |= _read(view, head, [one for one in group if one >= place], together=together)
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

    def all_of(
        self, view: LogView, head: Checkpoint, index: Index, queries: Sequence[Query], most: int, calls: int
    ) -> Gathered:
        """Return all entries that answer one of several queries, as far as they are kept or ``calls`` calls go.

        Whoever asks again gets further. What the index named wrongly is among them: the caller takes what fits.

        :param most: entries; where there are more, none is read.
        :raises LogError: the log isn't what was signed.
        """
        try:
            reach = min(index.grow(view, head), head.size)
            places = {place for query in queries for place in find_all(index, query, most + 1, head.size)}
            enough = len(places) <= most
            known = self.read(view, head, places, calls) if enough else {}
        except IndexWrongError:
            index.discard()
            return Gathered((), 0, 0, enough=True)
        return Gathered(tuple(sorted(known.items())), len(places), reach, enough=enough)

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
                # Those that recorded the hits' requests are wanted again, too.
                with self._turn:
                    kept = self._kept.get(place)
                known[place] = kept or read_named(view, head, place)
            return known[place]

        try:
            reach = min(index.grow(view, head), head.size)
            places, looked = choose()
            known.update(self.read(view, head, places, len(places) * _CALLS_OF_ONE))
            hits = confirmed(read, index, query, places, head.size)
        except IndexWrongError:
            index.discard()
            return Found((), 0)
        self._keep(known)
        return Found(hits, reach, looked)

    def _keep(self, found: Mapping[int, Entry]) -> None:
        with self._turn:
            for place, entry in found.items():
                self._kept[place] = entry
                self._kept.move_to_end(place)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)


def _groups(places: Sequence[int]) -> Iterator[list[int]]:
    group: list[int] = []
    for place in places:
        if group and place >= group[0] + WINDOW:
            yield group
            group = []
        group.append(place)
    if group:
        yield group


def _read(view: LogView, head: Checkpoint, group: Sequence[int], *, together: bool) -> dict[int, Entry]:
    if not together:
        return {place: read_named(view, head, place) for place in group}
    read = dict(stretch(view, head, group[0], group[-1] - group[0] + 1))
    return {place: read[place] for place in group if place in read}


def _evenly(places: Sequence[int], most: int) -> list[int]:
    if len(places) <= most:
        return [*places]
    return [places[number * (len(places) - 1) // (most - 1)] for number in range(most)]
