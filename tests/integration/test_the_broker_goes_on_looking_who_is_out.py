"""Who is suspended is looked up for as long as the broker runs, whatever one look met with, and however many left."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from simulators.deployment_in_memory import InMemoryDeployment
from strongroom.broker.identity import Identity, Party
from strongroom.broker.standing import Standing
from strongroom.client.state import State
from strongroom.core.errors import StrongroomError, UnavailableError
from strongroom.core.fields import Fields
from support.logs import GENESIS

pytestmark = pytest.mark.integration  # an event loop has a socket pair of its own

GONE = Identity(Party.PERSON, "gone")


class Keeper:
    """Says who is suspended, or fails."""

    error: Exception | None = None
    suspended: tuple[str, ...] = ()

    async def call(self, _operation: str, **_members: object) -> Fields:
        """Answer."""
        if self.error is not None:
            raise self.error
        return Fields({"suspended": [*self.suspended], "documents": {}}, "status")


@pytest.mark.parametrize("error", [UnavailableError("no"), RuntimeError(), OSError(24, "too many open files")])
def test_a_look_that_failed_is_followed_by_another(error: Exception) -> None:
    async def run() -> None:
        keeper = Keeper()
        standing = Standing(genesis=GENESIS, keeper=keeper, store=None)  # type: ignore[arg-type]  # nothing of it is read
        keeper.suspended = ("gone",)
        await standing.look()
        assert standing.barred(GONE)
        keeper.error = error
        await standing.look()
        # What was known stands, and whoever asks for themselves is told.
        assert standing.barred(GONE)
        with pytest.raises(StrongroomError if isinstance(error, StrongroomError) else type(error)):
            await standing.refresh()
        keeper.error, keeper.suspended = None, ("also",)
        await standing.look()
        assert standing.barred(Identity(Party.PERSON, "also"))

    asyncio.run(run())


def test_years_of_leavers_are_read_by_broker_and_client_alike() -> None:
    # More than any roster has at once: a client that took fewer than the broker would read no state at all any more.
    left = tuple(f"leaver-{number}" for number in range(6000))
    with closing(InMemoryDeployment()) as deployment:
        deployment.adopt_first()
        state = deployment.call("GET", "/v1/state")
    assert isinstance(state, dict)
    assert State.read({**state, "suspended": [*left]}).suspended == left

    async def run() -> None:
        keeper = Keeper()
        keeper.suspended = left
        standing = Standing(genesis=GENESIS, keeper=keeper, store=None)  # type: ignore[arg-type]  # nothing of it is read
        await standing.refresh()
        assert standing.barred(Identity(Party.PERSON, left[-1]))

    asyncio.run(run())
