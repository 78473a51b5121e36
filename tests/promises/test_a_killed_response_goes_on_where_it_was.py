"""The response is killed anywhere, with its real files: it goes on, nothing is done twice, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.core.digest import Digest
from strongroom.core.errors import UnavailableError
from strongroom.core.ids import ModelId
from strongroom.responder import acting as acting_module
from strongroom.responder import responding as responding_module
from strongroom.responder.acting import Stopped
from strongroom.responder.adapters.case_files import CaseFiles, IncidentsUnwritableError
from strongroom.responder.cases import Case, Cause
from strongroom.response.actions import ActionName
from strongroom.response.acts import ActKind
from strongroom.response.entries import Happened, Phase
from strongroom.response.executor import withheld
from strongroom.response.incident import fold
from strongroom.response.limits import DAY, PER_SUBJECT, SUBJECTS_PER_SOURCE, Budget
from strongroom.response.run import Run
from support.respondings import QuietPort, Stops, TestClock, responding_room

pytestmark = pytest.mark.integration
BOOK = "key-compromise"


class Fuse:
    """A disk that takes so many writes, and then nothing, as from a process that is gone."""

    def __init__(self, step: int) -> None:
        self._step = step
        self.writes = 0

    @property
    def blown(self) -> bool:
        return self.writes >= self._step

    def lay(self, patched: pytest.MonkeyPatch) -> None:
        """Put it before whatever the response writes."""
        for name in ("append", "save_run"):
            whole = getattr(CaseFiles, name)

            def fused(store: CaseFiles, *given: object, whole: Callable[..., None] = whole) -> None:
                self.writes += 1
                if self.blown:
                    raise IncidentsUnwritableError("killed")
                whole(store, *given)

            patched.setattr(CaseFiles, name, fused)


async def cut_off(folder: Path, clock: TestClock, fuse: Fuse) -> None:
    with pytest.MonkeyPatch.context() as patched:
        fuse.lay(patched)
        async with responding_room(folder, clock=clock) as room:
            await room.drill(BOOK)
            await room.until(lambda: fuse.blown)
            await asyncio.sleep(0.05)


async def gone_on(folder: Path, clock: TestClock) -> Case:
    async with responding_room(folder, clock=clock) as room:
        if not room.cases():
            # It was killed before anything was said to be there.
            await room.drill(BOOK)
        await room.until(lambda: bool(room.cases()))
        (case,) = room.responding.cases.values()
        if case.runs:
            await room.until(lambda: stopped(case))
        return case


@pytest.mark.parametrize("step", range(1, 30, 4))
def test_a_kill_at_any_write_repeats_nothing(step: int, tmp_path: Path) -> None:
    clock = TestClock()
    asyncio.run(cut_off(tmp_path, clock, Fuse(step)))
    case = asyncio.run(gone_on(tmp_path, clock))
    assert fold(case.entries) == case.incident
    for happened in (Happened.ACTION_PROPOSED, Happened.ACTION_DONE, Happened.ACTION_VERIFIED):
        keys = [str(entry.facts["key"]) for entry in case.entries if entry.happened is happened]
        assert len(keys) == len(set(keys))


def stopped(case: Case) -> bool:
    """Whether everything that begins by itself was done."""
    return all(one.verified for one in case.incident.doings.values()) and len(case.incident.doings) >= 5


def test_a_full_disk_holds_nothing_up_but_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def told() -> None:
        async with responding_room(tmp_path, acting=("guard",)) as room:
            with monkeypatch.context() as patched:

                def full(*_given: object) -> None:
                    raise IncidentsUnwritableError("no space left on device")

                patched.setattr(CaseFiles, "append", full)
                room.take({"event": "host:file:opened", "decoy": True, "model": "atlas"}, "guard")
                await room.until(lambda: bool(room.failed))
                # The freeze waited for nothing of this.
                assert room.stops.frozen == ["atlas"]
                assert room.cases() == []
            await room.until(lambda: bool(room.cases()))

    asyncio.run(told())


@pytest.mark.parametrize("taken", ["first", "middle", "last", "all"])
def test_a_spoilt_record_is_shown_and_keeps_nobody_from_starting(taken: str, tmp_path: Path) -> None:
    async def opened() -> str:
        async with responding_room(tmp_path) as room:
            case = await room.drilled(await room.drill(BOOK))
            await room.until(lambda: stopped(case))
            # A record whose end was cut off is still a chain. The log holds how far it had come.
            await room.until(lambda: case.told.get("log", 0) > 1)
            return case.id

    name = asyncio.run(opened())
    record = tmp_path / "incidents" / name / "record.jsonl"
    lines = record.read_bytes().splitlines(keepends=True)
    spoilt = b"".join({"first": lines[1:], "middle": lines[:2] + lines[3:], "last": lines[:1], "all": []}[taken])
    record.write_bytes(spoilt)

    async def again() -> None:
        async with responding_room(tmp_path) as room:
            assert room.cases() == []
            assert set(room.responding.broken) == {name}

    asyncio.run(again())
    # It is left as it is: what is there may be all that is left of an incident.
    assert record.read_bytes() == spoilt


def test_half_a_line_left_by_a_crash_is_taken_off(tmp_path: Path) -> None:
    async def opened() -> tuple[str, int]:
        async with responding_room(tmp_path) as room:
            case = await room.drilled(await room.drill(BOOK))
            await room.until(lambda: stopped(case))
            return case.id, case.incident.size

    name, size = asyncio.run(opened())
    record = tmp_path / "incidents" / name / "record.jsonl"
    with record.open("ab") as file:
        file.write(b'{"half')

    async def again() -> int:
        async with responding_room(tmp_path) as room:
            return room.responding.cases[name].incident.size

    assert asyncio.run(again()) == size


def test_the_log_is_told_again_until_it_holds_the_record(tmp_path: Path) -> None:
    async def told() -> None:
        async with responding_room(tmp_path) as room:
            room.notes.down = UnavailableError("the keeper doesn't answer")
            case = await room.drilled(await room.drill(BOOK))
            await room.until(lambda: any(what == "note" for what, _why in room.failed))
            assert room.notes.noted == []
            room.notes.down = None
            room.responding.wake(case)
            await room.until(lambda: bool(room.notes.noted))
            name, entries, last = room.notes.noted[0]
            assert name == case.id
            assert case.entries[entries - 1].digest == last

    asyncio.run(told())


@pytest.mark.parametrize("write", range(1, 6))
def test_what_is_held_back_stays_so_when_the_disk_refuses_the_run_once(
    write: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, calls, whole = TestClock(), [0], CaseFiles.save_run
    monkeypatch.setattr(responding_module, "POLL_SECONDS", 0.05)
    # Whoever can open decoys has used up today what begins by itself.
    spent = {("guard", f"model:m{number}"): PER_SUBJECT for number in range(SUBJECTS_PER_SOURCE)}
    CaseFiles(tmp_path).save_budget(Budget(day=clock.now() // DAY, spent=spent).to_bytes())

    def refusing_once(store: CaseFiles, incident: str, name: str, cause: Cause, run: Run) -> None:
        calls[0] += 1
        if calls[0] == write:
            raise IncidentsUnwritableError("no space left on device")
        whole(store, incident, name, cause, run)

    monkeypatch.setattr(CaseFiles, "save_run", refusing_once)

    async def asked() -> set[ActionName]:
        async with responding_room(tmp_path, clock=clock, acting=("guard",), real=QuietPort()) as room:
            room.take({"event": "host:file:opened", "decoy": True, "model": "atlas"}, "guard")
            await room.until(lambda: calls[0] >= write and bool(room.cases()))
            (case,) = room.responding.cases.values()
            await room.until(lambda: any(withheld(run) for run in case.runs.values()))
            await asyncio.sleep(0.2)
            return {one.action for one in case.incident.doings.values()}

    begun = asyncio.run(asked())
    assert ActionName.FREEZE_RELEASES in begun
    assert not begun & {ActionName.EXPIRE_LEASES, ActionName.REVOKE_GRANTS, ActionName.RAISE_SAMPLING}


def test_those_who_were_told_hear_while_the_log_takes_nothing(tmp_path: Path) -> None:
    async def told() -> None:
        async with responding_room(tmp_path) as room:
            cases = [await room.drilled(await room.drill(BOOK)) for _ in range(2)]
            await room.until(lambda: all(case.incident.phase is Phase.CONTAINED for case in cases))
            for case in cases:
                await case.was_told("team", 1)
            room.notes.down = UnavailableError("the keeper doesn't answer")
            room.receiver.told_of.clear()
            for case in cases:
                await room.act(ActKind.MOVE, case.id, phase="analysed")
            await room.until(lambda: {*room.receiver.told_of} >= {case.id for case in cases})

    asyncio.run(told())


def test_what_is_real_comes_into_the_log_before_drills(tmp_path: Path) -> None:
    async def told() -> None:
        async with responding_room(tmp_path, acting=("guard",), real=QuietPort()) as room:
            room.notes.down = UnavailableError("so many a minute, and no more")
            await room.drilled(await room.drill(BOOK))
            room.take({"event": "host:file:opened", "decoy": True, "model": "atlas"}, "guard")
            await room.until(lambda: len(room.cases()) == 2)
            room.notes.down = None
            await room.until(lambda: len({name for name, _size, _last in room.notes.noted}) == 2)
            real = next(one.id for one in room.cases() if not one.shadow)
            assert room.notes.noted[0][0] == real

    asyncio.run(told())


def test_the_log_is_not_told_the_same_again_and_again_while_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responding_module, "POLL_SECONDS", 0.01)

    def full(*_given: object) -> None:
        raise IncidentsUnwritableError("no space left on device")

    monkeypatch.setattr(CaseFiles, "save_told", full)

    async def told() -> None:
        async with responding_room(tmp_path) as room:
            case = await room.drilled(await room.drill(BOOK))
            await room.until(lambda: case.incident.phase is Phase.CONTAINED and bool(room.notes.noted))
            await room.until(lambda: room.notes.noted[-1][1] == case.incident.size)
            before = len(room.failed)
            room.responding.wake(case)
            await asyncio.sleep(0.3)
            assert len(room.notes.noted) == len({*room.notes.noted}), before

    asyncio.run(told())


def test_a_keeper_that_stands_still_keeps_no_alert_out_of_its_incident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acting_module, "SOON", 0.05)

    async def told() -> None:
        answers = asyncio.Event()

        async def stands_still(_stops: Stops, model: ModelId) -> Stopped:
            await answers.wait()
            return Stopped(request=Digest.of(model.encode()), index=None)

        monkeypatch.setattr(Stops, "stop", stands_still)
        async with responding_room(tmp_path, acting=("guard",), real=QuietPort()) as room:
            room.take({"event": "host:file:opened", "decoy": True, "model": "atlas"}, "guard")
            await room.until(lambda: bool(room.cases()))
            answers.set()
            await room.responder.rest()
            # And it is told once.
            await room.until(lambda: CaseFiles(tmp_path).heard() > 0)
            assert [one.alerts for one in room.cases()] == [1]

    asyncio.run(told())
