"""A freeze's request is stored where people look it up, whatever other signals about the model came meanwhile."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from strongroom.core.canonical import Json
from strongroom.core.envelope import Envelope, payload_type, sign
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId
from strongroom.responder.adapters.keeper_stops import KeeperStops
from support.deployment import signer

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration
ATLAS = ModelId("atlas")


class FirstFreezes:
    """A keeper that records the first freeze, and says of every other one that the model is frozen."""

    def __init__(self) -> None:
        self.asked = 0

    async def call(self, name: str, **members: Json) -> Fields:
        assert (name, set(members)) == ("stop", {"request"})
        self.asked += 1
        return Fields({"index": 7} if self.asked == 1 else {"index": None}, "answer")


def test_a_second_signal_between_a_freeze_and_its_storing_loses_no_request() -> None:
    submitted: list[Envelope] = []
    made: list[Envelope] = []

    def make(model: ModelId) -> Envelope:
        made.append(sign(payload_type("made-up.v1"), f"{model} {len(made)}".encode(), signer("warden")))
        return made[-1]

    async def story() -> None:
        session = SimpleNamespace(api=SimpleNamespace(submit=submitted.append))
        stops = KeeperStops(FirstFreezes(), session, make, [ATLAS])  # type: ignore[arg-type]
        await stops.prepare()
        first, second = await stops.stop(ATLAS), await stops.stop(ATLAS)
        assert (first.index, second.index) == (7, None)
        await stops.stored(first)

    asyncio.run(story())
    assert submitted == [made[0]]
