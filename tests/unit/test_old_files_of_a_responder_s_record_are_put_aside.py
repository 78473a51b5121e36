"""A responder's record may grow for years: old files go elsewhere, nothing needed does, and no gap stays unseen."""

from __future__ import annotations

import asyncio
import errno
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from strongroom.cli.main import main
from strongroom.cli.responder import responder
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, NotFoundError, UnavailableError
from strongroom.responder.adapters import record_archive, record_file
from strongroom.responder.adapters.case_files import CaseFiles
from strongroom.responder.adapters.record_archive import RecordHeldError, archive_record
from strongroom.responder.adapters.record_file import RecordFile, RecordTakenError, read_record
from strongroom.responder.decoys import newest_guarded
from strongroom.responder.record import FIRST, RecordBrokenError, archived_facts, check_record, record_line
from support.respondings import QuietPort, TestClock, responding_room

pytestmark = pytest.mark.integration
NOW = 1_795_000_000
DAY = 86400


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_file, "MAX_FILE", 1000)


def hint(number: int, at: int = NOW) -> dict[str, Json]:
    """The facts of an alert that belongs in no incident."""
    alert: dict[str, Json] = {"rule": "person-unusual", "certainty": "hint", "playbook": "", "subject": "person:dana"}
    more: dict[str, Json] = {"severity": "low", "source": "log", "why": "not-sure", "freezes": [], "event": {}}
    return {"at": format_instant(at), "number": number, **alert, **more}


def written(folder: Path, count: int, *, at: int = NOW) -> None:
    async def write() -> None:
        record = RecordFile(folder)
        await record.append({"guarded": 7})
        for number in range(count):
            line = await record.append(hint(number, at))
            assert line is not None
        record.close()

    asyncio.run(write())


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("record-*.jsonl"))


def test_what_is_old_goes_and_the_record_goes_on_behind_it(tmp_path: Path) -> None:
    state, to = tmp_path / "state", tmp_path / "old"
    written(state, 20)
    before, whole = files(state), read_record(state)
    gone = archive_record(state, to, before=NOW + DAY)
    assert [*gone] == before[:-1] == files(to)
    kept = read_record(state)
    assert json.loads(kept[0])["serial"] > 10
    written(state, 5, at=NOW + 2 * DAY)
    assert len(files(state)) > 1
    # Together they are what was written, with nothing between.
    for name in files(to):
        shutil.copy(to / name, state / name)
    assert read_record(state)[: len(whole)] == whole
    assert newest_guarded(json.loads(line)["facts"] for line in kept) == 7


def test_what_waits_for_its_incident_is_counted_by_the_same_numbers(tmp_path: Path) -> None:
    state = tmp_path / "state"
    written(state, 20)
    archive_record(state, tmp_path / "old", before=NOW + DAY)
    (first, *_), lines = read_record(state), len(read_record(state))
    record = RecordFile(state)
    try:
        serial = json.loads(first)["serial"]
        assert [line.serial for line, _text in record.since(0)] == [*range(serial, serial + lines)]
        assert [line.serial for line, _text in record.since(serial + 2)] == [*range(serial + 2, serial + lines)]
    finally:
        record.close()


def test_a_second_time_goes_on_and_a_first_that_ended_in_the_middle_leaves_a_whole_record(tmp_path: Path) -> None:
    state, to = tmp_path / "state", tmp_path / "old"
    written(state, 20)
    first = files(state)[0]
    data = (state / first).read_bytes()
    archive_record(state, to, before=NOW + DAY)
    written(state, 10)
    more = archive_record(state, to, before=NOW + DAY)
    assert more
    assert first not in more
    # The line was written, and then the power went: the file is still there.
    other = tmp_path / "other"
    written(other, 20)
    data = (other / first).read_bytes()
    path = other / first
    record = RecordFile(other)
    record.put_aside(path, {})
    record.close()
    path.write_bytes(data)
    assert len(read_record(other)) == 22
    assert first in archive_record(other, tmp_path / "others", before=NOW + DAY)
    read_record(other)


def test_a_file_that_goes_without_a_word_is_missed(tmp_path: Path) -> None:
    written(tmp_path, 20)
    (tmp_path / files(tmp_path)[0]).unlink()
    with pytest.raises(RecordBrokenError):
        read_record(tmp_path)
    with pytest.raises(RecordBrokenError):
        RecordFile(tmp_path)


def test_a_file_more_than_was_put_aside_is_missed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    written(state, 20)
    record = RecordFile(state)
    record.put_aside(next(record.old_files())[0], {})
    record.close()
    read_record(state)
    (state / files(state)[0]).unlink()
    with pytest.raises(RecordBrokenError):
        read_record(state)


@given(st.integers(2, 8), st.data())
def test_a_record_begins_only_where_a_later_line_says(count: int, data: st.DataObject) -> None:
    lines, digests = list[bytes](), [FIRST]
    said = data.draw(st.integers(0, count))
    for serial in range(count):
        lines.append(record_line(digests[-1], serial, {"number": serial}))
        digests.append(Digest.of(lines[-1]))
    lines.append(record_line(digests[-1], count, archived_facts(said, digests[said])))
    begins = data.draw(st.integers(0, count))
    if begins in {0, said}:
        assert check_record(lines[begins:])[0] == count + 1
    else:
        with pytest.raises(RecordBrokenError):
            check_record(lines[begins:])


