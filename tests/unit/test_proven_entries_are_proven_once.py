"""What several readers share of a log: proven before it is kept, asked for once, and never more than is allowed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from strongroom.audit.adapters.index import SqliteIndex
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.errors import LogError, MissingRowsError, ProofError
from strongroom.audit.merkle import EMPTY_ROOT
from strongroom.audit.protocol import MAX_PROVEN, ProvenEntry
from strongroom.audit.reading import proven as module
from strongroom.audit.reading.exposure import EVENTS, ExposureFold
from strongroom.audit.reading.proven import ProvenEntries
from strongroom.audit.reading.query import Query
from strongroom.core.errors import UnavailableError
from strongroom.core.events import EventName
from support.log_views import MODELS, REQUESTS, MemoryView, entry, log_of

LOG = log_of([(EventName.MODEL_FROZEN, 1, {"model": MODELS[number % 2]}) for number in range(300)])
FIRST = Query(model=MODELS[0])


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SqliteIndex]:
    with closing(SqliteIndex(tmp_path / "index")) as made:
        yield made


def test_what_was_proven_is_not_asked_for_again() -> None:
    view, reader = MemoryView(LOG), ProvenEntries()
    assert [*reader.read(view, view.head(), [5, 200, 5])] == [5, 200]
    before = view.reads
    assert [*reader.read(view, view.head(), [5, 200])] == [5, 200]
    assert view.reads == before


def test_what_recorded_the_requests_of_hits_is_not_asked_for_again_either(index: SqliteIndex) -> None:
    log = log_of(
        [
            (EventName.REQUEST_CREATED, 1, {"request": REQUESTS[0], "model": MODELS[0]}),
            (EventName.REFUSED, 2, {"request": REQUESTS[0]}),
        ]
    )
    view, reader = MemoryView(log), ProvenEntries()
    query = Query(model=MODELS[0], event=EventName.REFUSED.value)
    first = reader.look(view, view.head(), index, query, 1, 999)
    before = view.reads
    assert reader.look(view, view.head(), index, query, 1, 999) == first
    assert len(first.hits) == 1
    assert view.reads == before


def test_entries_far_from_each_other_take_one_call_for_some_dozens() -> None:
    view, reader = MemoryView(LOG), ProvenEntries()
    places = [*range(0, 300, 5)]
    assert [*reader.read(view, view.head(), places)] == places
    assert view.reads == -(-len(places) // MAX_PROVEN) == 2


def test_a_log_that_shows_few_at_once_is_asked_on() -> None:
    view, reader = MemoryView(LOG, most=3), ProvenEntries()
    assert [*reader.read(view, view.head(), range(100, 110))] == [*range(100, 110)]
    assert view.reads == 4


@pytest.mark.parametrize("most", [0, 99], ids=["nothing", "too-much"])
def test_another_number_of_entries_than_was_asked_for_is_refused(most: int) -> None:
    class Odd(MemoryView):
        def together(self, places: Sequence[int], size: int) -> tuple[ProvenEntry, ...]:
            return super().together([*places, 20, 21], size)[:most]

    view = Odd(LOG)
    with pytest.raises(MissingRowsError):
        ProvenEntries().read(view, view.head(), [4, 9])


def test_entries_in_another_order_than_they_were_asked_for_are_refused() -> None:
    class Turned(MemoryView):
        def together(self, places: Sequence[int], size: int) -> tuple[ProvenEntry, ...]:
            return super().together(places, size)[::-1]

    view = Turned(LOG)
    with pytest.raises(ProofError):
        ProvenEntries().read(view, view.head(), [4, 9])


@pytest.mark.parametrize("places", [[7], [*range(5, 15)]], ids=["one", "several"])
def test_an_entry_that_is_not_the_logged_one_is_neither_shown_nor_kept(places: list[int]) -> None:
    view, reader = MemoryView(LOG, shown={7: entry(EventName.MODEL_RESUMED, 6, {})}), ProvenEntries()
    with pytest.raises((LogError, ProofError)):
        reader.read(view, view.head(), places)
    view.shown = {}
    assert reader.read(view, view.head(), [7])[7].event is EventName.MODEL_FROZEN


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    view, reader = MemoryView(LOG), ProvenEntries()
    reader.read(view, view.head(), range(10, 20))
    before = view.reads
    reader.read(view, view.head(), [17, 18, 19])
    assert view.reads == before
    reader.read(view, view.head(), [10])
    assert view.reads > before


def test_a_sample_has_the_first_and_the_newest(index: SqliteIndex) -> None:
    view = MemoryView(LOG)
    hits = ProvenEntries().sample(view, view.head(), index, FIRST, 5).hits
    assert [place for place, _entry in hits] == [1, 75, 149, 223, 299]


def test_a_reader_with_an_older_head_finds_nothing_behind_it_and_throws_nothing_away(index: SqliteIndex) -> None:
    newer, older, reader = MemoryView(LOG), MemoryView(LOG[:100]), ProvenEntries()
    assert reader.look(newer, newer.head(), index, FIRST, 1, 999).hits[0][0] == 299
    found = reader.look(older, older.head(), index, FIRST, 1, 999)
    assert (found.hits[0][0], found.reach) == (99, 100)
    assert reader.look(newer, newer.head(), index, FIRST, 1, 999).reach == 301


def test_an_index_that_names_a_wrong_place_is_built_anew(tmp_path: Path, index: SqliteIndex) -> None:
    view, reader = MemoryView(LOG), ProvenEntries()
    reader.look(view, view.head(), index, FIRST, 1, 999)
    index.close()
    with closing(sqlite3.connect(tmp_path / "index")) as db:
        db.execute("INSERT INTO term VALUES ('model', ?, 300)", [MODELS[0]])
        db.commit()
    with closing(SqliteIndex(tmp_path / "index")) as again:
        assert reader.look(view, view.head(), again, FIRST, 1, 999).reach == 0
        assert reader.look(view, view.head(), again, FIRST, 1, 999).hits[0][0] == 299


@pytest.mark.parametrize(
    "lie",
    [
        "UPDATE place SET size = 1000000",
        "UPDATE place SET origin = 'another.example/log'",
        "UPDATE place SET peaks = zeroblob(length(peaks))",
    ],
)
def test_an_index_that_says_how_far_it_goes_is_not_believed(tmp_path: Path, index: SqliteIndex, lie: str) -> None:
    """It names nothing, so that no place of it could be found wrong."""
    view, reader = MemoryView(LOG), ProvenEntries()
    reader.look(view, view.head(), index, FIRST, 1, 999)
    index.close()
    with closing(sqlite3.connect(tmp_path / "index")) as db:
        db.execute("DELETE FROM term")
        db.execute(lie)
        db.commit()
    with closing(SqliteIndex(tmp_path / "index")) as again:
        assert reader.look(view, view.head(), again, FIRST, 1, 999).hits[0][0] == 299


def test_whoever_comes_late_with_an_older_head_throws_nothing_away(index: SqliteIndex) -> None:
    """Another visit lets the index grow past it, after it was seen to be behind and before this one's turn."""
    newer, older, turn = MemoryView(LOG), MemoryView(LOG[:100]), index._growing

    class Overtaken:
        def acquire(self, *, blocking: bool) -> bool:
            index._growing = turn
            index.grow(newer, newer.head())
            return turn.acquire(blocking=blocking)

    index._growing = Overtaken()  # type: ignore[assignment]
    assert index.grow(older, older.head()) == 301
    assert index.find(FIRST, 1, 999).found == (299,)


