"""A reader that follows the log believes no entry that isn't in it, from wherever it goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit.errors import EditedEntryError, ForkError, LogError, MissingRowsError
from strongroom.audit.merkle import leaf_hash
from strongroom.audit.reading.growth import STEP, Place, check_continues, grow, place_at
from strongroom.core.errors import MalformedError
from strongroom.core.events import EventName
from support.log_views import MemoryView
from support.logs import opening, sample_entry

SIZES = st.integers(0, 40)


def log(size: int, salt: bytes = b"") -> list[bytes]:
    return [salt + b"%d" % i for i in range(size)]


def read(view: MemoryView, place: Place) -> list[bytes]:
    return [data for _after, entries in grow(view, place, view.head()) for data in entries]


@given(SIZES, st.data(), st.integers(1, 256))
def test_from_any_place_everything_after_it_comes(size: int, data: st.DataObject, most: int) -> None:
    view = MemoryView(log(size), most=most)
    at = data.draw(st.integers(0, size))
    place = place_at(view, view.head(), at)
    assert (place.size, place.origin) == (at, view.head().origin)
    assert read(view, place) == view.log[at:]
    again = Place.parse(place.to_bytes())
    assert again == place


@given(SIZES.filter(bool), st.data())
def test_an_entry_that_is_not_in_the_log_is_refused(size: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, size - 1))
    view = MemoryView(log(size), shown={at: b"another"})
    start = data.draw(st.integers(0, at))
    with pytest.raises(LogError):
        read(view, place_at(view, view.head(), start))


@given(SIZES.filter(bool), st.data())
def test_a_log_that_was_rewritten_is_refused(size: int, data: st.DataObject) -> None:
    seen = data.draw(st.integers(1, size))
    before = MemoryView(log(size))
    place = place_at(before, before.head(), seen)
    rewritten = MemoryView([*log(seen - 1), b"another", *log(size)[seen:]])
    with pytest.raises(ForkError):
        check_continues(rewritten, place, rewritten.head())


@given(SIZES.filter(bool), st.data())
def test_a_log_that_went_back_is_refused(size: int, data: st.DataObject) -> None:
    before = MemoryView(log(size))
    place = place_at(before, before.head(), size)
    shorter = MemoryView(log(data.draw(st.integers(0, size - 1))))
    with pytest.raises(MissingRowsError):
        check_continues(shorter, place, shorter.head())


def test_a_fork_of_the_same_size_is_refused_before_anything_comes() -> None:
    before, fork = MemoryView(log(7)), MemoryView([*log(6), b"another"])
    place = place_at(before, before.head(), 7)
    with pytest.raises(ForkError):
        read(fork, place)
    other = MemoryView([b"another", *log(9)[1:]])
    with pytest.raises(ForkError):
        read(other, place)


def test_a_place_is_only_given_where_it_is_proven() -> None:
    view = MemoryView(log(9), shown={4: b"another"})
    with pytest.raises(ForkError):
        place_at(view, view.head(), 5)
    with pytest.raises(MissingRowsError):
        place_at(view, view.head(), 10)


def test_a_long_log_comes_in_steps() -> None:
    size = STEP + 300
    view = MemoryView(log(size))
    steps = [len(entries) for _after, entries in grow(view, Place.start("vault.example/log"), view.head())]
    assert steps == [STEP, 300]


def test_a_source_that_shows_nothing_is_refused() -> None:
    view = MemoryView(log(5), most=0)
    with pytest.raises(MissingRowsError):
        read(view, Place.start("vault.example/log"))


def test_a_place_of_another_log_is_refused() -> None:
    view = MemoryView(log(5))
    with pytest.raises(ForkError):
        check_continues(view, Place.start("another.example/log"), view.head())


def test_an_edit_names_the_step_that_it_is_in() -> None:
    view = MemoryView(log(9), shown={4: b"another"})
    with pytest.raises(EditedEntryError) as caught:
        read(view, Place.start("vault.example/log"))
    assert caught.value.index == 0


@given(st.binary(max_size=80))
def test_a_cursor_is_read_or_refused(data: bytes) -> None:
    try:
        Place.parse(data)
    except MalformedError:
        return


def test_a_cursor_with_too_few_hashes_is_refused() -> None:
    place = Place("vault.example/log", 3, leaf_hash(b"one"))
    view = MemoryView([opening(), *(sample_entry(EventName.REFUSED, seq) for seq in range(5))])
    with pytest.raises(ForkError):
        check_continues(view, Place.parse(place.to_bytes()), view.head())
