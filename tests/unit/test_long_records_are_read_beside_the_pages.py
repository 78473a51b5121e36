"""A visit reads some of a long record, and the rest is read beside the pages: none of it is shown before all is."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from strongroom.console.reading_on import MOST, ReadsOn
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import UnavailableError
from strongroom.core.fields import Fields
from strongroom.responder.desk import PAGE, row
from strongroom.responder.reading import AT_ONCE, AskDesk, DeskReader, Listed, StillReadingError
from strongroom.response.entries import Happened, IncidentEntry
from strongroom.response.incident import BrokenRecordError, Incident
from support.responses import Record, alert

SECONDS = 60
LONG = 3 * AT_ONCE + 7


class Desk:
    """A desk that shows one record."""

    def __init__(self, count: int, subject: str = "model:atlas") -> None:
        record = Record.of(alert(subject))
        self.entries: list[IncidentEntry] = list(record.entries)
        self.incident: Incident = record.incident
        while len(self.entries) < count:
            facts = {"note": str(Digest.of(b"%d" % len(self.entries)))}
            self.entries.append(self.incident.next(Happened.NOTE_ADDED, "person:dana", self.incident.opened, facts))
            self.incident = self.incident.apply(self.entries[-1])
        self.asked: list[tuple[str, int]] = []
        self.silent = False

    def __call__(self, _operation: str, /, **members: Json) -> Fields:
        after = members["after"]
        assert isinstance(after, int)
        self.asked.append((threading.current_thread().name, after))
        if self.silent:
            raise UnavailableError("nobody answers")
        told: list[Json] = [to_base64(one.to_bytes()) for one in self.entries[after : after + PAGE]]
        return Fields({"entries": told, "runs": {}, "further": [], "drill": None, "held": False}, "answer")


@pytest.fixture(scope="module")
def long() -> Desk:
    return Desk(LONG)


@pytest.fixture
def desk(long: Desk) -> Desk:
    long.asked.clear()
    return long


class Lab:
    """A reader whose long records are read on beside it, when the test lets them."""

    def __init__(self, desk: AskDesk) -> None:
        self.may_go_on = threading.Event()
        self.noted: list[Mapping[str, Json]] = []
        self.aside = ReadsOn("records", monotonic=lambda: 0.0, sleep=self._rest, note=self._note)
        self.reader = DeskReader(desk, later=self._later)

    def _later(self, name: str, work: Any) -> None:
        def held() -> bool:
            assert self.may_go_on.wait(SECONDS)
            return bool(work())

        self.aside.later(name, held)

    def _rest(self, seconds: float) -> None:
        assert seconds > 0

    def _note(self, _event: str, facts: Mapping[str, Json]) -> None:
        self.noted.append(facts)

    def quiet(self) -> None:
        self.may_go_on.set()
        for one in threading.enumerate():
            if one.name == "records":
                one.join(SECONDS)
                assert not one.is_alive()


def test_a_visit_reads_some_and_the_rest_follows_by_itself(desk: Desk) -> None:
    lab = Lab(desk)
    with pytest.raises(StillReadingError, match=f"{AT_ONCE} entries"):
        lab.reader.read(desk.incident.id)
    assert desk.asked == [("MainThread", 0), ("MainThread", PAGE)]
    lab.quiet()
    # Each page was asked for once.
    assert [after for _who, after in desk.asked] == [*range(0, LONG, PAGE)]
    assert {who for who, _after in desk.asked[2:]} == {"records"}
    shown = lab.reader.read(desk.incident.id)
    assert (shown.incident, list(shown.entries)) == (desk.incident, desk.entries)
    assert not lab.noted


def test_visits_meanwhile_read_on_too_and_show_nothing_half(desk: Desk) -> None:
    lab, visits = Lab(desk), 0
    while True:
        try:
            shown = lab.reader.read(desk.incident.id)
        except StillReadingError:
            visits += 1
        else:
            break
    assert (visits, len(shown.entries)) == (LONG // AT_ONCE, LONG)
    lab.quiet()
    assert lab.reader.read(desk.incident.id) == shown


def test_a_record_that_a_command_reads_is_read_to_its_end(desk: Desk) -> None:
    assert len(DeskReader(desk).read(desk.incident.id).entries) == LONG


def test_a_record_that_is_broken_behind_what_a_visit_read_is_never_shown(desk: Desk) -> None:
    lab, whole = Lab(desk), list(desk.entries)
    with pytest.raises(StillReadingError):
        lab.reader.read(desk.incident.id)
    try:
        desk.entries[AT_ONCE + 3] = replace(desk.entries[AT_ONCE + 3], by="person:erin")
        lab.quiet()
        assert [one["why"] for one in lab.noted] == [BrokenRecordError.code]
        with pytest.raises(BrokenRecordError):
            lab.reader.read(desk.incident.id)
    finally:
        desk.entries[:] = whole


def test_a_responder_that_falls_silent_ends_the_reading_and_the_next_visit_begins_it_again(desk: Desk) -> None:
    lab = Lab(desk)
    with pytest.raises(StillReadingError):
        lab.reader.read(desk.incident.id)
    desk.silent = True
    lab.quiet()
    desk.silent = False
    assert [one["why"] for one in lab.noted] == [UnavailableError.code]
    with pytest.raises(StillReadingError, match=f"{2 * AT_ONCE} entries"):
        lab.reader.read(desk.incident.id)
    lab.quiet()
    assert len(lab.reader.read(desk.incident.id).entries) == LONG


def test_a_page_of_many_reads_no_more_than_there_is_room_for(desk: Desk) -> None:
    lab = Lab(desk)
    with Fields(row(desk.incident, running=False), "incident") as fields:
        listed = Listed.read(fields)
    assert (lab.reader.new(listed), lab.reader.put_off(listed, LONG)) == (LONG, False)
    assert lab.reader.put_off(listed, AT_ONCE)
    assert desk.asked == []
    lab.quiet()
    assert (lab.reader.new(listed), lab.reader.put_off(listed, 0)) == (0, False)
    assert not DeskReader(desk).put_off(listed, 0)


def test_more_records_than_are_remembered_together_do_not_keep_the_reading_going(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that is read on costs another one, which nobody comes for any more."""
    monkeypatch.setattr("strongroom.responder.reading.MAX_REMEMBERED", LONG + AT_ONCE)
    desks = {one.incident.id: one for one in (desk, Desk(LONG, "model:borealis"), Desk(LONG, "model:corona"))}

    def ask(operation: str, /, **members: Json) -> Fields:
        return desks[str(members["incident"])](operation, **members)

    lab = Lab(ask)
    for name in desks:
        with pytest.raises(StillReadingError):
            lab.reader.read(name)
    lab.quiet()
    asked = sum(len(one.asked) for one in desks.values())
    # At worst the first steps of all three are taken again.
    assert asked <= 3 * (LONG // PAGE + 1) + 3 * (AT_ONCE // PAGE)
    assert not lab.noted


def test_only_so_many_records_wait() -> None:
    go, read = threading.Event(), list[str]()
    aside = ReadsOn("records", monotonic=lambda: 0.0, sleep=lambda _seconds: None, note=lambda _event, _facts: None)

    def work(name: str) -> bool:
        assert go.wait(SECONDS)
        read.append(name)
        return False

    for number in range(3 * MOST):
        aside.later(f"inc-{number}", lambda name=f"inc-{number}": work(name))  # type: ignore[misc]
    go.set()
    for one in threading.enumerate():
        if one.name == "records":
            one.join(SECONDS)
    assert MOST <= len(read) <= MOST + 1
