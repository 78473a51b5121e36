"""The keys that the unlocked keeper holds: root keys, epoch keys and its own signing key. Locking wipes them.

KEKs and data keys stay wrapped and are opened for the moment in which one is needed. The root keys stay here as well:
they are no more than the epoch keys beside them, and epochs rotate while releases go on.

A method called ``plan_...`` changes nothing: it returns the keyring as it would be. :meth:`Vault.take` takes one over,
once it is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from strongroom.core.digest import Digest
from strongroom.core.errors import LockedError, TamperedError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.secret import SecretBytes
from strongroom.keeper.keyring import HeldEpoch, HeldKek, Keyring
from strongroom.keys.hierarchy import Tree, data_purpose, epoch_purpose, kek_purpose, record_purpose, signing_purpose
from strongroom.keys.provider import WrappingProvider
from strongroom.keys.signing import SeedSigner
from strongroom.keys.wrapping import RandomBytes, WrapError, WrappedKey, new_key, unwrap, wrap
from strongroom.release.dossier import WrappedDataKey

KEY_ID_BYTES: Final = 16
T = TypeVar("T")
_UNLOCK: Final = "start it again: strongroom up"


class OtherGenesisError(TamperedError):
    """The genesis beside the deployment isn't the one that the keeper pinned, or that its keyring was made for."""

    code = "genesis-changed"


def new_keyring(
    genesis: Digest, root: SecretBytes, stored_root: bytes, signing_seed: SecretBytes, *, random_bytes: RandomBytes
) -> Keyring:
    """Make the first keyring: the signing key and epoch 1, wrapped under a fresh root key."""
    with new_key(random_bytes) as epoch:
        purpose = epoch_purpose(genesis, Tree.ESCROWED, 1)
        first = HeldEpoch(epoch=1, tree=Tree.ESCROWED, wrapped=wrap(root, epoch, purpose, random_bytes))
    return Keyring(
        generation=1,
        authority=None,
        roots=((Tree.ESCROWED, stored_root),),
        signing=wrap(root, signing_seed, signing_purpose(genesis, 1, None), random_bytes),
        epochs=(first,),
    )


def open_signing(genesis: Digest, keyring: Keyring, root: SecretBytes) -> SecretBytes:
    """Open the keeper's signing key: the proof that a root key is a keyring's, and the keyring of its generation.

    :raises WrapError: it isn't, or somebody changed what the keyring says of its generation.
    """
    return unwrap(root, keyring.signing, signing_purpose(genesis, keyring.generation, keyring.authority))


class Providers(Protocol):
    """The key services under which the root keys stand, as far as the vault needs them."""

    def make(self, tree: Tree) -> tuple[SecretBytes, bytes]:
        """Make another root key for a tree; returns it, and what is stored of it. Blocks as long as they take.

        :raises StrongroomError: one refused or isn't there.
        """
        ...

    def services(self) -> tuple[WrappingProvider, ...]:
        """Return them, each once."""
        ...

    def wipe(self) -> None:
        """Forget whatever opens a root key without asking a key service."""
        ...


