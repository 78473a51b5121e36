"""An export hands every entry over at least once and in order, whatever fails: its cursor waits for safety."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit.adapters.sinks import FileSink, parse_headers, read_headers, receiver_url
from strongroom.audit.errors import ForkError, LogError, MissingRowsError
from strongroom.audit.export.cloudevents import CloudEventsFormat
from strongroom.audit.export.delivery import (
    MOST_SECONDS,
    Answer,
    HttpSink,
    Patience,
    SinkLostError,
    SinkRefusedError,
    export,
    pause,
)
from strongroom.audit.export.otlp import OtlpFormat
from strongroom.audit.export.pseudonyms import Pseudonyms
from strongroom.audit.export.record import Body, Record
from strongroom.audit.export.tables import CsvFormat
from strongroom.audit.reading.growth import Place
from strongroom.cli.audit import audit
from strongroom.core.errors import ConflictError, MalformedError, UsageError
from support.log_views import MemoryView
from support.logs import LOG_KEY, ORIGIN, LocalLog, some_entries

LOG = some_entries(24)
VIEW = MemoryView(LOG)


class Failing:
    """A sink that fails when it is told to, before or after it took a batch."""

    def __init__(self, failures: list[str]) -> None:
        self.failures = failures
        self.taken: list[int] = []

    def take(self, records: tuple[Record, ...]) -> None:
        what = self.failures.pop(0) if self.failures else ""
        if what == "before":
            raise SinkLostError("not now")
        self.taken += [record.index for record in records]
        if what == "after":
            raise SinkLostError("the answer was lost")


def unchanged(record: Record) -> Record:
    return record


@given(st.lists(st.sampled_from(["", "before", "after"]), max_size=20), st.integers(1, 30), st.integers(0, 24))
def test_every_entry_arrives_at_least_once_and_in_order(failures: list[str], most: int, start: int) -> None:
    sink, cursors = Failing(list(failures)), [Place.start(ORIGIN).to_bytes()]

    def moved(place: Place) -> None:
        # What the cursor says is safe has arrived.
        assert set(range(place.size)) <= set(sink.taken)
        cursors.append(place.to_bytes())

    views = [MemoryView(LOG[:start]), *[VIEW] * (len(failures) + 1)]
    for view in views:
        try:
            place = Place.parse(cursors[-1])
            export(view, place, view.head(), most=most, change=unchanged, sink=sink, moved=moved)
        except SinkLostError:
            continue
    assert list(dict.fromkeys(sink.taken)) == list(range(len(LOG)))
    assert Place.parse(cursors[-1]).size == len(LOG)


def test_nothing_is_exported_that_is_not_in_the_log() -> None:
    sink = Failing([])
    forged = MemoryView(LOG, shown={5: LOG[6]})
    with pytest.raises(LogError):
        export(forged, Place.start(ORIGIN), forged.head(), most=1, change=unchanged, sink=sink, moved=lambda _at: None)
    assert sink.taken == []


# --- HTTP -------------------------------------------------------------------------------------------------------------


class Answers:
    """Answers what it is told to, the last of it again and again."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.got: list[Body] = []
        self.slept: list[float] = []

    def __call__(self, body: Body) -> Answer:
        self.got.append(body)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def sink(self, attempts: int = 5, chance: float = 1.0) -> HttpSink:
        return HttpSink(OtlpFormat(), self, Patience(attempts=attempts, sleep=self.slept.append, chance=lambda: chance))

    def send(self, attempts: int = 5) -> None:
        export(
            VIEW,
            Place.start(ORIGIN),
            VIEW.head(),
            most=24,
            change=unchanged,
            sink=self.sink(attempts),
            moved=lambda _at: None,
        )


@pytest.mark.parametrize("status", [0, 408, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_and_then_given_back(status: int) -> None:
    passing = Answers(Answer(status), Answer(status), Answer(200))
    passing.send()
    assert len(passing.got) == 3
    assert passing.slept == [1.0, 2.0]
    lost = Answers(Answer(status))
    with pytest.raises(SinkLostError):
        lost.send()
    assert len(lost.got) == 5
    assert len(lost.slept) == 4


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 501])
def test_what_will_not_pass_is_not_tried_again(status: int) -> None:
    refusing = Answers(Answer(status))
    with pytest.raises(SinkRefusedError):
        refusing.send()
    assert len(refusing.got) == 1


