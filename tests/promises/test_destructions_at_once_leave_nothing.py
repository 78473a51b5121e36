"""Models destroyed while other keys change: no copies of keyrings, put together, open them by today's root keys."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from strongroom.access.request import Action, Request
from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId
from strongroom.core.secret import SecretBytes
from strongroom.keeper.journal import LogPort
from strongroom.keeper.key_routes import KeyRoutes
from strongroom.keeper.keyring import Keyring
from strongroom.keeper.rotation import Reached, Rotation
from strongroom.keeper.service import Keeper
from strongroom.keeper.shredding import Shredded
from strongroom.keeper.trees import TreeClosedError
from strongroom.keys.hierarchy import Tree, epoch_purpose, kek_purpose
from strongroom.keys.wrapping import WrapError, unwrap
from strongroom.release.destruction import require_drawn_from, verify_certificate
from strongroom.release.dossier import Dossier
from support.deployment import MODEL
from support.shredding import DELAY, OTHER, CutShortError, ShreddingRoom, played

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration

PLACES = ("planned", *(place for place in (*Reached, *Shredded) if place not in {Reached.HELD, Reached.REMOVED}))
"""Where the second destruction is recorded. Between a keyring that is held and its record nothing comes."""


def opened_by_copies(here: ShreddingRoom) -> set[ModelId]:
    """Return the models whose KEK comes out of any copies of the keyring, put together, with the present root key."""
    genesis, roots = here.genesis.digest, here.keeper.vault._roots
    copies = [Keyring.parse(data) for data in here.keyrings.history]
    epochs: dict[int, SecretBytes] = {}
    for held in (one for copy in copies for one in copy.epochs):
        try:
            epochs[held.epoch] = unwrap(roots[held.tree], held.wrapped, epoch_purpose(genesis, held.tree, held.epoch))
        except WrapError:
            continue
    found = set()
    for kek in (one for copy in copies for one in copy.keks if one.epoch in epochs):
        try:
            unwrap(epochs[kek.epoch], kek.wrapped, kek_purpose(genesis, kek.epoch, kek.model, kek.kek)).wipe()
        except WrapError:
            continue
        found.add(kek.model)
    return found


async def durable(here: ShreddingRoom) -> None:
    """Wait until the log has everything that is queued."""
    if here.keeper.journal._worker is not None:
        await here.keeper.journal._worker


@pytest.mark.parametrize("place", PLACES)
@played
async def test_a_second_model_destroyed_meanwhile_leaves_no_copy(place: str) -> None:
    here = await ShreddingRoom().furnish()
    first, first_yes = await here.ask_to_destroy(MODEL), here.said_yes
    second = await here.ask_to_destroy(OTHER)
    here.clock.at += DELAY
    waiting = [second]

    def record(reached: str) -> None:
        if reached == place and waiting:
            asked = waiting.pop()
            here.shredding.destroy(Request.parse(asked.payload), asked.digest)

    here.shredding.reached = here.shredding.rotation.reached = record
    original = Rotation._planned

    async def planned(rotation: Rotation, plan: Callable[[], Keyring]) -> tuple[Keyring, bytes]:
        made = await original(rotation, plan)
        record("planned")
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rotation, "_planned", planned)
        await here.carry_out(first, first_yes)
        await here.shredding.finish()
    assert not waiting
    await durable(here)
    await here.shredding.finish()
    assert not here.shredding.unfinished()
    assert not opened_by_copies(here)
    for model in (MODEL, OTHER):
        told = verify_certificate(here.shredding.certificate(model), here.genesis)
        require_drawn_from(told, here.ledger(told.log_size))
        # The generation that is called gone is the last that wrapped the epoch's key.
        assert told.generation.index > told.epoch_destroyed > told.destroyed
    await here.restart()
    assert not here.shredding.unfinished()


@played
async def test_a_root_key_rotated_by_order_meanwhile_isn_t_the_one_that_goes() -> None:
    here = await ShreddingRoom().furnish()
    request = await here.ask_to_destroy()
    here.clock.at += DELAY
    await here.carry_out(request)
    await here.shredding.rotation.rotate_root(Digest.of(b"an order"))
    await here.shredding.finish()
    assert opened_by_copies(here) == {OTHER}
    told = verify_certificate(here.shredding.certificate(MODEL), here.genesis)
    require_drawn_from(told, here.ledger(told.log_size))
    assert told.generation.before == 2


@played
async def test_no_key_goes_before_the_log_has_its_destruction_durably() -> None:
    here = await ShreddingRoom().furnish()
    request = await here.ask_to_destroy()
    here.clock.at += DELAY
    here.shredding.destroy(Request.parse(request.payload), request.digest)
    before = len(here.keyrings.history)
    # A round that begins just now, because it is time for one, finds what isn't durable yet.
    await here.shredding.finish()
    assert len(here.keyrings.history) == before
    await durable(here)
    await here.shredding.finish()
    assert opened_by_copies(here) == {OTHER}


class TwoTreesRoom(ShreddingRoom):
    """A room whose first model stands in the tree that no share opens, and whose other one doesn't."""

    def __init__(self) -> None:
        super().__init__()
        self.terms = replace(self.terms, recoverable=False)

    def make_keeper(self, log: LogPort | None = None) -> Keeper:
        """Make a keeper that can found a tree."""
        keeper = super().make_keeper(log)
        keeper.found_tree = lambda tree: self.rotation().found_tree(tree)
        return keeper

    def close(self, tree: Tree) -> None:
        """Take a tree's root key away, as where its key service isn't there."""
        self.keeper.vault._roots.pop(tree).wipe()
        for held in self.keeper.vault.keyring.epochs:
            if held.tree is tree:
                self.keeper.vault._epochs.pop(held.epoch).wipe()


