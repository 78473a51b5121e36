"""What was recorded as an alert is in an incident once, wherever the responder was killed in between."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.adapters.durable import sync_folder
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.responder import responding as responding_module
from strongroom.responder.adapters import case_files, record_file
from strongroom.responder.adapters.case_files import CaseFiles, IncidentsUnwritableError
from strongroom.responder.adapters.record_file import RecordFile, RecordTakenError, read_record
from strongroom.responder.record import Line
from strongroom.responder.signalling import signalled_again
from strongroom.response.entries import Happened
from strongroom.response.grading import Certainty
from support.respondings import QuietPort, Room, TestClock, responding_room

pytestmark = pytest.mark.integration
OPENED = {"event": "host:file:opened", "decoy": True, "model": "atlas", "path": "/weights/old", "uid": 7}
WRITES = ("append", "save_run", "save_heard", "save_budget")


class Killed:
    """A disk that takes so many writes, and then nothing, as from a process that is gone."""

    def __init__(self, patched: pytest.MonkeyPatch, least: int) -> None:
        self.left = least
        for name in WRITES:
            whole = getattr(CaseFiles, name)

            def fused(store: CaseFiles, *given: object, whole: Callable[..., None] = whole) -> None:
                self.left -= 1
                if self.left < 0:
                    raise IncidentsUnwritableError("killed")
                whole(store, *given)

            patched.setattr(CaseFiles, name, fused)


async def told(folder: Path, clock: TestClock, least: int, times: int) -> None:
    """Have a decoy opened so often, by a responder whose incidents end after so many writes."""
    with pytest.MonkeyPatch.context() as patched:
        killed = Killed(patched, least)
        async with responding_room(folder, clock=clock, acting=("guard",), real=QuietPort()) as room:
            for _ in range(times):
                room.take(OPENED, "guard")
            await room.responder.rest()
            await room.until(lambda: killed.left < 0 or all_heard(room, times))


def all_heard(room: Room, times: int) -> bool:
    return sum(one.alerts for one in room.cases()) == times and CaseFiles(room.folder).heard() > 0


def heard(folder: Path) -> int:
    try:
        return CaseFiles(folder).heard()
    except MalformedError:
        return -1


async def gone_on(folder: Path, clock: TestClock) -> tuple[int, int, int]:
    """Start again; returns how many incidents, alerts and playbooks there are once nothing waits."""
    async with responding_room(folder, clock=clock, acting=("guard",), real=QuietPort()) as room:
        lines = len(read_record(folder))
        await room.until(lambda: heard(folder) == lines)
        cases = [*room.responding.cases.values()]
        added = [
            one for case in cases for one in case.entries if one.happened in {Happened.OPENED, Happened.ALERT_ADDED}
        ]
        assert len({str(one.facts["event"]) for one in added}) == len(added)
        return len(cases), sum(case.incident.alerts for case in cases), sum(len(case.runs) for case in cases)


@pytest.mark.parametrize("least", [*range(8)])
def test_a_kill_behind_an_alert_s_line_loses_and_doubles_nothing(least: int, tmp_path: Path) -> None:
    clock = TestClock()
    asyncio.run(told(tmp_path, clock, least, 1))
    assert asyncio.run(gone_on(tmp_path, clock)) == (1, 1, 1)
    # And a start that finds nothing left to hear hears nothing.
    assert asyncio.run(gone_on(tmp_path, clock)) == (1, 1, 1)


@pytest.mark.parametrize("write", [*range(8)])
def test_what_a_disk_refuses_once_is_done_when_it_has_room(
    write: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responding_module, "POLL_SECONDS", 0.05)
    calls = [0]

    def refusing_once(whole: Callable[..., None]) -> Callable[..., None]:
        def fused(store: CaseFiles, *given: object) -> None:
            calls[0] += 1
            if calls[0] == write + 1:
                raise IncidentsUnwritableError("no space left on device")
            whole(store, *given)

        return fused

    for name in WRITES:
        monkeypatch.setattr(CaseFiles, name, refusing_once(getattr(CaseFiles, name)))

    async def seen() -> tuple[int, int, int]:
        async with responding_room(tmp_path, clock=TestClock(), acting=("guard",), real=QuietPort()) as room:
            room.take(OPENED, "guard")
            await room.until(lambda: calls[0] > write and all_heard(room, 1))
            (case,) = room.responding.cases.values()
            return len(room.cases()), case.incident.alerts, len(case.runs)

    assert asyncio.run(seen()) == (1, 1, 1)


@pytest.mark.parametrize("least", [0, 2, 5])
def test_of_several_alerts_that_look_alike_each_is_heard_once(least: int, tmp_path: Path) -> None:
    clock = TestClock()
    asyncio.run(told(tmp_path, clock, least, 3))
    assert asyncio.run(gone_on(tmp_path, clock)) == (1, 3, 1)


def test_a_count_that_is_gone_or_spoilt_makes_nothing_twice(tmp_path: Path) -> None:
    clock = TestClock()
    asyncio.run(told(tmp_path, clock, 1000, 3))
    count = tmp_path / "incidents" / "heard.json"
    for spoil in (count.unlink, lambda: count.write_bytes(b'{"lines":'), lambda: count.write_bytes(b'{"lines":1}')):
        spoil()
        assert asyncio.run(gone_on(tmp_path, clock)) == (1, 3, 1)


def test_a_drill_s_line_is_never_heard_again_as_something_real(tmp_path: Path) -> None:
    async def drilled() -> None:
        with pytest.MonkeyPatch.context() as patched:
            killed = Killed(patched, 0)
            async with responding_room(tmp_path) as room:
                await room.drill("key-compromise")
                await room.until(lambda: killed.left < 0)

    async def again() -> None:
        async with responding_room(tmp_path) as room:
            await asyncio.sleep(0.1)
            assert room.cases() == []

    asyncio.run(drilled())
    assert [line for line in read_record(tmp_path) if b'"source":"drill"' in line]
    asyncio.run(again())


def test_a_sensor_that_may_not_act_begins_no_more_by_a_kill(tmp_path: Path) -> None:
    clock = TestClock()

    async def refused() -> None:
        with pytest.MonkeyPatch.context() as patched:
            killed = Killed(patched, 0)
            async with responding_room(tmp_path, clock=clock, acting=()) as room:
                room.take(OPENED, "guard")
                await room.until(lambda: killed.left < 0)

    async def again() -> Certainty:
        # The settings let it act now; what was recorded was recorded by those of before.
        async with responding_room(tmp_path, clock=clock, acting=("guard",), real=QuietPort()) as room:
            await room.until(lambda: bool(room.cases()))
            return room.cases()[0].certainty

    asyncio.run(refused())
    assert asyncio.run(again()) is Certainty.LIKELY


def test_lines_are_counted_from_the_first_that_is_not_settled(tmp_path: Path) -> None:
    async def written() -> None:
        record = RecordFile(tmp_path)
        lines = [await record.append({"number": number}) for number in range(4)]
        first, second, third, fourth = [line for line in lines if line is not None]
        assert record.settle(second) == 0
        assert record.settle(first) == 2
        assert record.settle(fourth) == 2
        assert record.settle(third) == 4
        record.close()
        again = RecordFile(tmp_path)
        assert [line for line, _text in again.since(2)] == [third, fourth]
        assert again.settle(fourth) == 2
        assert [line for line, _text in again.since(9)] == [first, second, third, fourth]
        again.close()

    asyncio.run(written())


@pytest.mark.parametrize("model", ["at\x01las", "at\nlas", "\u202eatlas", "\ud800", "x" * 2000])
def test_what_somebody_wrote_into_an_event_loses_no_alert_over_a_kill(model: str, tmp_path: Path) -> None:
    clock = TestClock()

    async def seen() -> None:
        with pytest.MonkeyPatch.context() as patched:
            killed = Killed(patched, 0)
            async with responding_room(tmp_path, clock=clock, acting=("guard",), real=QuietPort()) as room:
                room.take({**OPENED, "model": model}, "guard")
                await room.until(lambda: killed.left < 0)

    asyncio.run(seen())
    assert asyncio.run(gone_on(tmp_path, clock))[:2] == (1, 1)


def test_what_no_disk_takes_waits_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responding_module, "POLL_SECONDS", 0.05)

    async def told_often() -> None:
        async with responding_room(tmp_path, clock=TestClock(), acting=("guard",), real=QuietPort()) as room:
            with monkeypatch.context() as patched:
                Killed(patched, 0)
                patched.setattr(record_file, "append_durably", refuse)
                # What reads the log shows an entry again and again while the disk doesn't take how far it came.
                for _ in range(30):
                    room.take(OPENED, "guard")
                    await room.responder.rest()
                assert not room.cases()
            await room.until(lambda: bool(room.cases()))
            await asyncio.sleep(0.2)
            assert [one.alerts for one in room.cases()] == [1]

    def refuse(_handle: int, _data: bytes) -> None:
        raise OSError(28, "no space left on device")

    asyncio.run(told_often())


def test_a_count_of_another_record_loses_no_alert_of_this_one(tmp_path: Path) -> None:
    clock = TestClock()
    asyncio.run(told(tmp_path, clock, 1000, 1))
    (tmp_path / "incidents" / "heard.json").write_bytes(b'{"lines":5000}')
    asyncio.run(told(tmp_path, clock, 0, 1))
    assert asyncio.run(gone_on(tmp_path, clock)) == (1, 2, 1)


def test_a_folder_is_one_responder_s(tmp_path: Path) -> None:
    async def written() -> None:
        record = RecordFile(tmp_path)
        with pytest.raises(RecordTakenError):
            RecordFile(tmp_path)
        assert await record.append({"number": 0}) is not None
        record.close()
        RecordFile(tmp_path).close()

    asyncio.run(written())


def test_an_opening_that_a_disk_took_halfway_is_entered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [2]

    def refusing(folder: Path) -> None:
        if folder.name.startswith("inc-") and left[0]:
            left[0] -= 1
            raise OSError(5, "the disk refused")
        sync_folder(folder)

    monkeypatch.setattr(case_files, "sync_folder", refusing)
    monkeypatch.setattr(responding_module, "POLL_SECONDS", 0.05)
    clock = TestClock()
    asyncio.run(told(tmp_path, clock, 1000, 1))
    assert left == [0]
    assert asyncio.run(gone_on(tmp_path, clock)) == (1, 1, 1)


@given(
    st.binary(max_size=200) | st.builds(lambda part: b'{"before":"x","facts":' + part + b',"serial":0}', st.binary())
)
def test_any_line_is_an_alert_nothing_or_refused(text: bytes) -> None:
    line = Line(serial=0, digest=Digest.of(os.urandom(8)))
    try:
        found = signalled_again(line, text, host="w1")
    except MalformedError:
        return
    assert found is None or found.again
