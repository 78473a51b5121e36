"""Delivery and leases tell the gateway to replay every answer while a precaution asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from promises.test_leases_end_with_what_they_rest_on import Scene
from strongroom.access.request import Action
from strongroom.keeper.leases import Leases
from strongroom.release.dossier import Dossier
from strongroom.release.lease import Sampling
from strongroom.release.precautions import PrecautionKind
from support.precaution_statements import take

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
