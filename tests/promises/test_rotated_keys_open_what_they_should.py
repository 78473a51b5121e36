"""Rotation goes on while models are released; an old row, an old order or an old keyring gets nobody anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from simulators.attester import NOW
from strongroom.access.request import Action, LogHead, Purpose
from strongroom.audit.errors import LogFullError
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import DeniedError, LockedError, StrongroomError
from strongroom.core.events import EventName
from strongroom.core.signature import SignatureError
from strongroom.keeper.key_routes import KeyRoutes
from strongroom.keeper.keyring import Keyring
from strongroom.keeper.reconciling import KeyringRolledBackError
from strongroom.keeper.registry import register_version
from strongroom.keeper.rotation import Rotation, RotationUnfinishedError
from strongroom.keys.recipient import RecipientKey
from strongroom.keys.states import KeyState
from strongroom.keys.wrapping import WrapError, WrappedKey
from strongroom.release.dossier import Dossier, WrappedDataKey
from strongroom.release.key_orders import KEY_ORDER_TYPE, ORDER_SECONDS, KeyAct, KeyOrder, KeyOrderRefusedError
from strongroom.release.steps import ReleaseRefusedError
from strongroom.sealing.manifest import MANIFEST_TYPE
from support.deployment import DAY, MODEL, ROOTS, publisher
from support.key_rooms import MODELS, KeyRoom
from support.room import Room, counted_bytes, second_manifest

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def inside() -> None:
        await story()

    asyncio.run(inside())


async def rotated(room: Room) -> KeyRoutes:
    """Rotate the room's model by a request, as people do."""
    routes = KeyRoutes(room.keeper, room.rotation(), room.clock)
    await room.keeper.control(Dossier(request=await room.submit(Action.ROTATE)))
    return routes


# --- releases in between ----------------------------------------------------------------------------------------------


def test_a_release_opens_with_either_key_until_the_old_one_is_retired() -> None:
    async def story() -> None:
        room = await Room().furnish()
        request = await room.ask(max_uses=9)
        routes = await rotated(room)
        old = room.wrapped
        assert old is not None
        await room.release(request)
        moved = await routes._rotation.rewrap(MODEL, (old,), complete=False)
        (after,) = moved.rows
        assert after is not None
        assert (moved.left, moved.retired) == ((old.data_key,), False)
        for row in (old, after):
            room.wrapped = row
            await room.release(request)
        shown = await routes._rotation.rewrap(MODEL, (after,), complete=False)
        assert shown.retired
        await room.release(request)
        # The old row, brought back by whoever owns the database, is refused before a use is spent on it.
        uses = room.keeper.journal.ledger.times_used(request.digest)
        room.wrapped = old
        with pytest.raises(ReleaseRefusedError) as caught:
            await room.release(request)
        assert caught.value.reason in {"wrapped-key-refused", "key-unusable"}
        assert room.keeper.journal.ledger.times_used(request.digest) == uses

    run(story)


def test_a_request_to_rotate_is_good_once_and_for_its_model() -> None:
    async def story() -> None:
        room = await Room().furnish()
        routes = KeyRoutes(room.keeper, room.rotation(), room.clock)
        request = await room.submit(Action.ROTATE)
        await room.keeper.control(Dossier(request=request))
        assert room.wrapped is not None
        await routes._rotation.rewrap(MODEL, ((await move(routes, room.wrapped)),), complete=True)
        with pytest.raises(ReleaseRefusedError) as caught:
            await room.keeper.control(Dossier(request=request))
        assert caught.value.reason == "grant-spent"
        assert len([*room.keeper.journal.ledger.keys.of(MODEL)]) == 2

    run(story)


async def move(routes: KeyRoutes, row: WrappedDataKey) -> WrappedDataKey:
    moved = (await routes._rotation.rewrap(MODEL, (row,), complete=False)).rows[0]
    assert moved is not None
    return moved


def test_nobody_rotates_whom_the_policy_doesnt_let() -> None:
    async def story() -> None:
        room = await Room().furnish()
        KeyRoutes(room.keeper, room.rotation(), room.clock)
        before = room.keyrings.history[-1]
        with pytest.raises(ReleaseRefusedError):
            await room.keeper.control(Dossier(request=await room.submit(Action.ROTATE, by="sam")))
        assert room.keyrings.history[-1] == before

    run(story)