def test_a_receiver_that_takes_only_a_part_is_refused() -> None:
    for rejected in (3, "3", -1, "three", "9" * 5000, [1]):
        partly = json.dumps({"partialSuccess": {"rejectedLogRecords": rejected, "errorMessage": "no"}}).encode()
        with pytest.raises(SinkRefusedError):
            Answers(Answer(200, partly)).send()
    for whole in (b"", b"{}", b"<html>", b'{"partialSuccess":{}}', b'{"partialSuccess":{"rejectedLogRecords":"0"}}'):
        Answers(Answer(200, whole)).send()


@given(st.binary(max_size=60))
def test_any_answer_is_understood(data: bytes) -> None:
    try:
        Answers(Answer(200, data)).send()
    except SinkRefusedError:
        assert b"rejectedLogRecords" in data


@given(st.integers(1, 1000), st.floats(0, 1))
def test_pauses_are_bounded(failures: int, chance: float) -> None:
    assert 0.5 <= pause(failures, chance) <= MOST_SECONDS


def test_a_receiver_may_ask_for_a_longer_pause_but_not_for_ever() -> None:
    asking = Answers(Answer(429, retry_after=7.0), Answer(503, retry_after=1e9), Answer(200))
    asking.send()
    assert asking.slept == [7.0, MOST_SECONDS]


