"""Rotation: new KEKs, epochs and root keys, while releases go on.

Each act goes the same way, and a crash at any place is mended at the next start:

1 the new bytes are durable in the keyring; the old ones still stand there
2 the log says so, durably, and the log is pinned
3 what stood under the old key is moved
4 the old bytes are taken out of the keyring, durably
5 the log says that they are gone

A keyring that was planned is held only while the one that it was planned on still stands: no act, and no seal of a new
model, undoes another.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import Final

from strongroom.access.request import Request
from strongroom.audit.facts import MAX_LIST, Fact
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, DeniedError, LockedError, MalformedError, StrongroomError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.core.secret import SecretBytes
from strongroom.keeper.journal import Recorded
from strongroom.keeper.keyring import Keyring
from strongroom.keeper.reconciling import root_rotated
from strongroom.keeper.records import PersonRecords
from strongroom.keeper.service import Keeper
from strongroom.keeper.trees import TreeClosedError, require_open, tree_of
from strongroom.keeper.vault import Providers
from strongroom.keys.hierarchy import Tree
from strongroom.keys.wrapping import RandomBytes, WrapError
from strongroom.personnel.roster import Person
from strongroom.release.dossier import WrappedDataKey
from strongroom.release.key_ledger import DestroyedModel

PLANS: Final = 8
"""How often a keyring is planned beside the event loop before it is planned in it."""
MAX_KEPT: Final = 4
"""KEKs of one model that a hold keeps beside the active one. Without a bound the keyring might grow beyond its own."""
MAX_ROWS: Final = 256
"""Rows in one call: they are re-wrapped within a few milliseconds, in which nothing else is decided."""


class RotationUnfinishedError(ConflictError):
    """An earlier rotation of the same model isn't finished: data keys still stand under the KEK before."""

    code = "rotation-unfinished"


class Reached(StrEnum):
    """The places between an act's steps, for tests that end a keeper there."""

    HELD = "held"
    RECORDED = "recorded"
    MOVED = "moved"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrapped:
    """What came of rows: each as it is to be stored now, and the data keys that weren't seen under the new KEK yet."""

    rows: tuple[WrappedDataKey | None, ...]
    """None for a row that doesn't open, or whose data key the log doesn't know as this model's."""
    left: tuple[str, ...]
    retired: bool
    """Whether the KEK before is gone now."""


async def _nothing(_authority: Digest) -> None:
    """Stand in where nobody keeps shares."""


