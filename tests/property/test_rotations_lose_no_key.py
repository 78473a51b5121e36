"""Whatever is rotated, in whatever order, and wherever the keeper is killed: no data key is lost and nothing is undone.

The keeper may end before and after each write of the keyring, of a person's record and of the log, and between the
steps of each act; the store may lose what it was told to keep. Then another keeper starts over what was left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ModelId
from strongroom.keeper.rotation import RotationUnfinishedError
from strongroom.keys.states import KeyState
from support.examples import examples
from support.key_rooms import MODELS, Crash, KeyRoom

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration

ACTS = st.tuples(st.sampled_from(("seal", "draft", "rotate", "move", "epoch", "root")), st.sampled_from(MODELS))


async def act(room: KeyRoom, what: str, model: ModelId, stores: Callable[[], bool]) -> None:
    keys = room.keeper.journal.ledger.keys
    if what == "seal":
        await room.seal(model)
    elif what == "draft":
        await room.seal(model, register=False)
    elif what == "rotate" and keys.active(model) is not None:
        if keys.previous(model) is not None:
            with pytest.raises(RotationUnfinishedError):
                await room.rotate(model)
        else:
            await room.rotate(model)
    elif what == "move" and keys.active(model) is not None:
        await room.move(model, stores=stores)
    elif what == "epoch":
        await room.keys.rotate_epoch(room._name())
    elif what == "root":
        await room.keys.rotate_root(room._name())


def agrees(room: KeyRoom) -> None:
    """The keyring holds what the log calls alive, and nothing else."""
    keys, held = room.keeper.journal.ledger.keys, room.keeper.vault.keyring
    assert {one.kek for one in held.keks} == {kek.kek for kek in keys.living()}
    assert {one.epoch for one in held.epochs} == {epoch.epoch for epoch in keys.living_epochs()}
    assert held.generation == keys.generation
    assert all(sum(kek.state is KeyState.ACTIVE for kek in keys.of(model)) == 1 for model in keys.by_model)
    for name in room.rotations:
        assert room.keeper.journal.ledger.times_used(name) == 1, "a request to rotate is spent once"


def story(acts: list[tuple[str, ModelId]], crash: int, losses: list[bool]) -> None:
    async def run() -> None:
        room = await KeyRoom().open()
        lost = iter(losses)
        await room.seal(MODELS[0])
        room.fuse.left = crash
        for what, model in acts:
            await survive(room, act(room, what, model, lambda: next(lost, True)))
            room.check()
        await room.reopen()
        room.check()
        agrees(room)
        # Whatever was cut short can be finished now.
        for model in MODELS:
            if room.keeper.journal.ledger.keys.active(model) is not None:
                await room.move(model)
                assert room.keeper.journal.ledger.keys.previous(model) is None
        await room.reopen()
        room.check()
        agrees(room)

    asyncio.run(run())


async def survive(room: KeyRoom, doing: Awaitable[None]) -> None:
    try:
        await doing
    except Crash:
        await room.reopen()
        agrees(room)
    except StrongroomError:
        # The crash came while the log wrote: the keeper saw its log fail, and locked.
        assert room.keeper.locked_because
        await room.reopen()
        agrees(room)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    acts=st.lists(ACTS, min_size=1, max_size=8),
    crash=st.integers(min_value=0, max_value=60),
    losses=st.lists(st.booleans(), max_size=6),
)
def test_no_data_key_is_lost_wherever_the_keeper_ends(
    acts: list[tuple[str, ModelId]], crash: int, losses: list[bool]
) -> None:
    story(acts, crash, losses)


EACH = [
    ("seal", MODELS[1]),
    ("rotate", MODELS[0]),
    ("move", MODELS[0]),
    ("epoch", MODELS[0]),
    ("rotate", MODELS[1]),
    ("root", MODELS[0]),
    ("move", MODELS[1]),
]


def places() -> int:
    async def run() -> int:
        room = await KeyRoom().open()
        await room.seal(MODELS[0])
        before = room.fuse.passed
        for what, model in EACH:
            await act(room, what, model, lambda: True)
        return room.fuse.passed - before

    return asyncio.run(run())


def test_the_keeper_may_end_at_every_single_place_of_one_of_each_act() -> None:
    count = places()
    assert count > 30
    for place in range(count):
        story(EACH, place, [])
