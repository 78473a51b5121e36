"""A model that the policy calls irrecoverable stands in no share and no key package; everything else isn't held up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NoReturn

import pytest

from strongroom.access.request import Action
from strongroom.audit.facts import Fact
from strongroom.core.digest import Digest
from strongroom.core.errors import DeniedError
from strongroom.core.events import EventName
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.keeper import trees
from strongroom.keeper.key_routes import KeyRoutes
from strongroom.keeper.keyring import Keyring
from strongroom.keeper.package import KeyPackage
from strongroom.keeper.reconciling import KeyringRolledBackError, reconcile
from strongroom.keeper.restoring import fit
from strongroom.keeper.rotation import Reached
from strongroom.keeper.trees import TreeClosedError
from strongroom.keeper.vault import Vault
from strongroom.keys.hierarchy import Tree
from strongroom.keys.states import KeyState
from strongroom.release.dossier import Dossier
from strongroom.release.steps import ReleaseRefusedError
from support.deployment import MODEL
from support.room import Room, found_room, unlocked
from support.shredding import OTHER, ShreddingRoom

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration

ORDER = Digest.of(b"an order")


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def inside() -> None:
        await story()

    asyncio.run(inside())


class ApartRoom(ShreddingRoom):
    """A room whose first model is irrecoverable, and whose other one isn't."""

    def __init__(self) -> None:
        super().__init__(found_room())
        self.terms = replace(self.terms, recoverable=False)

    def make_keeper(self, *arguments: object) -> object:  # type: ignore[override]
        """Make a keeper that can found a tree."""
        self.keeper = super().make_keeper(*arguments)  # type: ignore[arg-type]
        self.keeper.found_tree = lambda tree: self.rotation().found_tree(tree)
        return self.keeper


def packed(room: Room) -> Keyring:
    """Return the keyring as custodians have it: parsed again, without the tree that is in no escrow."""
    package = KeyPackage.of(room.genesis, room.keeper.vault.keyring, None)
    return KeyPackage.parse(package.to_bytes()).keyring


def closed(room: Room) -> None:
    """Take the unescrowed root key away, as where the keeper was unlocked by shares or its key service is gone."""
    whole = unlocked(room.founded, room.keeper.vault.keyring)
    root = whole.share_root(lambda key: SecretBytes(bytearray(key.reveal(TOKEN))))
    room.keeper.vault = Vault(room.genesis.digest, whole.keyring, {Tree.ESCROWED: root})


def test_its_keys_stand_apart_and_open() -> None:
    async def story() -> None:
        room = await ApartRoom().furnish()
        keys = room.keeper.journal.ledger.keys
        apart, shared = keys.active(MODEL), keys.active(OTHER)
        assert apart is not None
        assert shared is not None
        assert (apart.escrowed, shared.escrowed) == (False, True)
        assert [*trees.irrecoverable(keys)] == [MODEL]
        assert {epoch.escrowed: epoch.epoch for epoch in keys.living_epochs()} == {True: 1, False: 2}
        await room.release(await room.ask())
        await room.restart()
        await room.release(await room.ask())
        assert trees.closed(room.keeper.journal.ledger.keys, room.keeper.vault) == ()

    run(story)


def test_the_root_key_in_shares_opens_nothing_of_it() -> None:
    async def story() -> None:
        room = await ApartRoom().furnish()
        wanted = await room.ask(max_uses=5)
        closed(room)
        assert trees.closed(room.keeper.journal.ledger.keys, room.keeper.vault) == (MODEL,)
        with pytest.raises(ReleaseRefusedError) as caught:
            await room.release(wanted)
        assert caught.value.reason == "tree-closed"
        assert room.opened(OTHER) == room.keys[OTHER]
        # Nor is another key made for it, in whichever tree; the other models' go on.
        with pytest.raises(TreeClosedError):
            room.keeper._active_kek(MODEL)
        assert room.keeper._active_kek(OTHER)

    run(story)


def test_no_key_package_has_it_and_a_keeper_starts_with_one() -> None:
    async def story() -> None:
        room = await ApartRoom().furnish()
        keys = room.keeper.journal.ledger.keys
        keyring = packed(room)
        assert MODEL not in {held.model for held in keyring.keks}
        assert [tree for tree, _stored in keyring.roots] == [Tree.ESCROWED]
        assert reconcile(keyring, keys, held=lambda _model: False).records == ()
        # A keyring that lacks a key of the tree that it has is an older one as ever.
        everything = {held.kek for held in room.keeper.vault.keyring.keks}
        with pytest.raises(KeyringRolledBackError):
            reconcile(room.keeper.vault.keyring.without_keks(everything), keys, held=lambda _model: False)
        whole = room.keyrings.history[-1]
        room.keyrings.history.append(keyring.to_bytes())
        await room.restart()
        assert trees.closed(room.keeper.journal.ledger.keys, room.keeper.vault) == (MODEL,)
        with pytest.raises(TreeClosedError):
            room.keeper._active_kek(MODEL)
        # The newest keyring of the machine itself, found again, brings the model back.
        room.keyrings.history.append(whole)
        await room.restart()
        await room.release(await room.ask())

    run(story)


