"""However many act at the responder's desk at once, it looks at the deployment once for all, after they came."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from strongroom.core.errors import UnavailableError
from strongroom.core.fields import Fields
from strongroom.responder.adapters.known import KnownDeployment

pytestmark = pytest.mark.integration  # an event loop holds a socket pair of its own


class Session:
    """A session that counts how often it looks, and answers when it is let."""

    def __init__(self) -> None:
        self.wallet = SimpleNamespace(genesis=lambda: SimpleNamespace(digest="genesis"))
        self.looks, self.down = 0, False
        self.at_once = self.most = 0
        self.begun = threading.Event()

    def refresh(self) -> object:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.looks += 1
        self.begun.set()
        self.at_once -= 1
        if self.down:
            raise UnavailableError("nobody answers")
        return SimpleNamespace(number=self.looks)


class Keeper:
    """A keeper of nobody."""

    async def call(self, operation: str) -> Fields:
        empty: dict[str, Any] = {"status": {"frozen": [], "precautions": []}, "people": {"people": []}}
        return Fields(empty.get(operation, {"grants": []}), operation)


def known(session: Session) -> KnownDeployment:
    return KnownDeployment(cast("Any", session), cast("Any", Keeper()), ())


def test_a_thousand_who_come_at_once_are_answered_by_two_looks() -> None:
    async def asked() -> None:
        session = Session()
        deployment = known(session)
        first = asyncio.create_task(deployment.refresh())
        await asyncio.to_thread(session.begun.wait, 60)
        others = [asyncio.create_task(deployment.refresh()) for _ in range(1000)]
        seen = await asyncio.gather(first, *others)
        # What had begun before they came isn't what they asked for.
        assert [cast("Any", one).number for one in seen] == [1, *[2] * 1000]
        assert (session.looks, session.most) == (2, 1)
        assert cast("Any", await deployment.refresh()).number == 3

    asyncio.run(asked())


def test_one_who_leaves_takes_no_answer_from_the_others_and_a_failure_is_everybody_s() -> None:
    async def asked() -> None:
        session = Session()
        deployment = known(session)
        session.down = True
        waiting = [asyncio.create_task(deployment.refresh()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        seen = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in seen] == [asyncio.CancelledError, UnavailableError, UnavailableError]
        assert session.looks == 1
        session.down = False
        assert cast("Any", await deployment.refresh()).number == 2

    asyncio.run(asked())