def test_a_full_disk_costs_the_step_and_not_the_index(index: SqliteIndex) -> None:
    log = log_of([(EventName.MODEL_FROZEN, 1, {"model": MODELS[number % 2]}) for number in range(4000)])
    view = MemoryView(log)
    assert index.grow(view, view.head()) == 2048
    ((pages,),) = index._db.execute("PRAGMA page_count").fetchall()
    index._db.execute(f"PRAGMA max_page_count = {pages}").fetchall()
    with pytest.raises(UnavailableError, match="SQLITE_FULL"):
        index.grow(view, view.head())
    assert index.find(FIRST, 1, 9999).found == (2047,)
    index._db.execute("PRAGMA max_page_count = 1000000").fetchall()
    assert index.grow(view, view.head()) == 4001


def test_a_request_that_was_recorded_behind_an_older_head_throws_nothing_away(index: SqliteIndex) -> None:
    """The index went on meanwhile: what it knows of a request isn't in the log that this visit was shown."""
    log = log_of(
        [
            (EventName.REFUSED, 1, {"request": REQUESTS[0]}),
            (EventName.REQUEST_CREATED, 1, {"request": REQUESTS[0], "model": MODELS[0]}),
        ]
    )
    newer, older, reader = MemoryView(log), MemoryView(log[:2]), ProvenEntries()
    assert index.grow(newer, newer.head()) == 3
    found = reader.look(older, older.head(), index, Query(request=str(REQUESTS[0])), 5, 999)
    assert ([place for place, _entry in found.hits], found.reach) == ([1], 2)


def test_an_index_that_is_thrown_away_while_it_grows_gets_no_gap(index: SqliteIndex) -> None:
    """Whoever finds it wrong meanwhile must not make the grower write what comes after the gap."""
    log = log_of([(EventName.MODEL_FROZEN, 1, {"model": MODELS[0]})] * 4000)

    class Meddling(MemoryView):
        def entries(self, start: int, count: int) -> tuple[bytes, ...]:
            if start == 2048 + 512 and not self.shown:
                self.shown[-1] = b""
                index.discard()
            return super().entries(start, count)

    view = Meddling(log)
    for _ in range(4):
        reach = index.grow(view, view.head())
        assert index.find(FIRST, 9999, 9999).found == tuple(range(1, reach))
    assert reach == 4001


def test_many_readers_find_the_same(index: SqliteIndex) -> None:
    view, reader = MemoryView(LOG), ProvenEntries()
    head, found = view.head(), list[int]()

    def look() -> None:
        for _ in range(3):
            # Whoever comes while another lets the index grow may find less, and never anything wrong.
            hits = reader.look(view, head, index, FIRST, 2, 301).hits
            found.append(hits[-1][0] if hits else 299)

    threads = [Thread(target=look) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert set(found) == {299}


def test_a_head_is_asked_for_what_is_in_it_alone(index: SqliteIndex) -> None:
    view = MemoryView(LOG)
    small = Checkpoint(view.head().origin, 0, EMPTY_ROOT)
    assert ProvenEntries().look(view, small, index, FIRST, 5, 999).hits == ()


def test_the_fold_of_exposure_takes_from_the_events_that_are_read_for_it() -> None:
    assert frozenset(ExposureFold(MODELS[0])._handlers()) == EVENTS
