"""A drill goes through everything and touches nothing real; and while it is held, whatever real happens is real."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.ids import model_id, person_id
from strongroom.core.signature import SignatureError
from strongroom.responder import responding
from strongroom.responder.cases import Case
from strongroom.responder.ports import DONE, Told
from strongroom.response.actions import ActionName, Command
from strongroom.response.acts import ACT_TYPE
from strongroom.response.drills import DRILL_TYPE, DrillRefusedError, DrillToken
from strongroom.response.executor import withheld
from strongroom.response.situation import ModelFacts, Situation
from strongroom.response.subjects import EVERYTHING, Subject
from support.respondings import GENESIS, MODEL, TestClock, key_of, responding_room

pytestmark = pytest.mark.integration


class Real:
    """A deployment's port that notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[Command] = []

    async def situation(self, case: Case) -> Situation:
        del case
        return Situation(models={MODEL: ModelFacts()})

    async def do(self, case: Case, command: Command) -> Told:
        del case
        self.asked.append(command)
        return DONE

    async def probe(self, case: Case, command: Command) -> str:
        del case, command
        return "refused"


def test_what_is_real_is_real_while_a_drill_is_held(tmp_path: Path) -> None:
    async def told() -> None:
        real = Real()
        async with responding_room(tmp_path, real=real, acting=("guard",)) as room:
            drilled = await room.drilled(await room.drill("weight-exfiltration-suspected"))
            # A real event that carries the drill's own token, and names its stand-ins beside what is real.
            room.take(
                {
                    "event": "host:file:opened",
                    "decoy": True,
                    "model": "atlas",
                    "drill": str(drilled.incident.drill),
                    "person": "shadow-dana",
                },
                "guard",
            )
            await room.until(lambda: len(room.cases()) == 2)
            (incident,) = [one for one in room.cases() if one.drill is None]
            assert not incident.subject.shadow
            assert room.stops.frozen == [MODEL]
            await room.until(lambda: bool(real.asked))
            assert all(not one.subject.shadow for one in real.asked)
            assert all(one.subject.shadow for one in drilled.incident.doings.values())

    asyncio.run(told())


def test_a_drill_freezes_nothing_and_joins_no_real_incident(tmp_path: Path) -> None:
    async def told() -> None:
        real = Real()
        async with responding_room(tmp_path, real=real, acting=("guard",)) as room:
            room.take({"event": "host:file:opened", "decoy": True, "model": "atlas"}, "guard")
            await room.until(lambda: len(room.cases()) == 1)
            before = len(real.asked)
            frozen = list(room.stops.frozen)
            case = await room.drilled(await room.drill("weight-exfiltration-suspected"))
            await room.until(lambda: len(case.incident.doings) >= 4)
            assert room.stops.frozen == frozen
            assert all(one.subject == Subject.parse("model:atlas") for one in real.asked[before:])
            assert len(room.cases()) == 2

    asyncio.run(told())


def test_a_shadow_s_name_in_a_real_event_is_no_way_to_hide(tmp_path: Path) -> None:
    async def told() -> None:
        async with responding_room(tmp_path, real=Real(), acting=("guard",)) as room:
            room.take({"event": "host:file:opened", "decoy": True, "model": "shadow-atlas"}, "guard")
            await room.until(lambda: len(room.cases()) == 1)
            assert room.cases()[0].subject == EVERYTHING
            assert room.cases()[0].drill is None

    asyncio.run(told())


def test_a_drill_s_alert_is_no_reason_to_keep_a_real_one_still(tmp_path: Path) -> None:
    async def told() -> None:
        async with responding_room(tmp_path, real=Real(), acting=("guard",)) as room:
            await room.drilled(await room.drill("insider"))
            # The same rule about the same name, within the hour: whoever may hold drills hides nothing by them.
            room.take({"event": "detector:conflict:declared", "person": "shadow-dana"}, "log")
            await room.until(lambda: any(one.drill is None for one in room.cases()))

    asyncio.run(told())


def test_a_record_that_was_cut_off_isn_t_what_the_log_says(tmp_path: Path) -> None:
    async def told() -> None:
        async with responding_room(tmp_path, real=Real(), acting=("guard",)) as room:
            room.take({"event": "host:file:opened", "decoy": True, "model": "atlas"}, "guard")
            await room.until(lambda: bool(room.notes.noted) and room.notes.noted[-1][1] > 3)
            name, size, last = room.notes.noted[-1]
            # Its own word is kept, also when the record has grown since.
            room.responding.hold_to(name, size, str(last))
            room.responding.hold_to(*room.notes.noted[0][:2], str(room.notes.noted[0][2]))
            assert room.responding.broken == {}
        folder = tmp_path / "incidents" / name
        lines = (folder / "record.jsonl").read_bytes().splitlines(keepends=True)
        (folder / "record.jsonl").write_bytes(b"".join(lines[: size - 1]))
        (folder / "told.json").unlink()
        async with responding_room(tmp_path, real=Real(), acting=("guard",)) as room:
            assert room.responding.broken == {}
            room.responding.hold_to(name, size, str(last))
            # One of which nothing is left at all.
            room.responding.hold_to(f"inc-{'0' * 32}", 3, str(last))
            assert set(room.responding.broken.values()) == {"record-behind-log"}
            assert len(room.responding.broken) == 2

    asyncio.run(told())


