"""A model with more entries than a visit reads: its exposure is read on beside the pages, and is right at each step."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from strongroom.audit.adapters.index import SqliteIndex
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.errors import ProofError
from strongroom.audit.protocol import MAX_PROVEN
from strongroom.audit.reading.exposure import Exposure, ExposureFold, Window
from strongroom.audit.reading.growth import Place, read_from
from strongroom.audit.reading.view import Extent, LogView
from strongroom.console import exposures as module
from strongroom.console.exposures import Exposures, ReadSoFar
from strongroom.console.reading_on import ReadsOn, Step
from strongroom.core.canonical import Json
from strongroom.core.errors import TamperedError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from support.log_views import MODELS, REQUESTS, MemoryView, entry, log_of

NAME = ModelId(MODELS[0])
SECONDS = 60
RELEASES = 2300
VISIT = 64
"""Entries that one visit reads."""


def _acts(releases: int) -> list[tuple[EventName, int, dict[str, Any]]]:
    acts: list[tuple[EventName, int, dict[str, Any]]] = []
    for number in range(releases):
        handed = {"request": REQUESTS[number % 4], "use": number, "model": NAME, "requester": "dana"}
        acts.append((EventName.RELEASED, 1, handed))
        acts.append((EventName.MODEL_FROZEN, 1, {"model": MODELS[1]}))
    return acts


class Long(MemoryView):
    """A log of thousands of entries: each hash in its tree is made once."""

    nodes: dict[tuple[int, int], bytes]
    signed_head: Checkpoint | None = None

    def head(self) -> Checkpoint:
        self.signed_head = self.signed_head or super().head()
        return self.signed_head

    def _node(self, level: int, index: int) -> bytes:
        if (level, index) not in self.nodes:
            self.nodes[level, index] = super()._node(level, index)
        return self.nodes[level, index]


_NODES: dict[int, dict[tuple[int, int], bytes]] = {}


def _view(log: list[bytes]) -> Long:
    view = Long(log)
    view.nodes = _NODES.setdefault(len(log), {})
    return view


@pytest.fixture(scope="module")
def long() -> list[bytes]:
    return log_of(_acts(RELEASES))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SqliteIndex]:
    with closing(SqliteIndex(tmp_path / "index")) as made:
        yield made


class Aside(ReadsOn):
    """What reads on beside the pages, which a test holds up and waits for."""

    def __init__(self) -> None:
        super().__init__(
            "exposure",
            monotonic=lambda: 0.0,
            sleep=lambda _seconds: None,
            note=lambda _event, facts: self.noted.append(facts),
        )
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.noted: list[Mapping[str, Json]] = []
        self.exposures = Exposures(self)

    def later(self, what: str, step: Step) -> None:
        super().later(what, lambda: self.may_go_on.wait(SECONDS) and step())

    def quiet(self) -> None:
        for one in threading.enumerate():
            if one.name == "exposure":
                one.join(SECONDS)
                assert not one.is_alive()


@pytest.fixture
def aside() -> Iterator[Aside]:
    made = Aside()
    yield made
    made.may_go_on.set()
    made.quiet()


def _naive(view: MemoryView, entries: int) -> Exposure:
    """Return what reading the first so many entries of the whole log says."""
    fold, head = ExposureFold(NAME), view.head()
    for place, one in read_from(view, Place.start(head.origin), head):
        if place < entries:
            fold.apply(place, one)
    return fold.answer()


def _same(told: ReadSoFar, naive: Exposure) -> bool:
    # How far the log was read is another number where only what is named was.
    return (told.answer.holdings, told.answer.freezes, told.answer.let_out) == (
        naive.holdings,
        naive.freezes,
        naive.let_out,
    )


def test_more_than_two_thousand_entries_are_read_to_the_end_by_themselves(
    aside: Aside, index: SqliteIndex, long: list[bytes]
) -> None:
    view = _view(long)
    index.update(view, view.head())
    aside.may_go_on.clear()
    look = partial(aside.exposures.look, view, view.head(), index, NAME, Window())
    first = look()
    # The index is asked for each kind of event once, and names 512 of the releases.
    assert (first.read, first.searched, first.whole) == (0, False, False)
    assert _same(first, _naive(view, first.through))
    aside.may_go_on.set()
    aside.quiet()
    last = look()
    assert (last.read, last.named, last.whole, last.through) == (RELEASES, RELEASES, True, len(long))
    assert _same(last, _naive(view, len(long)))
    assert not aside.noted


def test_a_visit_reads_a_bounded_part_however_much_there_is(index: SqliteIndex, long: list[bytes]) -> None:
    view, exposures = _view(long), Exposures()
    index.update(view, view.head())
    told: list[ReadSoFar] = []
    while not (told and told[-1].whole):
        calls = view.reads
        told.append(exposures.look(view, view.head(), index, NAME, Window()))
        assert view.reads - calls <= module.CALLS
        assert len(told) < 2 * RELEASES // VISIT
    assert [one.read for one in told] == sorted(one.read for one in told)
    assert told[-1].read == RELEASES
    assert all(_same(one, _naive(view, one.through)) for one in told[:: len(told) // 4])


def test_what_the_log_grew_by_is_read_on_and_nothing_is_read_again(index: SqliteIndex) -> None:
    log = log_of(_acts(40))
    older, newer, exposures = MemoryView(log[:41]), MemoryView(log), Exposures()
    assert exposures.look(older, older.head(), index, NAME, Window()).read == 20
    told = exposures.look(newer, newer.head(), index, NAME, Window())
    assert (told.read, told.whole, told.through) == (40, True, len(log))
    assert newer.reads == 2  # one of the index's, and one for all that is new
    assert _same(told, _naive(newer, len(log)))
    calls = newer.reads
    assert exposures.look(newer, newer.head(), index, NAME, Window()) == told
    assert newer.reads == calls


def test_an_index_that_is_begun_anew_is_asked_anew(index: SqliteIndex) -> None:
    view, exposures = MemoryView(log_of(_acts(30))), Exposures()
    assert exposures.look(view, view.head(), index, NAME, Window()).read == 30
    told = exposures.look(view, view.head(), Told(index, 11), NAME, Window())  # type: ignore[arg-type]
    assert (told.read, told.whole, told.reach) == (5, True, 11)
    assert exposures.look(view, view.head(), index, NAME, Window()).read == 30


class Told:
    """An index as a visit knows it that asked a moment ago: it goes so far."""

    def __init__(self, index: SqliteIndex, reach: int) -> None:
        self._index = index
        self._reach = reach

    def grow(self, _view: LogView, _head: Checkpoint) -> int:
        return self._reach

    def __getattr__(self, name: str) -> object:
        return getattr(self._index, name)


def test_a_visit_that_was_shown_an_older_head_throws_nothing_away(index: SqliteIndex) -> None:
    log = log_of(_acts(40))
    older, newer, exposures = MemoryView(log[:41]), MemoryView(log), Exposures()
    assert exposures.look(newer, newer.head(), index, NAME, Window()).read == 40
    late = exposures.look(older, older.head(), Told(index, 41), NAME, Window())  # type: ignore[arg-type]
    assert (late.read, late.reach, older.reads) == (40, 41, 0)


def test_no_visit_takes_for_whole_what_another_one_was_told_is(
    index: SqliteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was shown an older head comes between: what is read is all for them, and not for who was shown more."""
    monkeypatch.setattr(module, "CALLS", 1)
    log = log_of(_acts(60))
    older, exposures = MemoryView(log[:81]), Exposures()
    index.update(MemoryView(log), MemoryView(log).head())

    def early() -> ReadSoFar:
        return exposures.look(older, older.head(), Told(index, 81), NAME, Window())  # type: ignore[arg-type]

    class Crossed(MemoryView):
        def extent(self, index: int) -> Extent:
            early()
            return super().extent(index)

    assert (early().read, MAX_PROVEN) == (32, 32)
    newer = Crossed(log)
    told = exposures.look(newer, newer.head(), index, NAME, Window())
    assert (told.read, told.reach, told.whole) == (40, len(log), False)
    while not told.whole:
        told = exposures.look(newer, newer.head(), index, NAME, Window())
    assert told.read == 60


