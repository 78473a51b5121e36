"""Random histories against the real keeper: people ask, approve, deny, leave, come back, freeze, restart,
change the rules, take precautions and lift them.

What the log then holds is judged by a few lines that share nothing with the product: no release without two recorded
approvals by others who had standing, none after a denial, a freeze or the requester's suspension, none too often.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.access.policy import Factor
from strongroom.access.request import Action
from strongroom.audit.entries import read_entry
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.lifecycle import SuspensionCause
from strongroom.release.precautions import PrecautionKind
from support.examples import examples
from support.precaution_statements import take
from support.retold import retell
from support.room import Room

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration
PEOPLE = ("dana", "sam", "rina", "both")

person = st.sampled_from(PEOPLE)
which = st.integers(0, 3)
steps = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from([1, 2])),
    st.tuples(st.just("approve"), which, person),
    st.tuples(st.just("approve"), which, person),
    st.tuples(st.just("deny"), which, person),
    st.tuples(st.just("release"), which),
    st.tuples(st.just("release"), which),
    st.tuples(st.just("suspend"), person),
    st.tuples(st.just("vet"), person),
    st.tuples(st.just("lapse"), person),
    st.tuples(st.just("freeze")),
    st.tuples(st.just("resume")),
    st.tuples(st.just("revoke"), which),
    st.tuples(st.just("ask_for"), st.sampled_from([1, 2])),
    st.tuples(st.just("take"), st.sampled_from(PrecautionKind)),
    st.tuples(st.just("lift")),
    st.tuples(st.just("restart")),
)


class History:
    """One room and what happened in it."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.asked: list[Envelope] = []
        self.said: dict[int, list[Envelope]] = {}

    async def do(self, step: tuple[object, ...]) -> None:
        """Carry out one step; a refusal is an answer too."""
        with suppress(StrongroomError):
            await getattr(self, str(step[0]))(*step[1:])

    async def ask(self, uses: int) -> None:
        self.asked.append(await self.room.ask(max_uses=uses))

    def _which(self, place: int) -> tuple[int, Envelope]:
        index = place % len(self.asked)
        return index, self.asked[index]

    async def approve(self, place: int, by: str) -> None:
        index, request = self._which(place)
        self.said.setdefault(index, []).append(self.room.signed(request, by))
        await self.room.voice(request, by)

    async def deny(self, place: int, by: str) -> None:
        await self.room.voice(self._which(place)[1], by, deny=True)

    async def release(self, place: int) -> None:
        index, request = self._which(place)
        case = await self.room.dossier(request, RecipientKey(), "nobody")
        await self.room.keeper.release(replace(case, approvals=tuple(self.said.get(index, ()))))

    async def suspend(self, name: str) -> None:
        await self.room.people.suspend(PersonId(name), SuspensionCause.DEACTIVATED)

    async def vet(self, name: str) -> None:
        await self.room.vet(name)

    async def lapse(self, name: str) -> None:
        await self.room.vet(name, adjudicated_on=1, expires_on=2, rescreen_due=2)

    async def freeze(self) -> None:
        await self.room.keeper.control(self.room.bare(await self.room.submit(Action.FREEZE)))

    async def resume(self) -> None:
        request = await self.room.submit(Action.RESUME)
        await self.room.keeper.control(self.room.bare(request, *await self.room.approvals(request)))

    async def revoke(self, place: int) -> None:
        target = self._which(place)[1].digest
        await self.room.keeper.control(self.room.bare(await self.room.submit(Action.REVOKE_GRANT, target=target)))

    async def ask_for(self, count: int) -> None:
        """Have a policy adopted by which so many of security must agree to an opening, and one of research."""
        factors = (Factor(role="approver-security", count=count), Factor(role="approver-research", count=1))
        rules = [one for one in self.room.policy.rules if one.action is not Action.OPEN_IN_ENCLAVE]
        (opening,) = {*self.room.policy.rules} - {*rules}
        await self.room.next_policy(rules=(*rules, replace(opening, factors=factors)))

    async def take(self, kind: PrecautionKind) -> None:
        await take(self.room, kind)

    async def lift(self) -> None:
        hold = self.room.keeper.journal.ledger.precautions.any_hold()
        request = await self.room.submit(Action.LIFT, target=hold.name if hold else Digest.of(b"none"))
        await self.room.keeper.control(self.room.bare(request, *await self.room.approvals(request)))

    async def restart(self) -> None:
        await self.room.restart()


def judge(entries: list[bytes]) -> int:  # noqa: C901 - one case for each event
    """Read the log once, front to back; returns how many releases it holds."""
    approved: dict[str, set[str]] = {}
    asker: dict[str, str] = {}
    over: set[str] = set()
    out: set[str] = set()
    frozen = False
    uses: dict[str, int] = {}
    for data in entries:
        entry = read_entry(data)
        facts = entry.facts
        match entry.event:
            case EventName.REQUEST_CREATED:
                asker[str(facts["request"])] = str(facts["requester"])
            case EventName.REQUEST_APPROVED:
                approved.setdefault(str(facts["request"]), set()).add(str(facts["person"]))
            case EventName.REQUEST_DENIED:
                over.add(str(facts["request"]))
            case EventName.GRANT_REVOKED:
                over.add(str(facts["grant"]))
            case EventName.PERSON_SUSPENDED:
                out.add(str(facts["person"]))
            case EventName.VETTING_RECORDED:
                out.discard(str(facts["person"]))
            case EventName.MODEL_FROZEN:
                frozen = True
            case EventName.MODEL_RESUMED:
                frozen = False
            case EventName.RELEASED:
                request = str(facts["request"])
                uses[request] = uses.get(request, 0) + 1
                assert not frozen
                assert request not in over
                assert asker[request] not in out
                assert len(approved[request] - out - {asker[request]}) >= 2
                assert uses[request] <= 2
    return sum(uses.values())


@given(st.lists(steps, min_size=4, max_size=24))
@settings(max_examples=examples(40))
def test_no_history_releases_what_the_people_in_it_didn_t_agree_to(history: list[tuple[object, ...]]) -> None:
    async def whole() -> None:
        told = History(await Room().furnish())
        # One request that could go right, so that there is something to go wrong with.
        for step in (("ask", 2), ("approve", 0, "sam"), ("approve", 0, "rina"), *history, ("release", 0)):
            await told.do(step)
        judge(told.room.log.entries)
        # And by what auditors judge with, from the log and what was kept: it must blame nobody here.
        assert retell(told.room).findings == ()

    asyncio.run(whole())


def test_the_judge_of_these_histories_sees_releases() -> None:
    async def whole() -> int:
        told = History(await Room().furnish())
        for step in (
            ("ask", 2),
            ("approve", 0, "sam"),
            ("approve", 0, "rina"),
            ("release", 0),
            ("release", 0),
            ("release", 0),
        ):
            await told.do(step)
        return judge(told.room.log.entries)

    assert asyncio.run(whole()) == 2