def test_a_restored_deployment_names_it_as_lost() -> None:
    async def story() -> None:
        room = await ApartRoom().furnish()
        fitted = fit(packed(room), room.keeper.journal.ledger.keys)
        assert fitted.models == (MODEL,)
        (lost,) = fitted.lost
        facts: dict[str, Fact] = {"order": ORDER, "backup": Digest.of(b"backup"), "size": 1, "lost": (lost,)}
        await room.keeper.record(EventName.DEPLOYMENT_RESTORED, facts)
        room.keyrings.history.append(fitted.keyring.to_bytes())
        await room.keeper.record(EventName.EPOCH_DESTROYED, {"authority": ORDER, "epoch": 2})
        await room.restart()
        assert trees.lost(room.keeper.journal.ledger.keys) == (MODEL,)
        with pytest.raises(DeniedError) as caught:
            room.keeper._active_kek(MODEL)
        assert caught.value.reason == "kek-lost"

    run(story)


def test_a_rotation_moves_a_model_out_of_escrow_and_back() -> None:
    async def story() -> None:
        room = await ApartRoom().furnish()
        routes = KeyRoutes(room.keeper, room.rotation(), room.clock)
        for recoverable in (True, False):
            (_first, other) = room.policy.models
            await room.next_policy(models=(replace(room.terms, recoverable=recoverable), other))
            keys = room.keeper.journal.ledger.keys
            before = keys.active(MODEL)
            # Until it is rotated it stays where it was: nothing moves by itself.
            assert before is not None
            assert before.escrowed is not recoverable
            await room.keeper.control(Dossier(request=await room.submit(Action.ROTATE)))
            after = keys.active(MODEL)
            assert after is not None
            assert after.escrowed is recoverable
            assert room.wrapped is not None
            moved = await routes._rotation.rewrap(MODEL, (room.wrapped,), complete=False)
            (room.wrapped,) = moved.rows
            assert room.wrapped is not None
            assert (await routes._rotation.rewrap(MODEL, (room.wrapped,), complete=False)).retired
            await room.release(await room.ask())
            assert (MODEL in {held.model for held in packed(room).keks}) is recoverable

    run(story)


def test_it_is_rotated_with_the_others_and_left_alone_while_it_is_closed() -> None:
    async def story() -> None:
        room = await ApartRoom().furnish()
        rotation = room.rotation()
        await rotation.rotate_epoch(ORDER)
        await rotation.rotate_root(Digest.of(b"another order"))
        wanted = await room.ask(max_uses=9)
        await room.release(wanted)
        keyring = room.keeper.vault.keyring
        assert {tree for tree, _stored in keyring.roots} == {Tree.ESCROWED, Tree.UNESCROWED}
        assert keyring.generation == 2
        # Closed: the root key of the others is replaced, and what is closed still opens under its own one.
        made = unlocked(room.founded, keyring).providers
        closed(room)
        room.keeper.vault.providers = made
        await room.rotation().rotate_root(Digest.of(b"a third order"))
        after = room.keeper.vault.keyring
        assert after.generation == 3
        assert after.root(Tree.UNESCROWED) == keyring.root(Tree.UNESCROWED)
        assert after.root(Tree.ESCROWED) != keyring.root(Tree.ESCROWED)
        await room.restart()
        await room.release(wanted)

    run(story)


def test_it_is_destroyed_as_any_and_its_certificate_names_no_share() -> None:
    async def story() -> None:
        room = await ApartRoom().furnish()
        old = [Keyring.parse(data) for data in room.keyrings.history]
        await room.destroyed()
        certificate = room.shredding.certificate(MODEL)
        assert b'"escrowed":false' in certificate.payload
        assert b"custodian-share" not in certificate.payload
        assert MODEL not in {held.model for held in room.keeper.vault.keyring.keks}
        assert any(MODEL in {held.model for held in keyring.keks} for keyring in old)
        assert room.opened(OTHER) == room.keys[OTHER]

    run(story)


class KilledError(Exception):
    """The process was killed here."""


@pytest.mark.parametrize("place", ["root held", Reached.HELD, Reached.RECORDED])
def test_a_crash_while_its_tree_is_made_is_mended(place: str) -> None:
    async def story() -> None:
        room = ApartRoom()
        make = room.rotation

        def dies(reached: Reached) -> None:
            if reached == place:
                raise KilledError

        rotation = make()
        rotation.reached = dies
        await room.keeper.start()
        if place == "root held":
            room.keeper.vault.plan_epoch = dies_at_once  # type: ignore[method-assign]
        with pytest.raises(KilledError):
            await rotation.found_tree(Tree.UNESCROWED)
        await room.restart()
        await room.rotation().found_tree(Tree.UNESCROWED)
        await room.rotation().found_tree(Tree.UNESCROWED)
        await room.restart()
        epochs = room.keeper.journal.ledger.keys.epochs.values()
        assert [(one.epoch, one.escrowed, one.state) for one in epochs] == [
            (1, True, KeyState.ACTIVE),
            (2, False, KeyState.ACTIVE),
        ]
        assert room.keeper.vault.opens(Tree.UNESCROWED)

    run(story)


def dies_at_once(*_arguments: object, **_named: object) -> NoReturn:
    raise KilledError
