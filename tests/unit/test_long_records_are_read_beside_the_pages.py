"""A visit reads some of a long record, and the rest is read beside the pages: none of it is shown before all is."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from strongroom.console.reading_on import MOST, ReadsOn
from strongroom.console.routes.drills import _held
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import UnavailableError
from strongroom.core.fields import Fields
from strongroom.responder.desk import PAGE, row
from strongroom.responder.reading import AT_ONCE, AskDesk, DeskReader, Listed, StillReadingError
from strongroom.response.drills import DrillToken
from strongroom.response.entries import Happened, IncidentEntry
from strongroom.response.incident import BrokenRecordError, Incident
from strongroom.response.subjects import Subject
from strongroom.response.wiring import shipped_playbooks
from support.responses import Record, alert, token

SECONDS = 60
LONG = 3 * AT_ONCE + 7
ROLE = {"role": "commander"}


class Desk:
    """A desk that shows one record."""

    def __init__(
        self, count: int, subject: str = "model:atlas", by: str = "person:dana", drill: DrillToken | None = None
    ) -> None:
        self.token = drill
        record = Record.of(alert(subject, drill=None if drill is None else Digest.of(drill.to_bytes())))
        self.entries: list[IncidentEntry] = list(record.entries)
        self.incident: Incident = record.incident
        while len(self.entries) < count:
            facts = {"note": str(Digest.of(b"%d" % len(self.entries)))}
            self.entries.append(self.incident.next(Happened.NOTE_ADDED, by, self.incident.opened, facts))
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
        token = None if self.token is None else to_base64(self.token.to_bytes())
        return Fields({"entries": told, "runs": {}, "further": [], "drill": token, "held": False}, "answer")


def listed(desk: Desk) -> Listed:
    with Fields(row(desk.incident, running=False), "incident") as fields:
        return Listed.read(fields)


def among(*desks: Desk) -> AskDesk:
    """Return a desk that shows the record of each."""
    found = {one.incident.id: one for one in desks}

    def ask(operation: str, /, **members: Json) -> Fields:
        if operation == "incidents":
            rows: list[Json] = [row(one.incident, running=False) for one in desks]
            return Fields({"incidents": rows, "broken": {}}, "answer")
        return found[str(members["incident"])](operation, **members)

    return ask


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
    lab, told = Lab(desk), listed(desk)
    assert (lab.reader.new(told), lab.reader.put_off(told, LONG)) == (LONG, False)
    assert lab.reader.put_off(told, AT_ONCE)
    assert desk.asked == []
    lab.quiet()
    assert (lab.reader.new(told), lab.reader.put_off(told, 0)) == (0, False)
    assert not DeskReader(desk).put_off(told, 0)


def test_more_records_than_are_remembered_together_do_not_keep_the_reading_going(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that is read on costs another one, which nobody comes for any more."""
    monkeypatch.setattr("strongroom.responder.reading.MAX_REMEMBERED", LONG + AT_ONCE)
    desks = (desk, Desk(LONG, "model:borealis"), Desk(LONG, "model:corona"))
    lab = Lab(among(*desks))
    for one in desks:
        with pytest.raises(StillReadingError):
            lab.reader.read(one.incident.id)
    lab.quiet()
    asked = sum(len(one.asked) for one in desks)
    # At worst the first steps of all three are taken again.
    assert asked <= 3 * (LONG // PAGE + 1) + 3 * (AT_ONCE // PAGE)
    assert not lab.noted
    # However little room there is for whole records, what a list shows of each is there, and nothing is read for it.
    for one in desks:
        told = listed(one)
        assert (lab.reader.new(told), lab.reader.put_off(told, 0)) == (0, False)
        brief = lab.reader.brief(told, until=SECONDS)
        assert (brief.size, brief.last) == (LONG, one.entries[-1].digest)
        assert brief.entries == tuple(one.entries[:1])
    assert sum(len(one.asked) for one in desks) == asked


def test_a_page_of_drills_is_through_however_long_their_records_are_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how far it is meanwhile, and once it is through it asks for nothing any more."""
    monkeypatch.setattr("strongroom.responder.reading.MAX_REMEMBERED", LONG)
    practised = token("weight-exfiltration-suspected")
    desks = [
        Desk(LONG, f"model:shadow-{name}", drill=replace(practised, subjects=(Subject.parse(f"model:shadow-{name}"),)))
        for name in ("atlas", "borealis", "corona")
    ]
    lab = Lab(among(*desks))
    visit: Any = SimpleNamespace(query={}, beside=SimpleNamespace(playbooks=shipped_playbooks()))

    def page() -> Any:
        return _held(visit, lab.reader)

    first = page()
    assert (first["reading"], first["read"]) == (3, {"entries": 0, "of": 3 * LONG})
    assert [(one["measured"], one["read"]) for one in first["drills"]] == [(None, {"entries": 0, "of": LONG})] * 3
    assert first["means"]["detect"] is None
    lab.quiet()
    asked = [len(one.asked) for one in desks]
    last = page()
    assert (last["reading"], last["read"]) == (0, {"entries": 0, "of": 0})
    assert [(one["measured"]["detect_micros"], one["read"]) for one in last["drills"]] == [(90, None)] * 3
    assert [one["playbook"] for one in last["drills"]] == [practised.playbook] * 3
    assert last["means"]["detect"] == 90
    assert [len(one.asked) for one in desks] == asked


def test_a_record_that_grew_is_read_on_and_what_was_known_of_it_is_shown_meanwhile(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, whole = Desk(LONG, "model:borealis"), list(desk.entries)
    lab = Lab(among(desk, other))
    monkeypatch.setattr("strongroom.responder.reading.MAX_REMEMBERED", LONG)
    lab.may_go_on.set()
    for one in (desk, other):
        lab.reader.put_off(listed(one), 0)
        lab.quiet()
    try:
        lab.may_go_on.clear()
        grown = desk.incident.next(Happened.ROLE_TAKEN, "person:dana", desk.incident.opened, ROLE)
        desk.entries.append(grown)
        told = replace(listed(desk), entries=LONG + 1)
        assert (lab.reader.new(told), lab.reader.far(told)) == (LONG + 1, 0)
        assert lab.reader.put_off(told, AT_ONCE)
        known = lab.reader.known(told)
        assert known is not None
        assert (known.size, len(known.entries)) == (LONG, 1)
        with pytest.raises(StillReadingError):
            lab.reader.brief(told, until=SECONDS)
        assert lab.reader.far(told) == AT_ONCE
        lab.quiet()
        assert lab.reader.brief(told, until=SECONDS).entries == (desk.entries[0], grown)
    finally:
        desk.entries[:] = whole


@pytest.mark.parametrize("how", ["changed", "cut short"])
def test_a_record_that_was_read_is_not_another_one_once_its_entries_were_let_go(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("strongroom.responder.reading.MAX_REMEMBERED", 1)
    other, whole = Desk(3, "model:borealis"), list(desk.entries)
    reader = DeskReader(among(desk, other))
    assert len(reader.read(desk.incident.id).entries) == LONG
    reader.read(other.incident.id)
    assert reader.far(listed(desk)) == 0
    try:
        # Each is one chain in itself.
        desk.entries[:] = whole[:-1] if how == "cut short" else Desk(LONG, by="person:erin").entries
        with pytest.raises(BrokenRecordError, match="than it showed before"):
            reader.read(desk.incident.id)
    finally:
        desk.entries[:] = whole


def test_the_oldest_of_many_briefs_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.responder.reading.MAX_BRIEFS", 2)
    desks = (Desk(2), Desk(2, "model:borealis"), Desk(2, "model:corona"))
    reader = DeskReader(among(*desks))
    for one in desks:
        reader.read(one.incident.id)
    assert [reader.known(listed(one)) is not None for one in desks] == [False, True, True]


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