class Vault:
    """The opened keyring. It takes the root keys over: whoever hands them in doesn't wipe them.

    A tree whose root key isn't among them is closed: nothing under it opens, and everything else does.
    """

    def __init__(
        self,
        genesis: Digest,
        keyring: Keyring,
        roots: Mapping[Tree, SecretBytes],
        providers: Providers | None = None,
    ) -> None:
        self.providers = providers
        """What can hold other root keys; None where custodians' shares opened this one."""
        self._genesis = genesis
        self._roots = dict(roots)
        self._epochs: dict[int, SecretBytes] = {}
        self.keyring = keyring
        seed = open_signing(genesis, keyring, self._root(Tree.ESCROWED))
        self._signer: SeedSigner | None = SeedSigner(seed)
        self.take(keyring)

    def require_keeper_of(self, genesis: Genesis) -> None:
        """Refuse, and lock, where the signing key isn't the one that a deployment's genesis names.

        :raises OtherGenesisError: it isn't.
        :raises LockedError: the keeper is locked.
        """
        if self.signer.public_key != genesis.keeper_key:
            self.lock()
            raise OtherGenesisError("the keyring's signing key isn't the one that the genesis names")

    @property
    def signer(self) -> SeedSigner:
        """The keeper's signing key.

        :raises LockedError: the keeper is locked, also when it was locked while an act waited for its record.
        """
        if self._signer is None:
            raise LockedError("the keeper is locked", remedy=_UNLOCK)
        return self._signer

    @property
    def epoch(self) -> int:
        """The newest epoch of the escrowed tree, under which new keys are wrapped.

        :raises LockedError: the keeper is locked.
        """
        return self.newest_epoch(Tree.ESCROWED)

    def newest_epoch(self, tree: Tree) -> int:
        """Return the newest open epoch of a tree.

        :raises LockedError: the keeper is locked, or the tree is closed.
        """
        open_ = [held.epoch for held in self.keyring.epochs if held.tree is tree and held.epoch in self._epochs]
        if not open_:
            raise LockedError(f"the keeper is locked, or its {tree.value} tree is", remedy=_UNLOCK)
        return max(open_)

    def opens(self, tree: Tree) -> bool:
        """Tell whether a tree's root key is here."""
        return tree in self._roots

    def holds_epoch(self, epoch: int) -> bool:
        """Tell whether an epoch stands in the keyring."""
        return any(held.epoch == epoch for held in self.keyring.epochs)

    def lock(self) -> None:
        """Wipe every root and epoch key and let go of the signing key: nothing is unwrapped or signed from here on."""
        if self._signer is not None:
            self._signer.wipe()
        self._signer = None
        if self.providers is not None:
            self.providers.wipe()
        for key in (*self._epochs.values(), *self._roots.values()):
            key.wipe()
        self._epochs.clear()
        self._roots.clear()

    def take(self, keyring: Keyring, roots: Mapping[Tree, SecretBytes] | None = None) -> None:
        """Hold another keyring from now on; ``roots`` are those of its root keys that are others than before.

        :raises WrapError: an epoch key doesn't open under its root key. Nothing changed then.
        :raises LockedError: the keeper is locked.
        """
        over = self._roots | dict(roots or {})
        if not over:
            raise LockedError("the keeper is locked", remedy=_UNLOCK)
        opened: dict[int, SecretBytes] = {}
        for held in keyring.epochs:
            # Those that are open already are the same keys under the same numbers: a number is given once.
            if held.tree in over and (held.epoch not in self._epochs or held.tree in (roots or {})):
                purpose = epoch_purpose(self._genesis, held.tree, held.epoch)
                opened[held.epoch] = unwrap(over[held.tree], held.wrapped, purpose)
        kept = {held.epoch for held in keyring.epochs}
        for number in [number for number in self._epochs if number not in kept or number in opened]:
            self._epochs.pop(number).wipe()
        self._epochs |= opened
        if roots is not None:
            for tree, root in self._roots.items():
                if over.get(tree) is not root:
                    root.wipe()
            self._roots = over
        self.keyring = keyring

    # --- KEKs and data keys -------------------------------------------------------------------------------------------

    def plan_kek(self, model: ModelId, tree: Tree, random_bytes: RandomBytes) -> tuple[HeldKek, Keyring]:
        """Make a KEK for a model. Returns it, and the keyring that holds it.

        :raises LockedError: the keeper is locked, or the tree is closed.
        """
        epoch, name = self.newest_epoch(tree), random_bytes(KEY_ID_BYTES).hex()
        with new_key(random_bytes) as kek:
            purpose = kek_purpose(self._genesis, epoch, model, name)
            wrapped = wrap(self._epoch_key(epoch), kek, purpose, random_bytes)
        held = HeldKek(kek=name, model=model, epoch=epoch, wrapped=wrapped)
        return held, self.keyring.with_kek(held)

    def create(
        self, model: ModelId, version: int, kek: str, random_bytes: RandomBytes
    ) -> tuple[SecretBytes, WrappedDataKey]:
        """Make a data key for a version, under a KEK of its model.

        :raises WrapError: the keyring has no such KEK of this model.
        :raises LockedError: the keeper is locked.
        """
        name = random_bytes(KEY_ID_BYTES).hex()
        with self._kek(model, kek) as wrapping_key:
            data_key = new_key(random_bytes)
            purpose = data_purpose(self._genesis, model, version, name, kek)
            data = wrap(wrapping_key, data_key, purpose, random_bytes)
        return data_key, WrappedDataKey(data_key=name, kek=kek, data=data)

    def open(self, model: ModelId, version: int, data_key_id: str, wrapped: WrappedDataKey) -> SecretBytes:
        """Unwrap the data key of a version. ``data_key_id`` is what the log says, not what the row says.

        :raises WrapError: the row holds another key, model or version, or its KEK isn't in the keyring (any more).
        :raises LockedError: the keeper is locked.
        """
        with self._kek(model, wrapped.kek) as kek:
            return unwrap(kek, wrapped.data, data_purpose(self._genesis, model, version, data_key_id, wrapped.kek))

    def rewrap(
        self,
        model: ModelId,
        version: int,
        data_key_id: str,
        wrapped: WrappedDataKey,
        *,
        to: str,
        random_bytes: RandomBytes,
    ) -> WrappedDataKey:
        """Wrap a data key under another KEK of its model; one that stands under it already is opened and returned.

        :raises WrapError: as :meth:`open`.
        :raises LockedError: the keeper is locked.
        """
        with self.open(model, version, data_key_id, wrapped) as data_key:
            if wrapped.kek == to:
                return wrapped
            with self._kek(model, to) as kek:
                purpose = data_purpose(self._genesis, model, version, data_key_id, to)
                return WrappedDataKey(data_key=data_key_id, kek=to, data=wrap(kek, data_key, purpose, random_bytes))

    # --- epochs and roots ---------------------------------------------------------------------------------------------

    def plan_epoch(self, tree: Tree, random_bytes: RandomBytes, *, number: int) -> Keyring:
        """Make an epoch key, and wrap every KEK of the tree's newest epoch under it. What stands there stays.

        With thousands of KEKs this takes a while; another thread may take another keyring over meanwhile.

        :param number: of the new epoch, as the log has it: the next that was never given.
        :raises LockedError: the keeper is locked, or the tree is closed.
        :raises WrapError: a KEK of the keyring doesn't open.
        """
        keyring, moved = self.keyring, []
        with new_key(random_bytes) as key:
            purpose = epoch_purpose(self._genesis, tree, number)
            held = HeldEpoch(epoch=number, tree=tree, wrapped=wrap(self._root(tree), key, purpose, random_bytes))
            before = {one.epoch for one in keyring.epochs if one.tree is tree}
            for one in keyring.keks:
                if one.epoch in before:
                    with self._open_kek(one) as kek:
                        again = kek_purpose(self._genesis, number, one.model, one.kek)
                        moved.append(replace(one, epoch=number, wrapped=wrap(key, kek, again, random_bytes)))
        return replace(keyring, epochs=(*keyring.epochs, held), keks=(*keyring.keks, *_once(moved)))

    def plan_roots(
        self, roots: Mapping[Tree, tuple[SecretBytes, bytes]], authority: Digest, random_bytes: RandomBytes
    ) -> Keyring:
        """Wrap everything that stands under the root keys under new ones: the next generation.

        What stands in a closed tree stays as it is: no share and no key package ever opened it.

        :param roots: for every open tree, the new root key and what its providers stored of it.
        :raises LockedError: the keeper is locked, or an open tree isn't among them.
        """
        if self._roots.keys() != roots.keys():
            raise LockedError("the root keys of every open tree must be there to be replaced", remedy=_UNLOCK)
        generation = self.keyring.generation + 1
        with open_signing(self._genesis, self.keyring, self._root(Tree.ESCROWED)) as seed:
            purpose = signing_purpose(self._genesis, generation, authority)
            signing = wrap(roots[Tree.ESCROWED][0], seed, purpose, random_bytes)
        epochs = []
        for held in self.keyring.epochs:
            if held.tree not in roots:
                epochs.append(held)
                continue
            purpose = epoch_purpose(self._genesis, held.tree, held.epoch)
            key = self._epoch_key(held.epoch)
            epochs.append(replace(held, wrapped=wrap(roots[held.tree][0], key, purpose, random_bytes)))
        return replace(
            self.keyring,
            generation=generation,
            authority=authority,
            roots=tuple((tree, roots[tree][1] if tree in roots else stored) for tree, stored in self.keyring.roots),
            signing=signing,
            epochs=tuple(epochs),
        )

    # --- people's records ---------------------------------------------------------------------------------------------

    def new_record_key(self, person: PersonId, random_bytes: RandomBytes) -> tuple[SecretBytes, int, WrappedKey]:
        """Make the key of a person's vetting records; returns it, the epoch that wraps it, and its wrapped form.

        :raises LockedError: the keeper is locked.
        """
        key = new_key(random_bytes)
        epoch, wrapped = self.wrap_record_key(person, key, random_bytes)
        return key, epoch, wrapped

    def wrap_record_key(self, person: PersonId, key: SecretBytes, random_bytes: RandomBytes) -> tuple[int, WrappedKey]:
        """Wrap the key of a person's vetting records under the newest epoch; returns that, and the wrapped form.

        :raises LockedError: the keeper is locked.
        """
        epoch = self.epoch
        purpose = record_purpose(self._genesis, epoch, person)
        return epoch, wrap(self._epoch_key(epoch), key, purpose, random_bytes)

    def open_record_key(self, person: PersonId, epoch: int, wrapped: WrappedKey) -> SecretBytes:
        """Unwrap the key of a person's vetting records.

        :raises WrapError: it is another person's, was changed, or its epoch is gone.
        :raises LockedError: the keeper is locked.
        """
        return unwrap(self._epoch_key(epoch), wrapped, record_purpose(self._genesis, epoch, person))

    # --- inside -------------------------------------------------------------------------------------------------------

    def share_root(self, act: Callable[[SecretBytes], T]) -> T:
        """Call ``act`` with the root key that custodians hold shares of; it must not keep it.

        :raises LockedError: the keeper is locked.
        """
        self.require_unlocked()
        return act(self._root(Tree.ESCROWED))

    def _kek(self, model: ModelId, name: str) -> SecretBytes:
        self.require_unlocked()
        held = self.keyring.kek(name)
        if held is None or held.model != model:
            raise WrapError(
                f"the keyring holds no such KEK of `{model}`",
                remedy="the stored row is older than the KEK's last rotation, or another model's",
            )
        return self._open_kek(held)

    def _open_kek(self, held: HeldKek) -> SecretBytes:
        purpose = kek_purpose(self._genesis, held.epoch, held.model, held.kek)
        return unwrap(self._epoch_key(held.epoch), held.wrapped, purpose)

    def _epoch_key(self, epoch: int) -> SecretBytes:
        self.require_unlocked()
        try:
            return self._epochs[epoch]
        except KeyError:
            raise WrapError(f"the keyring has no key of epoch {epoch}, or its tree is closed") from None

    def _root(self, tree: Tree) -> SecretBytes:
        try:
            return self._roots[tree]
        except KeyError:
            raise LockedError(f"the keeper is locked, or its {tree.value} tree is", remedy=_UNLOCK) from None

    def require_unlocked(self) -> None:
        """Refuse when the keys were wiped.

        :raises LockedError: they were.
        """
        if not self._epochs:
            raise LockedError("the keeper is locked", remedy=_UNLOCK)


def _once(moved: list[HeldKek]) -> tuple[HeldKek, ...]:
    return tuple({held.kek: held for held in moved}.values())