# --- files ------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 24), st.integers(0, 4000))
def test_a_line_that_a_crash_cut_short_is_written_again(at: int, torn: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.csv"
        sink = FileSink(path, CsvFormat())
        place = Place.start(ORIGIN)
        before = MemoryView(LOG[:at])
        place = export(before, place, before.head(), most=5, change=unchanged, sink=sink, moved=lambda _at: None)
        sink.close()
        # The next batch was half written, and the cursor not moved, when the machine stopped.
        more = CsvFormat().opening + b"24,half a line, and another" * 200
        with path.open("ab") as file:
            file.write(more[len(CsvFormat().opening) :][:torn])
        sink = FileSink(path, CsvFormat())
        export(VIEW, place, VIEW.head(), most=5, change=unchanged, sink=sink, moved=lambda _at: None)
        sink.close()
        lines = path.read_text().splitlines()
        assert lines[0].startswith("index,at,event")
        assert [line.partition(",")[0] for line in lines[1:]] == [str(i) for i in range(24)]


def test_two_exports_do_not_write_one_file(tmp_path: Path) -> None:
    log, out = prepared(tmp_path / "log", LOG), tmp_path / "out"
    arguments = ["--to", "csv", "--out", str(out), "--cursor", str(tmp_path / "cursor")]
    assert run(log, *arguments).exit_code == 0
    first = FileSink(out, CsvFormat())
    with out.open("ab") as file:
        file.write(b"what the first is just wri")
    written = out.read_bytes()
    assert isinstance(run(log, *arguments).exception, ConflictError)
    assert out.read_bytes() == written
    first.close()
    assert run(log, *arguments).exit_code == 0


def prepared(home: Path, entries: list[bytes]) -> LocalLog:
    home.mkdir(exist_ok=True)
    log = LocalLog(home)
    log.append(entries)
    (home / "key").write_text(f"{LOG_KEY}\n")
    return log


def run(log: LocalLog, *arguments: str) -> Result:
    whole = ["export", "--log", str(log.public), "--key", str(log.home / "key"), *arguments]
    return CliRunner().invoke(audit, whole)


def test_the_command_goes_on_where_it_was(tmp_path: Path) -> None:
    log = prepared(tmp_path / "log", LOG[:10])
    out, cursor = tmp_path / "out.jsonl", tmp_path / "cursor"
    arguments = ["--to", "ocsf", "--out", str(out), "--cursor", str(cursor), "--batch", "4"]
    first = run(log, *arguments)
    assert first.exit_code == 0, first.output
    assert "stands at 10" in first.stderr
    log.append(LOG[10:])
    assert run(log, *arguments).exit_code == 0
    assert run(log, *arguments).exit_code == 0
    told = [json.loads(line)["metadata"]["sequence"] for line in out.read_text().splitlines()]
    assert told == list(range(24))
    assert oct(out.stat().st_mode & 0o777) == "0o600"


def test_the_command_writes_to_standard_output_under_pseudonyms(tmp_path: Path) -> None:
    log = prepared(tmp_path / "log", LOG)
    key = tmp_path / "key32"
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    arguments = ["--to", "cloudevents", "--out", "-", "--cursor", str(tmp_path / "c"), "--pseudonyms", str(key)]
    result = run(log, *arguments)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 24
    assert "dana" not in result.stdout
    assert Pseudonyms(b"k" * 32).name("person", "dana") in result.stdout


def test_a_log_that_went_back_or_was_rewritten_is_not_exported(tmp_path: Path) -> None:
    log = prepared(tmp_path / "log", LOG)
    arguments = ["--to", "csv", "--out", str(tmp_path / "out"), "--cursor", str(tmp_path / "cursor")]
    assert run(log, *arguments).exit_code == 0
    assert isinstance(run(prepared(tmp_path / "b", LOG[:9]), *arguments).exception, MissingRowsError)
    forked = prepared(tmp_path / "c", [*LOG[:23], *some_entries(26)[24:]])
    assert isinstance(run(forked, *arguments).exception, ForkError)


def test_a_file_that_the_cursor_did_not_begin_is_left_alone(tmp_path: Path) -> None:
    log = prepared(tmp_path / "log", LOG)
    out = tmp_path / "mine.txt"
    out.write_bytes(b"a line without an end")
    result = run(log, "--to", "csv", "--out", str(out), "--cursor", str(tmp_path / "cursor"))
    assert isinstance(result.exception, UsageError)
    assert out.read_bytes() == b"a line without an end"


@pytest.mark.parametrize("name", ["ocsf", "csv"])
def test_what_is_a_file_format_is_not_sent(tmp_path: Path, name: str) -> None:
    log = prepared(tmp_path / "log", LOG)
    result = run(log, "--to", name, "--out", "https://siem.example/", "--cursor", str(tmp_path / "cursor"))
    assert isinstance(result.exception, UsageError)


@pytest.mark.parametrize(
    "url",
    [
        "http://siem.example/",
        "ftp://siem.example/",
        "https://user:secret@siem.example/",
        "https:///x",
        "https://siem.example/#part",
        "https://siem.example:99999/",
        "https://siem.example/\n",
        "http://127.0.0.1.siem.example/",
    ],
)
def test_where_nothing_is_sent(url: str) -> None:
    with pytest.raises(UsageError):
        receiver_url(url)


def test_where_something_is_sent() -> None:
    for url in ("https://siem.example/v1/logs", "http://localhost:4318/v1/logs", "http://[::1]:4318/"):
        assert receiver_url(url) == url


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    headers = tmp_path / "headers"
    headers.write_text("Authorization: Bearer abc\nX-Tenant: 7\n")
    headers.chmod(0o644)
    with pytest.raises(UsageError):
        read_headers(headers)
    headers.chmod(0o600)
    assert read_headers(headers) == {"Authorization": "Bearer abc", "X-Tenant": "7"}


@pytest.mark.parametrize(
    "data",
    [
        b"no colon",
        b"a b: c",
        b"Name:",
        b"Name: a\x00b",
        b"N: 1\nN: 2",
        b"\xff: x",
        b"\n".join([b"A%d: 1" % i for i in range(17)]),
    ],
)
def test_a_bad_file_of_headers_is_refused_and_not_repeated(data: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_headers(data)
    assert "no colon" not in caught.value.message


def test_the_format_of_the_events_is_a_files_too() -> None:
    assert CloudEventsFormat().lines(()) == b""