def test_an_index_that_names_what_is_not_there_is_thrown_away(index: SqliteIndex) -> None:
    view, exposures = MemoryView(log_of(_acts(5))), Exposures()
    small = MemoryView(view.log[:3])
    thrown: list[bool] = []

    class Boasting:
        """Says that it names entries in their order, and doesn't get on."""

        def grow(self, _view: LogView, _head: Checkpoint) -> int:
            return len(view.log)

        def find(self, _query: object, _limit: int, before: int) -> object:
            return type("Places", (), {"found": (), "looked": before})()

        def discard(self) -> None:
            thrown.append(True)

    assert exposures.look(small, small.head(), Boasting(), NAME, Window()).read == 0  # type: ignore[arg-type]
    assert thrown
    assert exposures.look(view, view.head(), index, NAME, Window()).read == 5


def test_an_index_file_that_was_damaged_is_built_anew(index: SqliteIndex) -> None:
    view, exposures = MemoryView(log_of(_acts(5))), Exposures()
    look = partial(exposures.look, view, view.head(), index, NAME, Window())
    assert look().read == 5
    index._db.execute("UPDATE place SET peaks = 7")
    told = look()
    assert (told.read, told.reach) == (0, 0)
    assert (look().read, look().reach) == (5, len(view.log))


def test_an_entry_that_was_edited_is_told_to_who_comes_next(
    aside: Aside, index: SqliteIndex, long: list[bytes]
) -> None:
    view = _view(long)
    index.update(view, view.head())
    aside.may_go_on.clear()
    look = partial(aside.exposures.look, view, view.head(), index, NAME, Window())
    before = look()
    view.shown = {2001: entry(EventName.RELEASED, 2000, {"model": NAME, "requester": "erin"})}
    aside.may_go_on.set()
    aside.quiet()
    assert [one["why"] for one in aside.noted] == [ProofError.code]
    with pytest.raises(TamperedError):
        look()
    view.shown = {}
    aside.quiet()
    while not (told := look()).whole:
        aside.quiet()
    assert (told.read, told.answer.holdings[-1].person) == (RELEASES, "dana")
    assert before.read < told.read