@dataclass(slots=True)
class Rotation:
    """The acts that give a deployment new keys. Bound to the keeper's event loop."""

    keeper: Keeper
    records: PersonRecords
    random_bytes: RandomBytes
    before_root: Callable[[int, SecretBytes, Digest], None] = lambda _generation, _root, _authority: None
    """Called with a new generation, its escrowed root key and what it rests on, before anything stands under it:
    whoever keeps shares makes new ones durable here, beside the old. It must not keep the key."""
    after_root: Callable[[Digest], Awaitable[None]] = _nothing
    """Called with what a new generation rests on, once it is in the log."""
    reached: Callable[[Reached], None] = lambda _place: None
    _seen: dict[ModelId, set[str]] = field(default_factory=dict)
    """Model -> data keys that the store showed under the new KEK. Lost at a restart: then they are shown again."""
    ordered: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while an order is examined and carried out."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while epochs or root keys are rotated: whoever hands out the present root key holds it too."""

    async def resume(self) -> None:
        """Finish what a crash cut short. Called once, after the keeper's start."""
        async with self.turn:
            keys = self.keeper.journal.ledger.keys
            for epoch in list(keys.living_epochs()):
                current = keys.current_epoch(escrowed=epoch.escrowed)
                # Of its own tree: another tree's first epoch follows nothing, and rests on nothing.
                if current is not None and current != epoch and current.authority is not None:
                    await self._end_epoch(epoch.epoch, current.authority)

    # --- a model's KEK ------------------------------------------------------------------------------------------------

    def rotate_kek(self, request: Request, name: Digest) -> asyncio.Future[Recorded]:
        """Give a model a new KEK, under a request that was decided just before; ``name`` is the request's digest.

        Its data keys are moved by :meth:`rewrap`. Where nothing keeps the KEK before but a hold, that one stays beside
        the new one, and so does what stands under it.

        :raises RotationUnfinishedError: the rotation before isn't finished, or a hold keeps too many KEKs.
        :raises DeniedError: the model has no KEK yet.
        :raises TreeClosedError: the tree that it stands in, or is to stand in, is closed.
        """
        keys = self.keeper.journal.ledger.keys
        before = keys.active(request.model)
        if before is None:
            raise DeniedError(f"`{request.model}` has no key that could be rotated", reason="no-kek")
        self._require_moved(request.model)
        # In the tree that the policy wants now: so a model goes into escrow, or out of it.
        tree = tree_of(self.keeper.documents.policy, request.model)
        for needed in (tree, Tree.of(escrowed=before.escrowed)):
            require_open(self.keeper.vault, needed, request.model)
        held, keyring = self.keeper.vault.plan_kek(request.model, tree, self.random_bytes)
        facts: dict[str, Fact] = {
            "request": name,
            "model": request.model,
            "kek": held.kek,
            "previous": before.kek,
            "epoch": held.epoch,
        }
        self._seen.pop(request.model, None)
        return self._begin(keyring, EventName.KEK_ROTATED, facts)

    def _require_moved(self, model: ModelId) -> None:
        ledger = self.keeper.journal.ledger
        before, hold = len(ledger.keys.previous(model)), ledger.precautions.hold(model)
        if not before:
            return
        left = set(ledger.keys.moving(model)) - self._seen.get(model, set())
        if hold is None or not left.isdisjoint(ledger.keys.registered.get(model, set())):
            raise RotationUnfinishedError(
                f"data keys of `{model}` still stand under the KEK before",
                remedy="wait until the broker moved them: strongroom key ls",
            )
        if before >= MAX_KEPT:
            raise RotationUnfinishedError(
                f"a hold keeps {before} KEKs of `{model}`, for data keys that were never registered; no more are kept",
                remedy="there is no other way than to have people lift it, by which those data keys are given up: "
                f"strongroom precaution lift {hold.name}",
            )

    async def rewrap(self, model: ModelId, rows: Sequence[WrappedDataKey], *, complete: bool) -> Rewrapped:
        """Wrap a model's data keys under its active KEK. Rows that came back under it count as moved.

        A row counts when the store shows it as it is now, and not when it is handed out: what a crash kept from being
        stored is shown again in its old form. Once all are seen, the KEK before is retired. A row that is refused
        keeps no other from being moved; its data key stays among those that are left.

        While a hold stands on the model no data key is given up, nor let go because another came first for its version:
        the KEKs before stay as long, for what was sealed under them may be evidence. Rotation goes on: what it takes
        away opens nothing that is in use, and a hold must not keep a stolen key in force.

        :param complete: the store has no row that wasn't shown since the last one was changed. A data key that is left
            then is given up if no version was registered under it: its row never came to be stored.
        :raises DeniedError: the model has no KEK.
        :raises LockedError: the keeper is locked.
        """
        self.keeper.require_unlocked()
        keys = self.keeper.journal.ledger.keys
        active = keys.active(model)
        if active is None:
            raise DeniedError(f"`{model}` has no key that could be rotated", reason="no-kek")
        moved: list[WrappedDataKey | None] = []
        seen = self._seen.setdefault(model, set())
        for row in rows:
            again = self._moved(model, row, active.kek)
            if again is row:
                seen.add(row.data_key)
            moved.append(again)
        left = tuple(name for name in keys.moving(model) if name not in seen)
        before = keys.previous(model)
        wanted = keys.registered.get(model, set())
        held = self._held(model)
        given_up = tuple(name for name in left if name not in wanted) if complete and not held else ()
        # The bound is that of one entry, which must also hold them all when a crash comes in between.
        fits = all(len(keys.unregistered(model, one.kek)) <= MAX_LIST for one in before)
        if not before or len(given_up) < len(left) or not fits or (held and keys.outrun.get(model)):
            return Rewrapped(rows=tuple(moved), left=left, retired=False)
        if not await self._retire(model, tuple(one.kek for one in before), given_up):
            # A version was registered meanwhile under one of them, so its row is still to come; or a hold was taken.
            return Rewrapped(rows=tuple(moved), left=left, retired=False)
        return Rewrapped(rows=tuple(moved), left=(), retired=True)

    def _held(self, model: ModelId) -> bool:
        return self.keeper.journal.ledger.precautions.hold(model) is not None

    def _moved(self, model: ModelId, row: WrappedDataKey, to: str) -> WrappedDataKey | None:
        ledger = self.keeper.journal.ledger
        if row.data_key not in ledger.keys.data_keys.get(model, {}):
            return None
        version = ledger.data_keys[row.data_key].version
        try:
            return self.keeper.vault.rewrap(model, version, row.data_key, row, to=to, random_bytes=self.random_bytes)
        except WrapError:
            return None

    async def _retire(self, model: ModelId, keks: tuple[str, ...], lost: tuple[str, ...]) -> bool:
        self.reached(Reached.MOVED)
        keyring, data = await self._planned(lambda: self.keeper.vault.keyring.without_keks(keks))
        keys = self.keeper.journal.ledger.keys
        previous = tuple(one.kek for one in keys.previous(model))
        if previous != keks:
            # Another call came first, or the model was destroyed; or it was rotated once more, and what was seen under
            # the KEK that was active is to be moved again.
            return not set(keks) <= set(previous)
        goes = bool(lost or keys.outrun.get(model))
        if not keys.registered.get(model, set()).isdisjoint(lost) or (goes and self._held(model)):
            return False
        self.keeper.require_unlocked()
        self.keeper.hold(keyring, data=data)
        self.reached(Reached.REMOVED)
        self._seen.pop(model, None)
        known, given_up = keys.data_keys.get(model, {}), {kek: list[str]() for kek in keks}
        for name in lost:
            # What was under one that a restored deployment lost goes with the first.
            given_up.get(known[name], given_up[keks[0]]).append(name)
        # All in one go: no version may be registered under what the next of them gives up.
        for kek, names in given_up.items():
            recording = self.keeper.record(EventName.KEK_RETIRED, {"model": model, "kek": kek, "lost": names})
        await self.keeper.pinned(recording)
        return True

    # --- the deployment's epochs and root keys ------------------------------------------------------------------------

    async def rotate_epoch(self, authority: Digest) -> Recorded:
        """Give every open tree a new epoch key, under an order or request that was examined just before.

        :raises LockedError: the keeper is locked.
        :raises UnavailableError: the keyring couldn't be written; nothing changed.
        """
        async with self.turn:
            self.keeper.require_unlocked()
            keys = self.keeper.journal.ledger.keys
            recorded = None
            for before in list(keys.living_epochs()):
                tree = Tree.of(escrowed=before.escrowed)
                if keys.current_epoch(escrowed=before.escrowed) != before or not self.keeper.vault.opens(tree):
                    continue
                number = len(keys.epochs) + 1
                planned, data = await self._planned(partial(self._epoch, tree, number))
                self.keeper.require_unlocked()
                keyring = _without_destroyed(planned, number, keys.destroyed)
                facts: dict[str, Fact] = {
                    "authority": authority,
                    "epoch": number,
                    "previous": before.epoch,
                    "models": len({held.model for held in keyring.keks if held.epoch == number}),
                }
                recorded = await self.keeper.pinned(
                    self._begin(keyring, EventName.EPOCH_ROTATED, facts, data if keyring == planned else None)
                )
                self.reached(Reached.RECORDED)
                await self._end_epoch(before.epoch, authority)
            if recorded is None:
                raise LockedError("no tree of keys is open", remedy="unlock the keeper with its key services")
            return recorded

    def _epoch(self, tree: Tree, number: int) -> Keyring:
        return self.keeper.vault.plan_epoch(tree, self.random_bytes, number=number)

    async def _planned(self, plan: Callable[[], Keyring]) -> tuple[Keyring, bytes]:
        """Plan a keyring and write it out beside the event loop: thousands of KEKs take longer than a release may wait.

        Whoever gets it holds it before awaiting anything.
        """
        for _ in range(PLANS):
            before = self.keeper.vault.keyring
            keyring = await asyncio.to_thread(plan)
            data = await asyncio.to_thread(keyring.to_bytes)
            if self.keeper.vault.keyring is before:
                return keyring, data
            # A model was sealed or rotated meanwhile: what was planned doesn't know its key.
        keyring = plan()
        return keyring, keyring.to_bytes()

    def _begin(
        self, keyring: Keyring, event: EventName, facts: dict[str, Fact], data: bytes | None = None
    ) -> asyncio.Future[Recorded]:
        return self.keeper.begin(keyring, event, facts, data=data, held=lambda: self.reached(Reached.HELD))

    async def _end_epoch(self, epoch: int, authority: Digest) -> None:
        ledger = self.keeper.journal.ledger
        people = {*ledger.vetting, *(person.id for person in self._roster())}
        for person in sorted(people):
            # A key that was changed opens nothing under either epoch: it mustn't keep the old one alive.
            with contextlib.suppress(WrapError, MalformedError):
                self.records.rewrap(person)
            # A release waits for one person's record at most.
            await asyncio.sleep(0)
        self.reached(Reached.MOVED)
        keyring, data = await self._planned(lambda: self.keeper.vault.keyring.without_epochs((epoch,)))
        self.keeper.require_unlocked()
        self.keeper.hold(keyring, data=data)
        self.reached(Reached.REMOVED)
        await self.keeper.record_pinned(EventName.EPOCH_DESTROYED, {"authority": authority, "epoch": epoch})

    def _roster(self) -> Iterable[Person]:
        roster = self.keeper.documents.roster
        return () if roster is None else roster.people

    async def found_tree(self, tree: Tree) -> None:
        """Make the root key of a tree that has none, and its first epoch. Does nothing where the tree is there.

        A crash in between leaves a root key, or an epoch, under which nothing stands: the next call goes on.

        :raises TreeClosedError: it is there, and closed.
        :raises LockedError: the keeper is locked, or no key service is at hand.
        :raises StrongroomError: a key service refused or isn't there; nothing changed.
        """
        async with self.turn:
            self.keeper.require_unlocked()
            keys, vault = self.keeper.journal.ledger.keys, self.keeper.vault
            if keys.current_epoch(escrowed=tree is Tree.ESCROWED) is not None:
                if not vault.opens(tree):
                    raise TreeClosedError(f"the {tree.value} tree of keys is closed")
                return
            if not vault.opens(tree):
                # Whatever is stored of such a root key, no epoch was ever recorded under it.
                root, stored = await asyncio.to_thread(self._providers().make, tree)
                try:
                    self.keeper.require_unlocked()
                    self.keeper.hold(vault.keyring.with_root(tree, stored), {tree: root})
                except StrongroomError:
                    root.wipe()
                    raise
            number = len(keys.epochs) + 1
            keyring = vault.plan_epoch(tree, self.random_bytes, number=number)
            facts: dict[str, Fact] = {"epoch": number, "escrowed": int(tree is Tree.ESCROWED)}
            await self.keeper.pinned(self._begin(keyring, EventName.EPOCH_CREATED, facts))
            self.reached(Reached.RECORDED)

    def _providers(self) -> Providers:
        providers = self.keeper.vault.providers
        if providers is None:
            raise LockedError(
                "no key service is at hand to hold another root key",
                reason="no-provider",
                remedy="the keeper was unlocked by shares: put the root key under a key service first",
            )
        return providers

    async def rotate_root(self, authority: Digest) -> Recorded:
        """Make new root keys under the same key services, and wrap everything that stood under the old ones anew.

        A tree that is closed stays as it is.

        :raises LockedError: the keeper is locked, or no key service is at hand.
        :raises TreeClosedError: a model of a closed tree was destroyed, and that isn't finished.
        :raises StrongroomError: a key service refused or isn't there; nothing changed.
        """
        async with self.turn:
            self.keeper.require_unlocked()
            providers = self._providers()
            held = self.keeper.vault.keyring
            if held.generation != self.keeper.journal.ledger.keys.generation:
                # The log took no entry when this generation was made.
                recorded = await self.keeper.record_pinned(EventName.ROOT_ROTATED, root_rotated(held))
                await self.after_root(authority)
                if held.authority == authority:
                    return recorded
            trees = [tree for tree, _stored in self.keeper.vault.keyring.roots if self.keeper.vault.opens(tree)]
            self._require_no_remains()
            made = {tree: await asyncio.to_thread(providers.make, tree) for tree in trees}
            self.keeper.require_unlocked()
            self.before_root(self.keeper.vault.keyring.generation + 1, made[Tree.ESCROWED][0], authority)
            keyring = self.keeper.vault.plan_roots(made, authority, self.random_bytes)
            self.keeper.hold(keyring, {tree: root for tree, (root, _stored) in made.items()})
            self.reached(Reached.HELD)
            recorded = await self.keeper.record_pinned(EventName.ROOT_ROTATED, root_rotated(keyring))
            self.reached(Reached.RECORDED)
            await self.after_root(authority)
            return recorded

    def _require_no_remains(self) -> None:
        # The log has one generation for all trees. Were a closed tree left out of the rotation that a destruction waits
        # for, its certificate would call a root key gone that isn't.
        ledger, vault = self.keeper.journal.ledger, self.keeper.vault
        for model in ledger.keys.destroyed:
            if model in ledger.destructions.certificates:
                continue
            for escrowed in ledger.keys.escrowed_of(model):
                require_open(vault, Tree.of(escrowed=escrowed), model)


def _without_destroyed(keyring: Keyring, epoch: int, destroyed: Mapping[ModelId, DestroyedModel]) -> Keyring:
    """Return a keyring without the KEKs of destroyed models under a new epoch.

    A model may be destroyed while the epoch is planned. It must not come under a key that stays: an old copy of this
    keyring would open it by that. Under the epoch before it stands on until its destruction is durable in the log.
    """
    kept = tuple(held for held in keyring.keks if held.epoch != epoch or held.model not in destroyed)
    return replace(keyring, keks=kept)
