"""The keyring as it lies in the keeper's own file: every key above the data keys, each wrapped under the one above it.

Root key -> epoch key -> a model's KEK; and root key -> the keeper's signing key. All are random, none is derived, so
each can be destroyed by itself. The file holds bytes and no states: which key may do what is in the log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.keys.hierarchy import Tree
from strongroom.keys.wrapping import WrappedKey

MAX_KEYRING: Final = 16 << 20
MAX_EPOCHS: Final = 1024
MAX_KEKS: Final = 32_768
"""About 10,000 models, each twice while an epoch is rotated, with some that are being rotated themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldEpoch:
    """An epoch key, wrapped under the root key of its tree."""

    epoch: int
    tree: Tree
    wrapped: WrappedKey

    @classmethod
    def read(cls, fields: Fields) -> HeldEpoch:
        """Read the JSON form."""
        with fields.child("wrapped") as wrapped:
            return cls(
                epoch=fields.integer("epoch", least=1),
                tree=fields.parsed("tree", Tree),
                wrapped=WrappedKey.read(wrapped),
            )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"epoch": self.epoch, "tree": self.tree.value, "wrapped": self.wrapped.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldKek:
    """A model's KEK, wrapped under an epoch key. While its epoch is rotated, it stands here under either."""

    kek: str
    model: ModelId
    epoch: int
    wrapped: WrappedKey

    @classmethod
    def read(cls, fields: Fields) -> HeldKek:
        """Read the JSON form."""
        with fields.child("wrapped") as wrapped:
            return cls(
                kek=fields.text("kek", max_length=64),
                model=fields.parsed("model", model_id),
                epoch=fields.integer("epoch", least=1),
                wrapped=WrappedKey.read(wrapped),
            )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"kek": self.kek, "model": self.model, "epoch": self.epoch, "wrapped": self.wrapped.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """What stands in the keeper's own file."""

    generation: int
    """Of the root keys, from 1."""
    authority: Digest | None
    """The order or request that the present generation rests on; None for the one that was founded."""
    roots: tuple[tuple[Tree, bytes], ...]
    """What the providers stored of each tree's root key (:mod:`strongroom.keys.split_root`)."""
    signing: WrappedKey
    epochs: tuple[HeldEpoch, ...]
    keks: tuple[HeldKek, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Keyring:
        """Read canonical bytes.

        :raises MalformedError: another form, no escrowed tree, or a key that stands here twice.
        """
        with Fields(decode(data, max_bytes=MAX_KEYRING), "keyring") as fields:
            fields.constant("v", 2)
            keyring = cls(
                generation=fields.integer("generation", least=1),
                authority=fields.digest("authority") if fields.optional("authority") else None,
                roots=fields.objects("roots", _root, most=len(Tree)),
                signing=_signing(fields),
                epochs=fields.objects("epochs", HeldEpoch.read, most=MAX_EPOCHS),
                keks=fields.objects("keks", HeldKek.read, most=MAX_KEKS),
            )
        keyring._check()
        return keyring

    def _check(self) -> None:
        trees = [tree for tree, _stored in self.roots]
        epochs = {held.epoch: held.tree for held in self.epochs}
        places = {(held.kek, held.epoch) for held in self.keks}
        if len(set(trees)) != len(trees) or len(epochs) != len(self.epochs) or len(places) != len(self.keks):
            raise MalformedError("the keyring holds a key twice")
        if Tree.ESCROWED not in trees or not set(epochs.values()) <= set(trees) or not epochs:
            raise MalformedError("the keyring lacks a root key or every epoch key")
        if not {held.epoch for held in self.keks} <= epochs.keys():
            raise MalformedError("the keyring holds a KEK under an epoch that it doesn't hold")

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 2,
                "generation": self.generation,
                "authority": None if self.authority is None else str(self.authority),
                "roots": [{"tree": tree.value, "stored": decode(stored)} for tree, stored in self.roots],
                "signing": self.signing.to_json(),
                "epochs": [held.to_json() for held in self.epochs],
                "keks": [held.to_json() for held in self.keks],
            }
        )

    def root(self, tree: Tree) -> bytes:
        """Return what is stored of a tree's root key.

        :raises MalformedError: there is no such tree here.
        """
        for one, stored in self.roots:
            if one is tree:
                return stored
        raise MalformedError(f"the keyring has no {tree.value} tree")

    def kek(self, name: str) -> HeldKek | None:
        """Return a KEK by its name, as it stands under its newest epoch."""
        return max((held for held in self.keks if held.kek == name), key=lambda held: held.epoch, default=None)

    def with_root(self, tree: Tree, stored: bytes) -> Keyring:
        """Return this keyring with a root key for a tree under which nothing stands."""
        return replace(self, roots=(*((one, before) for one, before in self.roots if one is not tree), (tree, stored)))

    def with_kek(self, held: HeldKek) -> Keyring:
        """Return this keyring with one more KEK."""
        return replace(self, keks=(*self.keks, held))

    def without_keks(self, names: Iterable[str]) -> Keyring:
        """Return this keyring without these KEKs, under whatever epoch they stand."""
        gone = frozenset(names)
        return replace(self, keks=tuple(held for held in self.keks if held.kek not in gone))

    def without_epochs(self, epochs: Iterable[int]) -> Keyring:
        """Return this keyring without these epochs and without what stands under them."""
        gone = frozenset(epochs)
        return replace(
            self,
            epochs=tuple(held for held in self.epochs if held.epoch not in gone),
            keks=tuple(held for held in self.keks if held.epoch not in gone),
        )


def _root(fields: Fields) -> tuple[Tree, bytes]:
    return fields.parsed("tree", Tree), encode(fields.value("stored"))


def _signing(fields: Fields) -> WrappedKey:
    with fields.child("signing") as signing:
        return WrappedKey.read(signing)
