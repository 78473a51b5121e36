"""The index finds exactly what a walk through the whole log finds, whatever is asked and however it was built."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit.adapters import index_search as module
from strongroom.audit.adapters.index import SqliteIndex
from strongroom.audit.reading.growth import Place
from strongroom.audit.reading.query import Outcome, Query
from strongroom.audit.reading.search import last, search, walk
from strongroom.core.events import EventName
from support.log_views import MODELS, PEOPLE, PLATFORMS, REQUESTS, MemoryView, histories, log_of
from support.logs import AT, ORIGIN

# At, right before and right after the times that entries have.
TIMES = st.sampled_from([AT + at + by for at in (0, 1, 600, 601, 4000, 4600) for by in (-1, 0, 1)])
_BEGINNINGS = sorted({event.value.rpartition(":")[0] for event in EventName} | {event.family for event in EventName})
SMALL = st.integers(1, 4)
WANTED: dict[str, st.SearchStrategy[object]] = {
    "person": st.sampled_from((*PEOPLE, "nobody")),
    "model": st.sampled_from(MODELS),
    "request": st.sampled_from([str(one) for one in REQUESTS] + [str(REQUESTS[0])[7:14]]),
    "platform": st.sampled_from(PLATFORMS),
    "event": st.sampled_from([*EventName, *_BEGINNINGS]),
    "outcome": st.sampled_from(Outcome),
    "since": TIMES,
    "until": TIMES,
}


@st.composite
def queries(draw: st.DrawFn) -> Query:
    """Return a query for few things: one for many finds nothing, and would show nothing."""
    names = draw(st.lists(st.sampled_from(sorted(WANTED)), min_size=1, max_size=2, unique=True))
    return Query(**{name: draw(WANTED[name]) for name in names})  # type: ignore[arg-type]  # each of its own kind


def brute_force(log: list[bytes], query: Query, limit: int) -> list[int]:
    view = MemoryView(log)
    hits = walk(view, Place.start(ORIGIN), view.head(), query)
    return [index for index, _entry in last(hits, limit)]


@given(histories(), st.lists(queries(), min_size=1, max_size=6), st.integers(1, 30), st.data())
def test_the_index_finds_what_a_walk_finds(
    log: list[bytes], asked: list[Query], limit: int, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(SqliteIndex(Path(folder) / "index")) as index:
        # Built in two parts, as a log grows.
        part = MemoryView(log[: data.draw(st.integers(0, len(log)))])
        search(part, index, asked[0], 1)
        for query in asked:
            view = MemoryView(log)
            found = [place for place, _entry in search(view, index, query, limit)]
            assert found == brute_force(log, query, limit)


@given(histories(), st.lists(queries(), min_size=1, max_size=6), st.integers(1, 30), st.tuples(SMALL, SMALL))
def test_a_search_that_stops_and_goes_on_finds_the_same(
    log: list[bytes], asked: list[Query], limit: int, small: tuple[int, int]
) -> None:
    """As in a log of which each look goes through a small part, and for somebody who is in very much of it."""
    piece, few = small
    with (
        patch.multiple(module, SLICE=piece, WORK=0, FEW=few),
        tempfile.TemporaryDirectory() as folder,
        closing(SqliteIndex(Path(folder) / "index")) as index,
    ):
        for query in asked:
            found = [place for place, _entry in search(MemoryView(log), index, query, limit)]
            assert found == brute_force(log, query, limit)


@given(histories(), queries(), st.integers(1, 4))
def test_what_a_search_says_it_looked_through_it_did(log: list[bytes], query: Query, piece: int) -> None:
    with (
        patch.multiple(module, SLICE=piece, WORK=0),
        tempfile.TemporaryDirectory() as folder,
        closing(SqliteIndex(Path(folder) / "index")) as index,
    ):
        view = MemoryView(log)
        index.update(view, view.head())
        whole, before = brute_force(log, query, len(log)), len(log)
        while before:
            part = index.find(query, 2, before)
            assert part.looked < before
            assert [*part.found] == [place for place in whole if part.looked <= place < before]
            before = part.looked


def test_the_end_of_a_time_is_not_part_of_it_and_its_beginning_is() -> None:
    log = log_of([(EventName.REFUSED, by, {}) for by in (0, 1, 1)])
    with tempfile.TemporaryDirectory() as folder, closing(SqliteIndex(Path(folder) / "index")) as index:
        for asked, wanted in ((Query(since=AT + 1), [2, 3]), (Query(until=AT + 1, event="release"), [1])):
            assert [place for place, _entry in search(MemoryView(log), index, asked, 9)] == wanted
            assert brute_force(log, asked, 9) == wanted


def test_a_name_is_not_found_by_its_beginning() -> None:
    log = log_of([(EventName.PERSON_ERASED, 0, {"person": person, "officers": ()}) for person in PEOPLE])
    with tempfile.TemporaryDirectory() as folder, closing(SqliteIndex(Path(folder) / "index")) as index:
        assert index.find(Query(person="dana"), 9, 100).found == ()
        assert [place for place, _entry in search(MemoryView(log), index, Query(person="dana"), 9)] == [1]
        # And not by confirming alone: the index itself names nothing else.
        assert index.find(Query(person="dana"), 9, 100).found == (1,)


@given(histories(most=12), queries())
def test_a_walk_shows_nothing_that_was_not_asked_for(log: list[bytes], query: Query) -> None:
    view = MemoryView(log)
    for _index, entry in walk(view, Place.start(ORIGIN), view.head(), query):
        facts = entry.facts
        people = {one for value in facts.values() for one in (value if isinstance(value, tuple) else (value,))}
        assert query.person is None or query.person in people
        assert query.platform is None or facts["platform"] == query.platform
        assert query.event is None or entry.event.value.startswith(query.event)
        assert query.since is None or entry.at >= query.since
        assert query.until is None or entry.at < query.until
        if query.model is not None:
            assert facts.get("model", query.model) == query.model