# --- a hostile database -----------------------------------------------------------------------------------------------


def test_hostile_rows_are_refused_one_by_one_and_hold_nobody_up() -> None:
    async def story() -> None:
        room = await KeyRoom().open()
        first, other = await room.seal(MODELS[0]), await room.seal(MODELS[1])
        row, foreign = room.rows[first].row, room.rows[other].row
        await room.rotate(MODELS[0])
        bad = (
            foreign,
            replace(row, kek=foreign.kek),
            replace(row, data_key=other),
            replace(row, data=foreign.data),
            replace(row, data=WrappedKey(row.data.nonce, row.data.ciphertext[:-1])),
            replace(row, data=WrappedKey(b"", b"")),
            replace(row, kek="0" * 32),
            replace(row, data_key="made-up"),
        )
        done = await room.keys.rewrap(MODELS[0], (*bad, row), complete=True)
        assert done.rows[:-1] == (None,) * len(bad)
        assert done.rows[-1] is not None
        # Registered, and not seen under the new key yet: never given up, whatever the store says of itself.
        assert (done.left, done.retired) == ((first,), False)
        assert await room.move(MODELS[0])
        room.check()

    run(story)


def test_a_row_that_is_gone_is_named_and_keeps_the_old_key_alive() -> None:
    async def story() -> None:
        room = await KeyRoom().open()
        kept, gone = await room.seal(MODELS[0]), await room.seal(MODELS[0])
        hidden = room.rows.pop(gone)
        await room.rotate(MODELS[0])
        assert not await room.move(MODELS[0])
        assert (await room.keys.rewrap(MODELS[0], (), complete=True)).left == (gone,)
        with pytest.raises(RotationUnfinishedError):
            await room.rotate(MODELS[0])
        room.rows[gone] = hidden
        assert await room.move(MODELS[0])
        assert kept in room.rows
        room.check()

    run(story)


def test_what_was_never_stored_is_given_up_and_can_never_be_registered() -> None:
    async def story() -> None:
        room = await KeyRoom().open()
        await room.seal(MODELS[0])
        lost = await room.seal(MODELS[0], register=False)
        del room.rows[lost]
        await room.rotate(MODELS[0])
        assert await room.move(MODELS[0])
        assert room.log.last(EventName.KEK_RETIRED).texts("lost") == (lost,)
        assert lost not in room.keeper.journal.ledger.keys.data_keys[MODELS[0]]

    run(story)


def test_a_data_key_that_is_registered_meanwhile_isnt_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        room = await KeyRoom().open()
        await room.seal(MODELS[0])
        late = await room.seal(MODELS[0], register=False)
        row = room.rows.pop(late)
        await room.rotate(MODELS[0])
        original = Rotation._planned

        async def planned(rotation: Rotation, plan: Callable[[], Keyring]) -> tuple[Keyring, bytes]:
            made = await original(rotation, plan)
            await room.register(late, 2)
            return made

        with monkeypatch.context() as patch:
            patch.setattr(Rotation, "_planned", planned)
            assert not await room.move(MODELS[0])
        # It was only late: its row is stored now, and opens.
        room.rows[late] = row
        assert await room.move(MODELS[0])
        room.check()
        await room.reopen()
        room.check()

    run(story)


def test_a_version_under_a_data_key_that_was_given_up_isnt_registered() -> None:
    async def story() -> None:
        room = await Room().furnish()
        published, key = room.wrapped, RecipientKey()
        assert published is not None
        request = await room.submit(Action.SEAL, version=2, recipient=key.digest, purpose=Purpose.PUBLISH)
        _delivery, draft = await room.keeper.seal(Dossier(request=request, recipient_key=key.public))
        routes = await rotated(room)
        moved = await move(routes, published)
        assert (await routes._rotation.rewrap(MODEL, (moved,), complete=True)).retired
        envelope = sign(MANIFEST_TYPE, second_manifest(room, draft.data_key).to_bytes(), publisher("dana"))
        with pytest.raises(DeniedError) as caught:
            await register_version(room.keeper, envelope, request.digest)
        assert caught.value.reason == "data-key-lost"

    run(story)


# --- orders of the root quorum ----------------------------------------------------------------------------------------


