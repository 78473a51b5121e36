"""Whoever looks at an incident, or signs for it, gets the one that they asked for, or none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError, UnavailableError, UsageError
from strongroom.core.fields import Fields
from strongroom.responder.desk import PAGE, words_name
from strongroom.responder.reading import MAX_KEPT, MAX_REMEMBERED, DeskReader
from strongroom.response.entries import Happened, IncidentEntry
from strongroom.response.executor import begin
from strongroom.response.exposure import answer_name
from strongroom.response.incident import BrokenRecordError, RecordError
from strongroom.response.run import Run
from strongroom.response.subjects import Subject
from strongroom.response.wiring import playbook_called, shipped_playbooks
from support.responses import NOW, TERMS, Record, alert, token, variables_of


class Desk:
    """A desk that shows whatever it is made to."""

    def __init__(self, *records: Record) -> None:
        self.shown = {record.incident.id: list(record.entries) for record in records}
        self.kept = b""
        self.asked: list[int] = []
        self.runs: dict[str, Json] = {}
        self.token: Json = None

    def __call__(self, operation: str, /, **members: Json) -> Fields:
        if operation == "kept":
            return Fields({"data": to_base64(self.kept), "size": len(self.kept)}, "answer")
        after = members["after"]
        assert isinstance(after, int)
        self.asked.append(after)
        entries = self.shown[str(members["incident"])][after : after + PAGE]
        told: list[Json] = [to_base64(entry.to_bytes()) for entry in entries]
        runs = dict(self.runs)
        return Fields({"entries": told, "runs": runs, "further": [], "drill": self.token, "held": False}, "answer")


def grown(record: Record, count: int) -> list[IncidentEntry]:
    """Return the record's entries, and so many more."""
    entries, incident = list(record.entries), record.incident
    for _number in range(count):
        entry = incident.next(Happened.NOTE_ADDED, "person:dana", incident.opened, {"note": str(Digest.of(b"x"))})
        entries.append(entry)
        incident = incident.apply(entry)
    return entries


def test_the_incident_that_was_asked_for_is_shown() -> None:
    record = Record.of(alert())
    assert DeskReader(Desk(record)).read(record.incident.id).incident == record.incident


def test_another_incident_under_its_name_is_refused() -> None:
    wanted, other = Record.of(alert()), Record.of(alert("model:borealis"))
    desk = Desk(wanted)
    desk.shown[wanted.incident.id] = list(other.entries)
    with pytest.raises(BrokenRecordError, match=wanted.incident.id):
        DeskReader(desk).read(wanted.incident.id)


def test_a_record_that_grew_is_read_on_from_where_it_was() -> None:
    record = Record.of(alert())
    desk, name = Desk(record), record.incident.id
    reader = DeskReader(desk)
    reader.read(name)
    desk.shown[name] = grown(record, PAGE + 5)
    assert reader.read(name).incident.size == len(record.entries) + PAGE + 5
    assert desk.asked == [0, len(record.entries), len(record.entries) + PAGE]
    assert DeskReader(desk).read(name) == reader.read(name)


def test_a_record_that_was_written_anew_is_refused() -> None:
    record = Record.of(alert())
    desk, name = Desk(record), record.incident.id
    reader = DeskReader(desk)
    desk.shown[name] = grown(record, 3)
    reader.read(name)
    forked = grown(record, 3)
    forked[-1] = replace(forked[-1], facts={"note": str(Digest.of(b"another"))})
    last = replace(forked[-1], seq=forked[-1].seq + 1, previous=forked[-1].digest)
    desk.shown[name] = [*forked, last]
    with pytest.raises(BrokenRecordError):
        reader.read(name)


def test_a_record_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.response.incident.MAX_ENTRIES", 2 * PAGE)
    record = Record.of(alert())
    desk, name = Desk(record), record.incident.id
    desk.shown[name] = grown(record, 2 * PAGE - 1)
    entry = desk.shown[name][-1]
    desk.shown[name] += [replace(entry, seq=entry.seq + 1, previous=entry.digest)] * PAGE
    with pytest.raises(RecordError):
        DeskReader(desk).read(name)


def test_a_desk_that_drips_is_given_up_on() -> None:
    record = Record.of(alert())
    desk, name, spent = Desk(record), record.incident.id, [0.0]
    desk.shown[name] = grown(record, 5 * PAGE)

    def ask(operation: str, /, **members: Json) -> Fields:
        spent[0] += 3.0
        return desk(operation, **members)

    assert DeskReader(ask, seconds=18.0, monotonic=lambda: spent[0]).read(name).incident.size == 5 * PAGE + 1
    reader = DeskReader(ask, seconds=8.0, monotonic=lambda: spent[0])
    with pytest.raises(UnavailableError, match="too long"):
        reader.read(name)
    # Nor does a page of many get more.
    ended = reader.until()
    spent[0] += 9.0
    with pytest.raises(UnavailableError, match="too long"):
        reader.read(name, until=ended)


