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

from strongroom.audit.entries import read_entry
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.keeper.rotation import RotationUnfinishedError
from strongroom.keys.states import KeyState
from support.examples import examples
from support.key_rooms import MODELS, Crash, KeyRoom

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration

WHAT = ("seal", "draft", "forget", "rotate", "rotate", "move", "move", "epoch", "root", "hold", "lift")
ACTS = st.tuples(st.sampled_from(WHAT), st.sampled_from(MODELS))


async def rotate(room: KeyRoom, model: ModelId) -> None:
    ledger = room.keeper.journal.ledger
    unfinished, hold = ledger.keys.previous(model), ledger.precautions.hold(model)
    try:
        await room.rotate(model)
    except RotationUnfinishedError:
        assert unfinished
    else:
        assert not unfinished or hold is not None, "rotated once more, and nothing but a hold might allow it"


def forget(room: KeyRoom, model: ModelId) -> None:
    """Lose a draft's row, that never came to be stored."""
    registered = room.keeper.journal.ledger.keys.registered.get(model, set())
    of_model = (name for name, stored in room.rows.items() if stored.model == model)
    room.rows.pop(next((name for name in of_model if name not in registered), ""), None)


async def act(room: KeyRoom, what: str, model: ModelId, stores: Callable[[], bool]) -> None:
    keys = room.keeper.journal.ledger.keys
    if what == "seal":
        await room.seal(model)
    elif what == "draft":
        await room.seal(model, register=False)
    elif what == "forget":
        forget(room, model)
    elif what == "rotate" and keys.active(model) is not None:
        await rotate(room, model)
    elif what == "move" and keys.active(model) is not None:
        await room.move(model, stores=stores)
    elif what == "hold" and room.keeper.journal.ledger.precautions.any_hold() is None:
        await room.hold(model)
    elif what == "lift" and room.keeper.journal.ledger.precautions.any_hold() is not None:
        await room.lift()
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


def given_up_while_held(entries: list[bytes]) -> list[tuple[str, ...]]:
    """Return what went with a KEK of a model on which a hold stood."""
    held, found = "", []
    for entry in map(read_entry, entries):
        if entry.event is EventName.PRECAUTION_TAKEN:
            held = entry.text("subject")
        elif entry.event is EventName.PRECAUTION_LIFTED:
            held = ""
        elif entry.event is EventName.KEK_RETIRED and entry.text("model") == held and entry.texts("lost"):
            found.append(entry.texts("lost"))
    return found


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
        if room.keeper.journal.ledger.precautions.any_hold() is not None:
            for model in MODELS:
                if room.keeper.journal.ledger.keys.active(model) is not None:
                    await room.move(model)
            await room.lift()
        # Whatever was cut short can be finished now.
        for model in MODELS:
            if room.keeper.journal.ledger.keys.active(model) is not None:
                await room.move(model)
                assert room.keeper.journal.ledger.keys.previous(model) == ()
        await room.reopen()
        room.check()
        agrees(room)
        assert given_up_while_held(room.log.entries) == []

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


HELD = [
    *((what, MODELS[0]) for what in ("draft", "forget", "hold", "rotate", "move", "draft", "forget", "rotate", "move")),
    ("epoch", MODELS[0]),
    ("lift", MODELS[0]),
    ("move", MODELS[0]),
    # A draft whose row is there is moved, held or not, and its KEK goes with nothing.
    *((what, MODELS[0]) for what in ("draft", "hold", "rotate", "move", "lift")),
]


def places(acts: list[tuple[str, ModelId]]) -> int:
    async def run() -> int:
        room = await KeyRoom().open()
        await room.seal(MODELS[0])
        before = room.fuse.passed
        for what, model in acts:
            await act(room, what, model, lambda: True)
        return room.fuse.passed - before

    return asyncio.run(run())


@pytest.mark.parametrize("acts", [EACH, HELD], ids=["each", "held"])
def test_the_keeper_may_end_at_every_single_place_of_one_of_each_act(acts: list[tuple[str, ModelId]]) -> None:
    count = places(acts)
    assert count > 30
    for place in range(count):
        story(acts, place, [])


def test_a_held_model_of_these_stories_has_two_keks_kept() -> None:
    async def run() -> None:
        room = await KeyRoom().open()
        await room.seal(MODELS[0])
        for what, model in HELD[:9]:
            await act(room, what, model, lambda: True)
        assert len(room.keeper.journal.ledger.keys.previous(MODELS[0])) == 2

    asyncio.run(run())