def test_several_windows_are_answers_of_one_reading(index: SqliteIndex) -> None:
    view, exposures = MemoryView(log_of(_acts(30))), Exposures()
    whole = exposures.look(view, view.head(), index, NAME, Window())
    calls, since = view.reads, whole.answer.holdings[20].since
    part = exposures.look(view, view.head(), index, NAME, Window(since=since))
    assert view.reads == calls
    assert part.answer == _fold(view).answer(window=Window(since=since))


def _fold(view: MemoryView) -> ExposureFold:
    fold, head = ExposureFold(NAME), view.head()
    for place, one in read_from(view, Place.start(head.origin), head):
        if one.facts.get("model") == NAME:
            fold.apply(place, one)
    return fold


def test_readings_that_are_kept_are_bounded(index: SqliteIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_READINGS", 3)
    view, exposures = MemoryView(log_of(_acts(5))), Exposures()
    for name in ("a", "b", "c", "d"):
        exposures.look(view, view.head(), index, ModelId(name), Window())
    assert [*exposures._readings] == ["b", "c", "d"]
    monkeypatch.setattr(module, "MOST_ENTRIES", 4)
    exposures.look(view, view.head(), index, NAME, Window())
    exposures.look(view, view.head(), index, NAME, Window())
    assert [*exposures._readings] == [NAME]


def test_what_is_read_beside_the_pages_is_bounded_too(
    aside: Aside, index: SqliteIndex, long: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody visits meanwhile."""
    monkeypatch.setattr(module, "MOST_ENTRIES", RELEASES - 1)
    view = _view(long)
    index.update(view, view.head())
    aside.may_go_on.clear()
    for name in (ModelId(MODELS[1]), NAME):
        aside.exposures.look(view, view.head(), index, name, Window())
    aside.may_go_on.set()
    aside.quiet()
    assert [*aside.exposures._readings] == [NAME]


def test_many_visits_at_once_count_each_entry_once(index: SqliteIndex, long: list[bytes]) -> None:
    view, exposures = _view(long[:401]), Exposures()
    index.update(view, view.head())
    faults: list[BaseException] = []

    def visits() -> None:
        try:
            while not exposures.look(view, view.head(), index, NAME, Window()).whole:
                pass
        except BaseException as error:  # noqa: BLE001 - told by the test
            faults.append(error)

    threads = [threading.Thread(target=visits) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(SECONDS)
    assert not faults
    told = exposures.look(view, view.head(), index, NAME, Window())
    assert (told.read, len(told.answer.holdings)) == (200, 200)