def order(room: Room, act: KeyAct = KeyAct.ROTATE_EPOCH, **members: object) -> KeyOrder:
    size, root = room.keeper.journal.durable
    made = KeyOrder(
        genesis=room.genesis.digest,
        act=act,
        subject=None,
        nonce=counted_bytes(16),
        log=LogHead(size=size, root=Digest(DigestAlgorithm.SHA256, root)),
        issued=NOW,
        expires=NOW + DAY,
    )
    return replace(made, **members)  # type: ignore[arg-type]


def signed(made: KeyOrder, signers: int = 2) -> Envelope:
    return sign(KEY_ORDER_TYPE, made.to_bytes(), *ROOTS[:signers])


@pytest.mark.parametrize("act", [KeyAct.ROTATE_EPOCH, KeyAct.ROTATE_ROOT])
def test_an_order_is_carried_out_once_and_models_open_before_and_after(act: KeyAct) -> None:
    async def story() -> None:
        room = await Room().furnish()
        routes = KeyRoutes(room.keeper, room.rotation(), room.clock)
        request = await room.ask(max_uses=9)
        await room.release(request)
        envelope = signed(order(room, act))
        recorded = await routes.carry_out(envelope)
        assert recorded.index == room.keeper.journal.ledger.size - (2 if act is KeyAct.ROTATE_EPOCH else 1)
        await room.release(request)
        with pytest.raises(KeyOrderRefusedError) as caught:
            await routes.carry_out(envelope)
        assert caught.value.reason == "order-used"
        await room.restart()
        routes = KeyRoutes(room.keeper, room.rotation(), room.clock)
        with pytest.raises(KeyOrderRefusedError) as caught:
            await routes.carry_out(envelope)
        assert caught.value.reason == "order-used"
        await room.release(request)
        assert set(room.keeper.documents.vetting) == set(room.serials), "people's records moved along"

    run(story)


def test_of_one_order_handed_in_twice_at_once_one_is_carried_out() -> None:
    async def story() -> None:
        room = await Room().furnish()
        routes = KeyRoutes(room.keeper, room.rotation(), room.clock)
        envelope = signed(order(room))
        done = await asyncio.gather(*(routes.carry_out(envelope) for _ in range(3)), return_exceptions=True)
        assert sum(isinstance(one, KeyOrderRefusedError) for one in done) == 2
        assert room.keeper.journal.ledger.key_epoch == 2

    run(story)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"genesis": Digest.of(b"other")}, "other-deployment"),
        ({"issued": NOW - 3 * DAY, "expires": NOW}, "order-expired"),
        ({"issued": NOW + 1, "expires": NOW + DAY}, "order-expired"),
        ({"log": LogHead(size=3, root=Digest.of(b"forked"))}, "log-forked"),
        ({"log": LogHead(size=10_000, root=Digest.of(b"ahead"))}, "log-forked"),
    ],
)
def test_an_order_over_something_else_is_refused(members: dict[str, object], reason: str) -> None:
    async def story() -> None:
        room = await Room().furnish()
        routes = KeyRoutes(room.keeper, room.rotation(), room.clock)
        with pytest.raises(KeyOrderRefusedError) as caught:
            await routes.carry_out(signed(order(room, KeyAct.ROTATE_EPOCH, **members)))
        assert caught.value.reason == reason
        assert room.keeper.journal.ledger.key_epoch == 1

    run(story)


def test_one_root_holder_alone_orders_nothing() -> None:
    async def story() -> None:
        room = await Room().furnish()
        routes = KeyRoutes(room.keeper, room.rotation(), room.clock)
        with pytest.raises(SignatureError):
            await routes.carry_out(signed(order(room), signers=1))
        made = order(room)
        twice = sign(KEY_ORDER_TYPE, made.to_bytes(), ROOTS[0], ROOTS[0])
        with pytest.raises(SignatureError):
            await routes.carry_out(twice)

    run(story)


def test_an_order_is_good_for_a_week_at_most() -> None:
    async def story() -> None:
        room = await Room().furnish()
        with pytest.raises(StrongroomError, match="at most 7 days"):
            order(room, expires=NOW + ORDER_SECONDS + 1).to_bytes()

    run(story)


def test_a_locked_keeper_rotates_nothing() -> None:
    async def story() -> None:
        room = await Room().furnish()
        routes, envelope = KeyRoutes(room.keeper, room.rotation(), room.clock), signed(order(room))
        room.keeper.lock("asked")
        with pytest.raises(LockedError):
            await routes.carry_out(envelope)
        with pytest.raises(LockedError):
            await routes._rotation.rewrap(MODEL, (), complete=True)

    run(story)