@pytest.mark.parametrize("left", range(1, 12))
@played
async def test_with_two_trees_it_ends_whole_wherever_the_keeper_dies(left: int) -> None:
    here = await TwoTreesRoom().furnish()
    request = await here.ask_to_destroy()
    here.clock.at += DELAY
    await here.carry_out(request)
    here.cut(left)
    with suppress(CutShortError):
        await here.shredding.finish()
    await here.restart()
    await here.shredding.finish()
    assert not here.shredding.unfinished()
    assert opened_by_copies(here) == {OTHER}
    assert here.opened(OTHER) == here.keys[OTHER]


@played
async def test_a_key_that_the_model_had_before_in_the_other_tree_goes_too() -> None:
    here = await TwoTreesRoom().furnish()
    held = next(held for held in here.keeper.vault.keyring.keks if held.model == MODEL)
    # The policy changed its mind: the next KEK stands in the tree of the others, the one before is in old copies.
    terms = replace(here.terms, recoverable=True)
    await here.next_policy(models=(terms, *here.policy.models[1:]))
    KeyRoutes(here.keeper, here.shredding.rotation, here.clock)
    await here.keeper.control(Dossier(request=await here.submit(Action.ROTATE)))
    done = await here.shredding.rotation.rewrap(MODEL, [here.rows[MODEL]], complete=False)
    assert done.rows[0] is not None
    assert (await here.shredding.rotation.rewrap(MODEL, [done.rows[0]], complete=True)).retired
    assert here.keeper.journal.ledger.keys.escrowed_of(MODEL) == {True, False}
    await here.destroyed()
    assert not here.keeper.vault.holds_epoch(held.epoch)
    assert opened_by_copies(here) == {OTHER}


@played
async def test_a_closed_tree_isn_t_left_out_of_the_rotation_that_a_destruction_waits_for() -> None:
    here = TwoTreesRoom()
    await here.furnish()
    request = await here.ask_to_destroy()
    here.clock.at += DELAY
    await here.carry_out(request)
    here.shredding.reached = dies_once_the_epoch_is_gone
    with pytest.raises(CutShortError):
        await here.shredding.finish()
    await here.restart()
    here.close(Tree.UNESCROWED)
    with pytest.raises(TreeClosedError):
        await here.shredding.rotation.rotate_root(Digest.of(b"an order"))
    with pytest.raises(TreeClosedError):
        await here.shredding.finish()
    await here.restart()
    await here.shredding.finish()
    assert opened_by_copies(here) == {OTHER}


def dies_once_the_epoch_is_gone(place: Shredded) -> None:
    if place is Shredded.EPOCH_GONE:
        raise CutShortError
