"""Stories in a furnished room: a keeper in the test's own process, people who act, and refusals that must be exact."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import PersonId
from strongroom.personnel.roster import Person
from support.deployment import signer
from support.room import Room


def run(story: Callable[[Room], Awaitable[None]]) -> None:
    """Run a story in a furnished room."""

    async def whole() -> None:
        await story(await Room().furnish())

    asyncio.run(whole())


async def refused(act: Awaitable[object], reason: str) -> StrongroomError:
    """Return the error of an act that must be refused for a reason."""
    with pytest.raises(StrongroomError) as caught:
        await act
    assert caught.value.reason == reason, caught.value.diagnosis()
    return caught.value


def someone(name: str, *roles: str, org: str = "security", **members: object) -> Person:
    """Return a person who isn't one of the usual ones."""
    person = Person(id=PersonId(name), org=org, active=True, roles=frozenset(roles), keys=(signer(name).public_key,))
    return replace(person, **members)  # type: ignore[arg-type]


async def hire(room: Room, *people: Person) -> None:
    """Adopt a roster with more people; nobody is vetted by that."""
    before = room.roster
    await room.adopt_roster(
        replace(
            before,
            epoch=before.epoch + 1,
            predecessor=Digest.of(before.to_bytes()),
            people=(*before.people, *people),
        )
    )


async def hire_vetted(room: Room, *people: Person) -> None:
    """Adopt a roster with more people, and have the root quorum vet them."""
    await hire(room, *people)
    for person in people:
        await room.vet(person.id)
