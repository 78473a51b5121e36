"""Once a freeze was acknowledged, no delivery is returned any more, however many releases were under way."""

from __future__ import annotations

import asyncio
import random

import pytest

from strongroom.access.request import Action
from strongroom.core.errors import StrongroomError
from strongroom.keeper.service import HandedOver
from strongroom.keys.recipient import RecipientKey
from strongroom.release.dossier import Dossier
from strongroom.release.steps import ReleaseRefusedError, Step
from support.room import Room

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration


async def freeze(room: Room) -> None:
    await room.keeper.control(Dossier(request=await room.submit(Action.FREEZE)))


def outcome(result: HandedOver | BaseException) -> str:
    if isinstance(result, StrongroomError):
        return result.reason
    assert isinstance(result, HandedOver), result
    return "delivered"


def test_step_5_a_release_whose_record_is_being_written_loses_to_a_freeze() -> None:
    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask(max_uses=50)
        freezing = await room.submit(Action.FREEZE)
        dossiers = [await room.dossier(request, RecipientKey()) for _ in range(8)]
        room.log.gate.clear()
        releases = [asyncio.create_task(room.keeper.release(one)) for one in dossiers]
        await asyncio.sleep(0)
        control = asyncio.create_task(room.keeper.control(Dossier(request=freezing)))
        await asyncio.sleep(0)
        assert room.keeper.journal.ledger.times_used(request.digest) == 8
        room.log.gate.set()
        await control
        results = await asyncio.gather(*releases, return_exceptions=True)
        assert {outcome(result) for result in results} == {"model-frozen"}
        assert {result.step for result in results if isinstance(result, ReleaseRefusedError)} == {Step.RECORD}

    asyncio.run(run())


@pytest.mark.parametrize("act", ["revoke-grant", "revoke-platform", "lock"])
def test_step_5_a_revocation_or_lock_stops_a_release_whose_record_is_being_written(act: str) -> None:
    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask()
        platform = room.platform.record().platform
        ending = {
            "revoke-grant": await room.submit(Action.REVOKE_GRANT, target=request.digest),
            "revoke-platform": await room.submit(Action.REVOKE_PLATFORM, platforms=(platform,)),
        }
        dossier = await room.dossier(request, RecipientKey())
        room.log.gate.clear()
        release = asyncio.create_task(room.keeper.release(dossier))
        await asyncio.sleep(0)
        if act == "lock":
            room.keeper.lock("asked")
        else:
            ended = asyncio.create_task(room.keeper.control(Dossier(request=ending[act])))
            await asyncio.sleep(0)
        room.log.gate.set()
        if act != "lock":
            await ended
        with pytest.raises(StrongroomError) as caught:
            await release
        assert caught.value.reason == ("locked" if act == "lock" else "request-denied")

    asyncio.run(run())


def test_a_data_key_isn_t_delivered_to_its_publisher_after_the_keeper_was_locked() -> None:
    async def run() -> None:
        room = await Room().furnish()
        key = RecipientKey()
        request = await room.submit(Action.SEAL, version=2, recipient=key.digest)
        room.log.gate.clear()
        sealing = asyncio.create_task(room.keeper.seal(Dossier(request=request, recipient_key=key.public)))
        await asyncio.sleep(0)
        room.keeper.lock("asked")
        room.log.gate.set()
        with pytest.raises(StrongroomError) as caught:
            await sealing
        assert caught.value.reason == "locked"

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(8))
def test_no_delivery_is_returned_after_the_freeze_was(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - makes a schedule, no key

    async def run() -> tuple[int, int]:
        room = await Room().furnish()
        request = await room.ask(max_uses=1000)
        frozen = False
        late: list[str] = []
        done: list[str] = []

        async def one() -> None:
            await asyncio.sleep(chance.random() / 50)
            try:
                dossier = await room.dossier(request, RecipientKey())
                result: HandedOver | BaseException = await room.keeper.release(dossier)
            except StrongroomError as error:
                result = error
            (late if frozen else done).append(outcome(result))

        async def slow_log() -> None:
            while True:
                room.log.gate.clear()
                await asyncio.sleep(chance.random() / 100)
                room.log.gate.set()
                await asyncio.sleep(0)

        slowing = asyncio.create_task(slow_log())
        releases = [asyncio.create_task(one()) for _ in range(40)]
        await asyncio.sleep(chance.random() / 50)
        await freeze(room)
        frozen = True
        await asyncio.gather(*releases)
        slowing.cancel()
        assert set(late) <= {"model-frozen"}
        assert set(done) <= {"model-frozen", "delivered"}
        return done.count("delivered"), len(late)

    delivered, late = asyncio.run(run())
    assert delivered + late <= 40


def test_two_releases_never_share_the_last_use() -> None:
    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask(max_uses=3)
        dossiers = [await room.dossier(request, RecipientKey()) for _ in range(9)]
        room.log.gate.clear()
        releases = [asyncio.create_task(room.keeper.release(dossier)) for dossier in dossiers]
        await asyncio.sleep(0)
        room.log.gate.set()
        results = [outcome(one) for one in await asyncio.gather(*releases, return_exceptions=True)]
        assert sorted(results) == ["delivered"] * 3 + ["grant-spent"] * 6

    asyncio.run(run())