def test_a_desk_that_drips_what_it_keeps_is_given_up_on() -> None:
    """A byte in each answer of a million."""
    spent = [0.0]

    def ask(_operation: str, /, **_members: Json) -> Fields:
        spent[0] += 1.0
        return Fields({"data": to_base64(b"x"), "size": MAX_KEPT}, "answer")

    with pytest.raises(UnavailableError, match="too long"):
        DeskReader(ask, seconds=8.0, monotonic=lambda: spent[0]).kept(Record.of(alert()).incident.id, "evidence-1.json")
    assert spent[0] < 10.0


def test_what_is_remembered_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.responder.reading.MAX_REMEMBERED", 3)
    records = [Record.of(alert(f"model:m{number}")) for number in range(6)]
    reader = DeskReader(Desk(*records))
    for record in records:
        reader.read(record.incident.id)
    assert sum(one.incident.size for one in reader._read.values()) <= 3 < MAX_REMEMBERED


def run_in(incident: str) -> Run:
    book = playbook_called("weight-exfiltration-suspected")
    told = variables_of(book)
    return begin(shipped_playbooks(), book.id, incident=incident, variables=told, terms=TERMS, now=NOW, before=0)


def test_runs_of_another_incident_are_refused_and_none_are_remembered() -> None:
    record = Record.of(alert())
    desk, name = Desk(record), record.incident.id
    reader = DeskReader(desk)
    desk.runs = {"run-000": to_base64(run_in(name).to_bytes())}
    assert reader.read(name).waits
    assert not any(one.runs for one in reader._read.values())
    desk.runs = {"run-000": to_base64(run_in(f"inc-{'0' * 32}").to_bytes())}
    with pytest.raises(BrokenRecordError, match="runs of another"):
        reader.read(name)


@pytest.mark.parametrize("subject", ["model:atlas", "model:shadow-other"])
def test_the_token_of_another_drill_is_refused(subject: str) -> None:
    drill = Digest.of(b"token") if subject.startswith("model:shadow-") else None
    record = Record.of(alert(subject, drill=drill))
    desk = Desk(record)
    made = replace(token("insider"), subjects=(Subject.parse("model:shadow-atlas"),))
    desk.token = to_base64(made.to_bytes())
    with pytest.raises(BrokenRecordError, match="another drill"):
        DeskReader(desk).read(record.incident.id)


@pytest.mark.parametrize("key", ["$(reboot)", ";reboot;", "", "0" * 31, "0" * 32 + "x"])
def test_keys_that_a_shell_would_act_on_are_refused(key: str) -> None:
    record = Record.of(alert())
    desk, name = Desk(record), record.incident.id
    run = run_in(name)
    first, *others = run.pending
    run = replace(run, pending=(replace(first, key=key), *others))
    desk.runs = {"run-000": to_base64(run.to_bytes())}
    with pytest.raises(MalformedError, match="key"):
        DeskReader(desk).read(name)


@pytest.mark.parametrize("text", ["", " ", "   ", "o", "now"])
def test_too_few_letters_name_nothing_that_waits_also_where_one_thing_does(text: str) -> None:
    record = Record.of(alert())
    desk, run = Desk(record), run_in(record.incident.id)
    only = replace(run, threads=run.threads, pending=run.pending[:1])
    shown = replace(DeskReader(desk).read(record.incident.id), runs={"run-000": only})
    assert len(shown.waits) == 1
    assert shown.find(shown.waits[0].pending.key[:8]) == shown.waits[0].pending
    with pytest.raises(UsageError, match="characters"):
        shown.find(text)


@pytest.mark.parametrize("name", [answer_name, words_name])
def test_what_a_digest_names_is_asked_for_by_no_way_round_it(name: Callable[[Digest], str]) -> None:
    desk = Desk()
    reader, incident = DeskReader(desk), "inc-" + "0" * 32
    desk.kept = b"{}"
    assert reader.kept(incident, name(Digest.of(b"{}"))) == b"{}"
    with pytest.raises(BrokenRecordError, match="the record names"):
        reader.kept(incident, name(Digest.of(b"[]")))


def test_other_words_than_the_record_names_are_refused() -> None:
    desk = Desk()
    desk.kept = b"other words"
    reader = DeskReader(desk)
    assert reader.words("inc-" + "0" * 32, Digest.of(b"other words")) == b"other words"
    with pytest.raises(BrokenRecordError):
        reader.words("inc-" + "0" * 32, Digest.of(b"words"))


@pytest.mark.parametrize(
    "row", [{}, {"incident": "<b>"}, {"incident": "inc-" + "0" * 32}, {"incident": "../../etc", "subject": "model:a"}]
)
def test_rows_of_another_form_are_refused(row: dict[str, Json]) -> None:
    def ask(_operation: str, /, **_members: Json) -> Fields:
        return Fields({"incidents": [row], "broken": {}}, "answer")

    with pytest.raises(MalformedError):
        DeskReader(ask).incidents()