@given(st.one_of(st.none(), st.text(), st.dictionaries(st.sampled_from(["lines", "last", "x"]), st.text(max_size=9))))
def test_whatever_says_what_was_put_aside_is_read_or_refused(said: Json) -> None:
    with pytest.raises(RecordBrokenError):
        check_record([record_line(FIRST, 0, {"archived": said})])


def test_what_is_young_stays(tmp_path: Path) -> None:
    written(tmp_path / "state", 20)
    assert archive_record(tmp_path / "state", tmp_path / "old", before=NOW) == ()
    assert files(tmp_path / "old") == []


def alarmed(state: Path, clock: TestClock) -> str:
    """Have an alert become an incident; returns its id."""

    async def story() -> str:
        async with responding_room(state, clock=clock, real=QuietPort(), acting=("guard",)) as room:
            opened = {"event": "host:file:opened", "decoy": True, "model": "atlas", "path": "/weights/old", "uid": 7}
            room.take(opened, "guard")
            await room.responder.rest()
            await room.until(lambda: bool(room.cases()))
            return room.cases()[0].id

    return asyncio.run(story())


def test_alerts_of_open_incidents_and_what_comes_behind_them_stay(tmp_path: Path) -> None:
    state = tmp_path / "state"
    alarmed(state, TestClock(NOW))
    written(state, 20)
    assert archive_record(state, tmp_path / "old", before=NOW + DAY) == ()
    # One that was never put into an incident, too.
    shutil.rmtree(state / "incidents")
    assert archive_record(state, tmp_path / "old", before=NOW + DAY) == ()


def test_nothing_goes_while_an_incident_is_on_hold(tmp_path: Path) -> None:
    state = tmp_path / "state"
    written(state, 20)
    name = alarmed(state, TestClock(NOW))
    CaseFiles(state).save_hold(name, b"{}")
    with pytest.raises(RecordHeldError):
        archive_record(state, tmp_path / "old", before=NOW + DAY)
    CaseFiles(state).save_hold(name, b"")
    assert archive_record(state, tmp_path / "old", before=NOW + DAY)
    # Nor while an incident can't be read: nobody can tell.
    (state / "incidents" / name / "record.jsonl").write_bytes(b"{}\n")
    with pytest.raises(RecordHeldError):
        archive_record(state, tmp_path / "old", before=NOW + DAY)


def test_another_record_s_file_is_not_written_over(tmp_path: Path) -> None:
    state, to = tmp_path / "state", tmp_path / "old"
    written(state, 20)
    to.mkdir()
    (to / files(state)[0]).write_bytes(b"another's\n")
    with pytest.raises(ConflictError):
        archive_record(state, to, before=NOW + DAY)
    assert len(files(state)) > 2
    read_record(state)


@pytest.mark.parametrize("way", ["itself", "link", "in-use"])
def test_nothing_goes_into_the_record_s_own_folder_or_one_in_use(tmp_path: Path, way: str) -> None:
    state, to = tmp_path / "state", tmp_path / "old"
    written(state, 20)
    before = {name: (state / name).read_bytes() for name in files(state)}
    other = RecordFile(to) if way == "in-use" else None
    if way == "link":
        to.symlink_to(state)
    with pytest.raises(RecordTakenError):
        archive_record(state, state if way == "itself" else to, before=NOW + DAY)
    if other is not None:
        other.close()
    assert {name: (state / name).read_bytes() for name in files(state)} == before


@pytest.mark.parametrize("full", ["sync_folder", "write_durably"])
def test_nothing_goes_where_the_other_disk_is_full(tmp_path: Path, full: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state, to = tmp_path / "state", tmp_path / "old"
    written(state, 20)
    before = files(state)

    def fails(*_told: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(record_archive, full, fails)
        with pytest.raises(UnavailableError):
            archive_record(state, to, before=NOW + DAY)
    assert files(state) == before
    assert [*archive_record(state, to, before=NOW + DAY)] == before[:-1]


def test_a_link_where_a_file_goes_is_replaced_and_not_followed(tmp_path: Path) -> None:
    state, to = tmp_path / "state", tmp_path / "old"
    written(state, 20)
    to.mkdir()
    first = files(state)[0]
    data = (state / first).read_bytes()
    (to / first).symlink_to(state / first)
    archive_record(state, to, before=NOW + DAY)
    assert not (state / first).exists()
    assert (to / first).read_bytes() == data


def test_nothing_goes_while_a_responder_runs_or_no_keeper_answers(tmp_path: Path) -> None:
    state = tmp_path / "state"
    written(state, 20)
    record = RecordFile(state)
    try:
        with pytest.raises(RecordTakenError):
            archive_record(state, tmp_path / "old", before=NOW + DAY)
    finally:
        record.close()
    asked = ["responder", "record", "archive", "--state", str(state), "--home", str(tmp_path), "--to", str(tmp_path)]
    assert CliRunner().invoke(main, asked).exit_code != 0
    assert len(files(state)) > 2


def test_a_record_that_is_not_there_is_not_shown_as_a_whole_one(tmp_path: Path) -> None:
    for folder in (tmp_path / "gone", tmp_path):
        with pytest.raises(NotFoundError):
            responder.main(["record", "show", "--state", str(folder)], standalone_mode=False)