def test_many_drills_don_t_crowd_out_what_is_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responding, "MAX_OPEN", 1)

    async def told() -> None:
        async with responding_room(tmp_path, real=Real(), acting=("guard",)) as room:
            for _ in range(2):
                await room.drilled(await room.drill("insider"))
            room.take({"event": "host:file:opened", "decoy": True, "model": "atlas"}, "guard")
            await room.until(lambda: any(one.drill is None for one in room.cases()))
            (incident,) = [one for one in room.cases() if one.drill is None]
            assert incident.subject == Subject.parse("model:atlas")

    asyncio.run(told())


def test_a_sensor_beyond_its_limit_doesn_t_freeze_by_way_of_a_playbook(tmp_path: Path) -> None:
    async def told() -> None:
        real = Real()
        async with responding_room(tmp_path, real=real, acting=("guard",), freezes=0) as room:
            room.take({"event": "host:file:opened", "decoy": True, "model": "atlas"}, "guard")
            await room.until(lambda: any(case.runs for case in room.responding.cases.values()))
            await room.until(lambda: bool(real.asked))
            (case,) = room.responding.cases.values()
            await asyncio.sleep(0.2)
            assert room.stops.frozen == []
            assert ActionName.FREEZE_RELEASES not in {one.action for one in real.asked}
            # People are asked instead.
            waiting = {one.action for run in case.runs.values() for one in withheld(run)}
            assert ActionName.FREEZE_RELEASES in waiting

    asyncio.run(told())


def token(**members: object) -> Envelope:
    """Return a drill's token, as somebody signed it."""
    given = {"by": "dana", "genesis": GENESIS, "since": -60, "life": 600, **members}
    now = TestClock().now()
    made = DrillToken(
        genesis=given["genesis"],  # type: ignore[arg-type]
        playbook="insider",
        event="detector:conflict:declared",
        subjects=(Subject.parse("person:shadow-dana"),),
        not_before=now + given["since"],  # type: ignore[operator]
        expires=now + given["since"] + given["life"],  # type: ignore[operator]
        nonce=os.urandom(16),
    )
    return sign(DRILL_TYPE, made.to_bytes(), key_of(str(given["by"])))


@pytest.mark.parametrize(
    ("envelope", "refused"),
    [
        (token(by="mallory"), SignatureError),
        (token(genesis=Digest.of(b"another")), DrillRefusedError),
        (token(since=86_400), DrillRefusedError),
        (token(since=-700), DrillRefusedError),
        (sign(DRILL_TYPE, b"{}", key_of("dana")), MalformedError),
        (sign(DRILL_TYPE, b"\xff" * 64, key_of("dana")), MalformedError),
        (sign(DRILL_TYPE, b"x" * 300_000, key_of("dana")), MalformedError),
        (sign(ACT_TYPE, Envelope.parse(token().to_bytes()).payload, key_of("dana")), SignatureError),
    ],
    ids=["stranger", "elsewhere", "early", "late", "object", "bytes", "long", "another-type"],
)
def test_the_desk_holds_only_drills_that_a_master_signed(
    tmp_path: Path, envelope: Envelope, refused: type[StrongroomError]
) -> None:
    async def told() -> None:
        async with responding_room(tmp_path) as room:
            with pytest.raises(refused):
                await room.hold(envelope)
            assert room.responding.used == frozenset()
            await asyncio.sleep(0.05)
            assert room.cases() == []

    asyncio.run(told())


def test_a_drill_is_held_once_however_often_its_token_is_sent(tmp_path: Path) -> None:
    async def told() -> None:
        async with responding_room(tmp_path) as room:
            envelope = token()
            sent = await asyncio.gather(*(room.hold(envelope) for _ in range(8)), return_exceptions=True)
            assert [one for one in sent if one is None] == [None]
            assert {one.reason for one in sent if isinstance(one, StrongroomError)} == {"drill-used"}
            case = await room.drilled(envelope.digest)
        # Nor by a responder that was started anew.
        async with responding_room(tmp_path) as room:
            with pytest.raises(DrillRefusedError, match="already"):
                await room.hold(envelope)
            assert [one.id for one in room.cases()] == [case.id]

    asyncio.run(told())


def test_who_was_suspended_a_moment_ago_holds_no_drill(tmp_path: Path) -> None:
    async def told() -> None:
        async with responding_room(tmp_path) as room:
            room.refreshes = lambda: room.known.suspended.add("dana")
            with pytest.raises(SignatureError):
                await room.hold(token())

    asyncio.run(told())


def test_nothing_real_is_called_as_stand_ins_are() -> None:
    with pytest.raises(MalformedError, match="stand-ins"):
        model_id("shadow-atlas")
    with pytest.raises(MalformedError, match="stand-ins"):
        person_id("shadow-dana")
