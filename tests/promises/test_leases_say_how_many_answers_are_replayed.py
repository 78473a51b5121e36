"""Delivery and leases tell the gateway to replay every answer while a precaution asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from promises.test_leases_end_with_what_they_rest_on import Scene
from strongroom.access.request import Action
from strongroom.core.events import EventName
from strongroom.keeper.leases import Leases
from strongroom.release.dossier import Dossier
from strongroom.release.lease import Sampling
from strongroom.release.precautions import PrecautionKind
from strongroom.release.steps import Step
from support.precaution_statements import take
from support.retold import retell

pytestmark = pytest.mark.integration


def run(story: Callable[[Scene], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story(await Scene.made("sam", "rina"))

    asyncio.run(whole())


def test_the_next_lease_says_so_and_people_who_lift_it_end_it() -> None:
    async def story(scene: Scene) -> None:
        room = scene.room
        assert scene.renew().sampling is Sampling.POLICY
        name = await take(room, PrecautionKind.SAMPLING)
        assert scene.renew().sampling is Sampling.WHOLE
        # A keeper that was started anew says it, too: it is in the log.
        scene.leases = Leases(room.keeper, room.clock)
        assert scene.renew(scene.prove()).sampling is Sampling.WHOLE
        request = await room.submit(Action.LIFT, target=name)
        approvals = await room.approvals(request, "sam", "rina")
        await room.keeper.control(Dossier(request=request, approvals=approvals))
        assert scene.renew().sampling is Sampling.POLICY

    run(story)


def test_what_is_released_under_it_says_so_from_the_first_answer_on() -> None:
    # Else whoever starts the engine anew, again and again, would live in the third of a period before its first lease.
    async def story(scene: Scene) -> None:
        before = scene.delivery.sampling
        await take(scene.room, PrecautionKind.SAMPLING)
        await scene.release("sam", "rina")
        assert (before, scene.delivery.sampling) == (Sampling.POLICY, Sampling.WHOLE)

    run(story)


def test_the_log_says_what_each_release_and_each_new_evidence_owed() -> None:
    async def story(scene: Scene) -> None:
        room = scene.room

        async def owed(event: EventName) -> str:
            await asyncio.sleep(0.05)
            return room.log.last(event).text("sampling")

        until = room.clock.now() + 90
        scene.renew(scene.prove())
        assert (await owed(EventName.RELEASED), await owed(EventName.LEASE_ATTESTED)) == ("policy", "policy")
        await take(room, PrecautionKind.SAMPLING, until=until)
        scene.renew(scene.prove())
        assert await owed(EventName.LEASE_ATTESTED) == "whole"
        await scene.release("sam", "rina")
        assert await owed(EventName.RELEASED) == "whole"
        room.clock.at = until
        scene.renew(scene.prove())
        assert await owed(EventName.LEASE_ATTESTED) == "policy"
        assert retell(room).findings == ()

    run(story)


def test_a_delivery_says_no_less_than_its_entry_whatever_is_taken_or_ends_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(scene: Scene) -> None:
        room, begun = scene.room, []
        until = room.clock.now() + 90

        def taking(step: Step) -> None:
            if step is Step.DECISION:
                begun.append(asyncio.create_task(take(room, PrecautionKind.SAMPLING, until=until)))

        def ending(step: Step) -> None:
            if step is Step.RECORD:
                room.clock.at = until

        for reached, said in ((taking, "policy"), (ending, "whole")):
            monkeypatch.setattr(room.keeper, "_reached", reached)
            await scene.release("sam", "rina")
            assert room.log.last(EventName.RELEASED).text("sampling") == said
            assert scene.delivery.sampling is Sampling.WHOLE
        await asyncio.gather(*begun)
        assert retell(room).findings == ()

    run(story)


def test_it_ends_by_itself() -> None:
    async def story(scene: Scene) -> None:
        until = scene.room.clock.now() + 90
        await take(scene.room, PrecautionKind.SAMPLING, until=until)
        assert scene.renew().sampling is Sampling.WHOLE
        scene.room.clock.at = until - 1
        assert scene.renew(scene.prove()).sampling is Sampling.WHOLE
        scene.room.clock.at = until
        assert scene.renew(scene.prove()).sampling is Sampling.POLICY

    run(story)


def test_precautions_of_another_kind_say_nothing_of_it() -> None:
    async def story(scene: Scene) -> None:
        await take(scene.room, PrecautionKind.HOLD)
        await take(scene.room, PrecautionKind.APPROVER)
        assert scene.renew().sampling is Sampling.POLICY

    run(story)
