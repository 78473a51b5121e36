"""A flood brings only so many entries into the log, loses no refusal, and blocks nobody else."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from strongroom.access.request import REQUEST_TYPE, Action
from strongroom.audit.entries import read_entry
from strongroom.core.buckets import TooManyEntriesError
from strongroom.core.envelope import sign
from strongroom.core.events import EventName
from strongroom.core.signature import SignatureError
from strongroom.keeper import voices
from strongroom.keeper.quotas import RATES, Quota
from strongroom.keys.recipient import RecipientKey
from strongroom.release.dossier import Dossier
from strongroom.release.steps import ReleaseRefusedError
from support.deployment import signer
from support.room import Room

pytestmark = pytest.mark.integration
BURST = RATES[Quota.REFUSAL].burst


def counted(room: Room, event: EventName) -> int:
    return sum(read_entry(data).event is event for data in room.log.entries)


async def refuse(room: Room, dossier: Dossier, times: int) -> None:
    for _ in range(times):
        with pytest.raises(ReleaseRefusedError):
            await room.keeper.release(dossier)


def test_refusals_of_one_request_are_summed_up_and_none_is_dropped() -> None:
    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask()
        good = await room.dossier(request, RecipientKey())
        refused = replace(good, testimony=None)
        await refuse(room, refused, BURST)
        assert counted(room, EventName.REFUSED) == BURST
        kept, begun = len(room.decisions.kept), room.clock.now()
        await refuse(room, refused, 1000)
        room.clock.at += 3
        await refuse(room, refused, 500)
        # Neither the log nor the kept decisions grow.
        assert counted(room, EventName.REFUSED) == BURST
        assert len(room.decisions.kept) == kept
        # The request itself isn't blocked.
        await room.keeper.release(good)
        room.keeper.refusals.record(room.keeper.record)
        assert counted(room, EventName.REFUSALS_SUMMED) == 0
        room.clock.at += 3
        room.keeper.refusals.record(room.keeper.record)
        await asyncio.sleep(0)
        await room.keeper.record_pinned(EventName.KEEPER_LOCKED, {"cause": "asked"})
        assert counted(room, EventName.REFUSALS_SUMMED) == 1
        summed = room.log.last(EventName.REFUSALS_SUMMED)
        assert (summed.digest("request"), summed.integer("count")) == (request.digest, 1500)
        assert summed.text("first") < summed.text("last")
        assert room.clock.now() == begun + 6
        # What was summed up is told once.
        room.clock.at += 3600
        room.keeper.refusals.record(room.keeper.record)
        assert counted(room, EventName.REFUSALS_SUMMED) == 1

    asyncio.run(run())


def test_one_request_in_a_flood_doesnt_take_from_another() -> None:
    async def run() -> None:
        room = await Room().furnish()
        flooded, other = await room.ask(), await room.ask(max_uses=2)
        await refuse(room, replace(await room.dossier(flooded, RecipientKey()), testimony=None), BURST + 10)
        before = counted(room, EventName.REFUSED)
        await refuse(room, replace(await room.dossier(other, RecipientKey()), testimony=None), 5)
        assert counted(room, EventName.REFUSED) == before + 5

    asyncio.run(run())


async def ask_until_refused(room: Room) -> int:
    for said in range(2 * RATES[Quota.VOICE].burst):
        try:
            await room.ask(max_uses=said + 1)
        except TooManyEntriesError as error:
            assert error.http_status == 429  # noqa: PT017 - the number of askings is what is wanted
            return said
    raise AssertionError("a person asked for ever")


def test_one_person_can_say_only_so_much_and_others_still_can() -> None:
    async def run() -> None:
        room = await Room().furnish()
        said = await ask_until_refused(room)
        assert said <= RATES[Quota.VOICE].burst
        size = len(room.log.entries)
        with pytest.raises(TooManyEntriesError):
            await room.submit(Action.FREEZE)
        assert len(room.log.entries) == size
        await room.submit(Action.FREEZE, by="sam")
        room.clock.at += 2
        await room.submit(Action.FREEZE)

    asyncio.run(run())


def test_strangers_signatures_cost_the_person_nothing() -> None:
    async def run() -> None:
        room = await Room().furnish()
        for uses in range(1, 2 * RATES[Quota.VOICE].burst):
            request = room.request(Action.FREEZE, nonce=uses.to_bytes(16, "big"))
            forged = sign(REQUEST_TYPE, request.to_bytes(), signer("thief"))
            with pytest.raises(SignatureError):
                await voices.submit(room.keeper, room.clock, forged)
        await room.ask()

    asyncio.run(run())
