"""Wherever a rotation of the root key ends, the next start has the shares that go with it, and the log says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from strongroom.audit.entries import read_entry
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.core.signature import Ed25519Signer
from strongroom.keeper.escrow import EscrowLostError, Escrows
from strongroom.keeper.rotation import Reached, Rotation
from strongroom.keys.escrow import Escrow, EscrowPlan, open_share
from strongroom.keys.slip39 import combine
from strongroom.keys.wrapping import RandomBytes
from support.escrows import UNLOCK, holders, seen
from support.room import Room

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration

ORDER = Digest.of(b"an order")
HELD = holders(3)


class Crash(BaseException):
    """The process ends here."""


class MemoryEscrows:
    """The keeper's folder, in memory; ``crash`` is called before each change."""

    def __init__(self) -> None:
        self.present: Envelope | None = None
        self.waiting: Envelope | None = None
        self.crash: Callable[[str], None] = lambda _place: None

    def load(self) -> Envelope | None:
        return self.present

    def load_next(self) -> Envelope | None:
        return self.waiting

    def save(self, envelope: Envelope) -> None:
        self.crash("save")
        self.present = envelope

    def save_next(self, envelope: Envelope) -> None:
        self.crash("save-next")
        self.waiting = envelope

    def drop_next(self) -> None:
        self.crash("drop")
        self.waiting = None

    def need_unlock_signer(self, _random_bytes: RandomBytes) -> Ed25519Signer:
        return UNLOCK


def joined(room: Room, store: MemoryEscrows) -> tuple[Escrows, Rotation]:
    escrows, rotation = Escrows(room.keeper, store, room.clock, bytes), room.rotation()
    escrows.rotate_root, escrows.turn = rotation.rotate_root, rotation.turn
    rotation.before_root, rotation.after_root = escrows.before_root, escrows.after_root
    return escrows, rotation


def plan(room: Room, *, threshold: int = 2) -> EscrowPlan:
    held = tuple(one.custodian for one in HELD)
    return EscrowPlan(genesis=room.genesis.digest, threshold=threshold, custodians=held)


def root_of(escrow: Escrow) -> bytes:
    words = [open_share(escrow, one.custodian.person, one.identity) for one in HELD[: escrow.threshold]]
    return seen(combine(words))


def crash_at(wanted: str) -> Callable[[str], None]:
    def crash(place: str) -> None:
        if place == wanted:
            raise Crash

    return crash


@pytest.mark.parametrize("place", ["save-next", *Reached, "save", "drop", "never"])
def test_a_crash_at_any_place_leaves_the_shares_of_the_root_key(place: str) -> None:
    async def run() -> None:
        room, store = Room(), MemoryEscrows()
        await room.keeper.start()
        escrows, rotation = joined(room, store)
        await escrows.adopt(plan(room), Digest.of(b"the first order"))
        rotation.reached = store.crash = crash_at(place)
        try:
            await rotation.rotate_root(ORDER)
        except Crash:
            assert place != "never"
        store.crash = lambda _place: None
        await room.restart()
        escrows, rotation = joined(room, store)
        await escrows.start()
        escrow = Escrow.parse(escrows.in_force().payload)
        keys = room.keeper.journal.ledger.keys
        assert store.waiting is None
        assert keys.escrow is not None
        assert escrow.generation == keys.escrow.generation == keys.generation == room.keeper.vault.keyring.generation
        assert keys.generation == (1 if place == "save-next" else 2)
        assert root_of(escrow) == room.keeper.vault.share_root(seen)

    asyncio.run(run())


def test_a_rotation_that_overtakes_an_adoption_loses_neither() -> None:
    async def run() -> None:
        room, store = Room(), MemoryEscrows()
        await room.keeper.start()
        escrows, rotation = joined(room, store)
        room.log.gate.clear()
        adopting = asyncio.create_task(escrows.adopt(plan(room), ORDER))
        await asyncio.sleep(0)
        rotating = asyncio.create_task(rotation.rotate_root(Digest.of(b"another order")))
        for _ in range(20):
            await asyncio.sleep(0)
        room.log.gate.set()
        await asyncio.gather(adopting, rotating)
        escrow = Escrow.parse(escrows.in_force().payload)
        assert escrow.generation == room.keeper.journal.ledger.keys.generation == 2
        assert root_of(escrow) == room.keeper.vault.share_root(seen)
        assert store.waiting is None

    asyncio.run(run())


def test_a_plan_that_waits_for_its_turn_isnt_followed_by_a_rotation_for_something_else() -> None:
    async def run() -> None:
        room, store = Room(), MemoryEscrows()
        await room.keeper.start()
        escrows, rotation = joined(room, store)
        await escrows.adopt(plan(room, threshold=2), Digest.of(b"the first order"))
        another = Digest.of(b"a destruction")
        rotating = asyncio.create_task(rotation.rotate_root(another))
        await asyncio.sleep(0)
        adopting = asyncio.create_task(escrows.adopt(plan(room, threshold=3), ORDER))
        await asyncio.gather(rotating, adopting)
        adopted = [entry for entry in map(read_entry, room.log.entries) if entry.event is EventName.ESCROW_ADOPTED]
        assert [(entry.digest("authority"), entry.integer("threshold")) for entry in adopted[1:]] == [
            (another, 2),
            (ORDER, 3),
        ]
        assert root_of(Escrow.parse(escrows.in_force().payload)) == room.keeper.vault.share_root(seen)

    asyncio.run(run())


def test_the_founded_escrow_rests_on_the_genesis_and_is_recorded_once() -> None:
    async def run() -> None:
        room, store = Room(), MemoryEscrows()
        await room.keeper.start()
        escrows, _rotation = joined(room, store)
        await escrows.adopt(plan(room), ORDER)
        again, kept = Room(room.founded), MemoryEscrows()
        kept.present = store.present
        await again.keeper.start()
        escrows, _rotation = joined(again, kept)
        for _ in range(2):
            await escrows.start()
        adopted = again.keeper.journal.ledger.keys.escrow
        assert adopted is not None
        assert (adopted.threshold, adopted.custodians) == (2, ("ada", "bo", "cy"))
        assert again.keeper.journal.ledger.keys.authorities == {again.genesis.digest}

    asyncio.run(run())


def test_another_escrow_than_the_logs_is_neither_shown_nor_followed() -> None:
    async def run() -> None:
        room, store = Room(), MemoryEscrows()
        await room.keeper.start()
        escrows, rotation = joined(room, store)
        await escrows.adopt(plan(room), ORDER)
        first = store.present
        await rotation.rotate_root(Digest.of(b"another order"))
        store.present = first
        with pytest.raises(EscrowLostError):
            escrows.in_force()
        with pytest.raises(EscrowLostError):
            await rotation.rotate_root(Digest.of(b"a third order"))
        assert room.keeper.journal.ledger.keys.generation == 2
        state = escrows.state()["escrow"]
        assert isinstance(state, dict)
        assert state["kept"] is False
        store.present = None
        with pytest.raises(StrongroomError):
            escrows.in_force()

    asyncio.run(run())
