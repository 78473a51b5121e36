"""What a person is said to have done in an incident was signed by them, for that incident, just now, and once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import ConflictError, DeniedError, MalformedError, StrongroomError
from strongroom.core.signature import SignatureError
from strongroom.responder import desk as desk_module
from strongroom.response.actions import ActionName
from strongroom.response.acts import FRESH_SECONDS, ActKind, ActRefusedError, said_of
from strongroom.response.entries import Phase, Role
from strongroom.response.executor import withheld
from strongroom.response.incident import RecordError
from strongroom.response.subjects import Subject
from support.respondings import TestClock, responding_room, signed_act

pytestmark = pytest.mark.integration
TAKE = {"role": "commander"}


def test_only_a_person_of_the_roster_acts_and_only_by_a_signature_of_theirs(tmp_path: Path) -> None:
    async def told() -> None:
        async with responding_room(tmp_path) as room:
            case = await room.drilled(await room.drill("insider"))
            now = room.clock.now()

            def act(**members: object) -> bytes:
                given = {"by": "dana", "facts": TAKE, **members}
                return signed_act(ActKind.TAKE, case.id, now, **given)  # type: ignore[arg-type]

            size = case.incident.size
            for envelope, error in (
                (act(signer="eli"), SignatureError),
                (act(by="mallory"), ActRefusedError),
                (act(genesis=Digest.of(b"another")), ActRefusedError),
                (signed_act(ActKind.TAKE, case.id, now - FRESH_SECONDS - 1, by="dana", facts=TAKE), ActRefusedError),
                (signed_act(ActKind.TAKE, case.id, now + FRESH_SECONDS + 1, by="dana", facts=TAKE), ActRefusedError),
                (signed_act(ActKind.TAKE, f"inc-{'0' * 32}", now, by="dana", facts=TAKE), StrongroomError),
                (act(facts={"role": "king"}), MalformedError),
            ):
                with pytest.raises(error):
                    await room.hand_in(envelope)
            assert case.incident.roles == {}
            good = act()
            await room.hand_in(good)
            assert case.incident.roles == {Role.COMMANDER: "dana"}
            with pytest.raises(ActRefusedError, match="already"):
                await room.hand_in(good)
            room.known.suspended.add("dana")
            with pytest.raises(ActRefusedError, match="may not act"):
                await room.hand_in(act())
            assert len([entry for entry in case.entries[size:] if entry.person]) == 1

    asyncio.run(told())


def test_an_act_is_taken_once_across_a_restart(tmp_path: Path) -> None:
    async def told() -> None:
        clock = TestClock()
        async with responding_room(tmp_path, clock=clock) as room:
            case = await room.drilled(await room.drill("insider"))
            good = signed_act(ActKind.TAKE, case.id, clock.now(), by="dana", facts=TAKE)
            await room.hand_in(good)
        async with responding_room(tmp_path, clock=clock) as room:
            with pytest.raises(ActRefusedError, match="already"):
                await room.hand_in(good)

    asyncio.run(told())


def test_what_lets_go_takes_two_people_and_agreements_don_t_move(tmp_path: Path) -> None:
    async def told() -> None:
        async with responding_room(tmp_path) as room:
            case = await room.drilled(await room.drill("attestation-downgrade"))
            await room.until(lambda: bool(case.runs))

            async def agreed(*people: str) -> None:
                (run,) = case.runs.values()
                for one in withheld(run):
                    for person in people:
                        await room.act(ActKind.AGREE, case.id, by=person, **said_of(one))

            def asked() -> bool:
                (run,) = case.runs.values()
                return any(one.action is None for one in run.pending)

            while not asked():
                await agreed("dana")
                await asyncio.sleep(0.02)
            (run,) = case.runs.values()
            (question,) = [one for one in run.pending if one.action is None]
            # Nobody says that a command was done, and nobody agrees to a question.
            with pytest.raises(StrongroomError):
                await room.act(
                    ActKind.AGREE,
                    case.id,
                    by="dana",
                    **said_of(replace(question, action=ActionName.NOTIFY, subject=case.incident.subject)),
                )
            said = said_of(replace(question, text="Is the coffee good?"))
            with pytest.raises(ActRefusedError, match="something else"):
                await room.act(ActKind.RESOLVE, case.id, by="dana", outcome="done", **said)
            await room.resolve(case.id, question.key, {"genuine": "yes"})
            await room.until(lambda: bool(withheld(next(iter(case.runs.values())))))
            (release,) = withheld(next(iter(case.runs.values())))
            with pytest.raises(StrongroomError, match="command"):
                await room.resolve(case.id, release.key, {})
            # What somebody signed when a liar showed them something harmless under this key.
            for shown in (
                replace(release, action=ActionName.NOTIFY),
                replace(release, subject=Subject.parse("model:shadow-other")),
            ):
                with pytest.raises(ActRefusedError, match="something else"):
                    await room.act(ActKind.AGREE, case.id, by="dana", **said_of(shown))
            await room.act(ActKind.AGREE, case.id, by="dana", **said_of(release))
            kept = len(case.acts)
            # One person twice is one person, and takes no room twice.
            await room.act(ActKind.AGREE, case.id, by="dana", **said_of(release))
            assert len(case.acts) == kept
            assert withheld(next(iter(case.runs.values()))) != ()
            with pytest.raises(DeniedError):
                await room.act(ActKind.AGREE, case.id, by="mallory", **said_of(release))
            await room.act(ActKind.AGREE, case.id, by="eli", **said_of(release))
            await room.until(lambda: any(one.undone for one in case.incident.doings.values()))

    asyncio.run(told())


def test_a_record_is_closed_by_people_alone_and_only_when_it_is_whole(tmp_path: Path) -> None:
    async def told() -> None:
        async with responding_room(tmp_path) as room:
            case = await room.drilled(await room.drill("stray-copy-found"))
            with pytest.raises(RecordError, match="can't be closed"):
                await room.act(ActKind.CLOSE, case.id, words="Nothing.")
            with pytest.raises(RecordError):
                await room.act(ActKind.MOVE, case.id, phase=Phase.REVIEWED.value)
            with pytest.raises(RecordError, match="no clock"):
                await room.act(ActKind.START, case.id, clock="eu-cop-initial")
            # A refused act leaves nothing behind: it can be signed again once it makes sense.
            assert case.acts == set()

    asyncio.run(told())
    assert not any(path.name.startswith("words-") for path in tmp_path.rglob("kept/*"))


def test_what_isn_t_an_act_is_refused_whatever_it_is(tmp_path: Path) -> None:
    async def told() -> None:
        async with responding_room(tmp_path) as room:
            for payload in (b"{}", b"[]", b"\xff", b'{"v":1}'):
                envelope = Envelope("application/vnd.strongroom.incident-act.v1", payload, ())
                with pytest.raises(StrongroomError):
                    await room.hand_in(envelope.to_bytes())

    asyncio.run(told())


def test_nobody_alone_fills_an_incident_so_that_others_can_do_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "MAX_OF_ONE", 3)

    async def told() -> None:
        async with responding_room(tmp_path) as room:
            case = await room.drilled(await room.drill("insider"))
            for number in range(3):
                await room.act(ActKind.NOTE, case.id, by="finn", words=f"noise {number}")
            for kind, facts in ((ActKind.NOTE, {"words": "more"}), (ActKind.MOVE, {"phase": "declared"})):
                with pytest.raises(ConflictError, match="3 entries"):
                    await room.act(kind, case.id, by="finn", **facts)
            assert len(case.acts) == 3
            await room.act(ActKind.TAKE, case.id, by="dana", role="commander")

    asyncio.run(told())