def test_a_keeper_without_its_key_services_makes_no_other_root_key() -> None:
    async def story() -> None:
        room = await Room().furnish()
        room.keeper.vault.providers = None
        with pytest.raises(LockedError) as caught:
            await room.rotation().rotate_root(Digest.of(b"order"))
        assert caught.value.reason == "no-provider"

    run(story)


# --- a full disk, and a keyring that somebody put back ----------------------------------------------------------------


def test_a_log_without_space_leaves_everything_as_it_was() -> None:
    async def story() -> None:
        room = await KeyRoom().open()
        await room.seal(MODELS[0])
        before = room.keeper.vault.keyring
        room.keeper.journal.tight = True
        with pytest.raises(LogFullError):
            await room.rotate(MODELS[0])
        with pytest.raises(LogFullError):
            await room.keys.rotate_epoch(Digest.of(b"order"))
        with pytest.raises(LogFullError):
            # A publisher asks again and again: each try would leave a key that nothing stands under.
            room.keeper._active_kek(MODELS[1])
        assert room.keeper.vault.keyring == before
        assert Keyring.parse(room.keyrings.history[-1]) == before
        with pytest.raises(LogFullError):
            await room.keys.rotate_root(Digest.of(b"order"))
        room.check()
        room.keeper.journal.tight = False
        # The new root key stands already; it is recorded before another one is made.
        await room.keys.rotate_root(Digest.of(b"another order"))
        assert room.keeper.journal.ledger.keys.generation == room.keeper.vault.keyring.generation == 3
        await room.rotate(MODELS[0])
        await room.keys.rotate_epoch(Digest.of(b"order"))
        await room.reopen()
        room.check()

    run(story)


async def rotate_whole(room: KeyRoom) -> None:
    await room.rotate(MODELS[0])
    assert await room.move(MODELS[0])


ACTS: dict[str, Callable[[KeyRoom], Awaitable[object]]] = {
    "kek": rotate_whole,
    "epoch": lambda room: room.keys.rotate_epoch(Digest.of(b"order")),
    "root": lambda room: room.keys.rotate_root(Digest.of(b"order")),
    "model": lambda room: room.seal(MODELS[1]),
}


@pytest.mark.parametrize("act", ACTS)
def test_a_keyring_from_before_is_refused(act: str) -> None:
    async def story() -> None:
        room = await KeyRoom().open()
        await room.seal(MODELS[0])
        before = room.keyrings.history[-1]
        await ACTS[act](room)
        # Two acts later as well: what is one act ahead of the log is finished, what is behind it never.
        if act == "root":
            await room.keys.rotate_root(Digest.of(b"order 2"))
        room.keyrings.history.append(before)
        with pytest.raises(KeyringRolledBackError) as caught:
            await room.restart()
        assert caught.value.reason == "keyring-rolled-back"

    run(story)


def test_a_keyring_of_another_generation_doesnt_pass_by_its_number() -> None:
    async def story() -> None:
        room = await KeyRoom().open()
        await room.seal(MODELS[0])
        before = room.keeper.vault.keyring
        await room.keys.rotate_root(Digest.of(b"an order"))
        after = room.keeper.vault.keyring
        # The old root key, which left custodians have shares of; and a rotation that never happened.
        older = replace(before, generation=after.generation, authority=after.authority)
        never = replace(after, generation=after.generation + 1, authority=Digest.of(b"nobody's order"))
        for changed in (older, never, replace(after, authority=Digest.of(b"another's"))):
            room.keyrings.history.append(changed.to_bytes())
            with pytest.raises(WrapError):
                await room.restart()
        room.keyrings.history.append(after.to_bytes())
        await room.restart()

    run(story)


def test_a_destroyed_epoch_opens_nothing_of_old_copies() -> None:
    async def story() -> None:
        room = await Room().furnish()
        old = dict(room.records.files)
        await room.rotation().rotate_epoch(Digest.of(b"order"))
        assert room.keeper.journal.ledger.keys.epochs[1].state is KeyState.DESTROYED
        # A person's record from before, put back: its key stood under the epoch that is gone.
        room.records.files.update(old)
        await room.restart()
        assert not room.keeper.documents.vetting

    run(story)
