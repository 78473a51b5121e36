"""Searching: an index says where to look, the log says what is there. Pure over both.

An index is a cache. It may be old, damaged or made by somebody else: every place that it names is read again from the
log and judged again, and one that names a wrong place is thrown away and built anew. It can hide nothing that a walk
through the whole log (:func:`walk`) wouldn't show.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.entries import Entry
from strongroom.audit.errors import StoreDamagedError
from strongroom.audit.reading.growth import Place, read_from
from strongroom.audit.reading.query import Query, recorded_request
from strongroom.audit.reading.view import LogView, entry_at
from strongroom.core.errors import NotFoundError

Hit = tuple[int, Entry]


class IndexWrongError(StoreDamagedError):
    """An index names a place where nothing of the kind is. It is built anew, never believed."""

    code = "log-index-wrong"


@dataclass(frozen=True, slots=True)
class Places:
    """Where an index says to look, oldest first, and how far down it looked itself."""

    found: tuple[int, ...]
    looked: int
    """All that answer from this place on are named, as many as were wanted; 0: down to the log's beginning."""


class Index(Protocol):
    """Where to look. Nothing that it says is believed."""

    def update(self, view: LogView, head: Checkpoint) -> None:
        """Take in what the log grew by; builds everything anew where it doesn't fit the log.

        :raises LogError: the log itself isn't what was signed.
        """
        ...

    def grow(self, view: LogView, head: Checkpoint) -> int:
        """Take in some of what the log grew by; returns how far the index goes.

        :raises LogError: as :meth:`update`. :raises IndexWrongError: the index can't be read.
        """
        ...

    def find(self, query: Query, limit: int, before: int) -> Places:
        """Return where the newest ``limit`` of the first ``before`` entries stand that answer a query.

        However many entries it has of what is asked for, it looks through some thousand of them and says how far that
        went: whoever wants more asks again, with ``looked`` for ``before``. Nobody else waits meanwhile.

        :raises IndexWrongError: the index can't be read.
        """
        ...

    def recorded(self, request: str) -> int | None:
        """Return where a request was recorded.

        :raises IndexWrongError: the index can't be read.
        """
        ...

    def discard(self) -> None:
        """Forget everything."""
        ...


def find_all(index: Index, query: Query, limit: int, before: int) -> tuple[int, ...]:
    """Return where the newest ``limit`` of the first ``before`` entries stand that answer a query, oldest first.

    :raises IndexWrongError: the index can't be read.
    """
    found: tuple[int, ...] = ()
    while before > 0 and len(found) < limit:
        part = index.find(query, limit - len(found), before)
        if not part.looked < before:
            raise IndexWrongError("the index doesn't get on with a search")
        found, before = (*part.found, *found), part.looked
    return found


Read = Callable[[int], Entry]
"""Place -> the entry that the log proves to stand there."""


def search(view: LogView, index: Index, query: Query, limit: int) -> tuple[Hit, ...]:
    """Return the newest ``limit`` entries that answer a query, oldest first, each read again from the log.

    :raises LogError: the log isn't what was signed.
    """
    head = view.head()

    def read(place: int) -> Entry:
        return read_named(view, head, place)

    index.update(view, head)
    try:
        return confirmed(read, index, query, find_all(index, query, limit, head.size), head.size)
    except IndexWrongError:
        index.discard()
        index.update(view, head)
        return confirmed(read, index, query, find_all(index, query, limit, head.size), head.size)


def confirmed(read: Read, index: Index, query: Query, places: Sequence[int], size: int) -> tuple[Hit, ...]:
    """Return the entries at the places that an index named, each read again and judged again.

    :param size: of the log that ``read`` reads. An index may know more: what it knows of a request isn't there yet.
    :raises IndexWrongError: one of them isn't what was looked for. :raises LogError: as ``read`` does.
    """
    models: dict[str, str | None] = {}

    def model_of(request: str) -> str | None:
        if query.model is None:
            return None
        if request not in models:
            place = index.recorded(request)
            told = None if place is None or place >= size else recorded_request(read(place))
            if told is not None and told[0] != request:
                raise IndexWrongError("the index names another entry as the one that recorded a request")
            models[request] = told[1] if told else None
        return models[request]

    hits = tuple((place, read(place)) for place in places)
    if not all(query.matches(entry, model_of) for _place, entry in hits):
        raise IndexWrongError("the index names an entry that isn't what was looked for")
    return hits


def read_named(view: LogView, head: Checkpoint, place: int) -> Entry:
    """Return the entry at a place that an index named.

    :raises IndexWrongError: the log has no such entry. :raises LogError: as ``entry_at``.
    """
    try:
        return entry_at(view, head, place)[1]
    except NotFoundError:
        raise IndexWrongError("the index names an entry that the log doesn't have") from None


def requests_before(view: LogView, head: Checkpoint, size: int) -> dict[str, str]:
    """Return the requests that the log's first ``size`` entries record, each with its model.

    :raises LogError: the log isn't what was signed.
    """
    models: dict[str, str] = {}
    if size:
        for index, entry in read_from(view, Place.start(head.origin), head):
            if index >= size:
                break
            told = recorded_request(entry)
            if told is not None:
                models.setdefault(*told)
    return models


def walk(view: LogView, place: Place, head: Checkpoint, query: Query) -> Iterator[Hit]:
    """Yield the entries from ``place`` on that answer a query, by reading each of them: slow, and complete.

    :raises LogError: the log isn't what was signed.
    """
    # What names a request belongs to its model, and the request may have been recorded before.
    models = requests_before(view, head, place.size) if query.model else {}
    for index, entry in read_from(view, place, head):
        told = recorded_request(entry)
        if told is not None:
            models.setdefault(*told)
        if query.matches(entry, models.get):
            yield index, entry


def last(hits: Iterator[Hit], most: int) -> tuple[Hit, ...]:
    """Return the newest ``most`` of hits that come in the order of the log."""
    return tuple(deque(hits, maxlen=most))
