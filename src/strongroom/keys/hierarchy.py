"""The purposes of the hierarchy, written once so that wrapping and unwrapping can't disagree."""

from __future__ import annotations

from enum import StrEnum

from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId, PersonId
from strongroom.keys.wrapping import KeyKind, WrapPurpose


class Tree(StrEnum):
    """Which root key a key stands under. Custodians hold shares of the one; of the other, nobody does."""

    ESCROWED = "escrowed"
    UNESCROWED = "unescrowed"

    @classmethod
    def of(cls, *, escrowed: bool) -> Tree:
        """Return the tree of a key, by what the log says of it."""
        return cls.ESCROWED if escrowed else cls.UNESCROWED


def root_purpose(genesis: Digest) -> WrapPurpose:
    """The root key, wrapped by a provider outside the hierarchy."""
    return WrapPurpose(genesis=genesis, kind=KeyKind.ROOT, name="root", parent="provider")


def root_part_purpose(genesis: Digest, number: int) -> WrapPurpose:
    """One part of a root key that two providers hold, wrapped by provider ``number`` (1 or 2)."""
    return WrapPurpose(genesis=genesis, kind=KeyKind.ROOT_PART, name=str(number), parent=f"provider {number}")


def signing_purpose(genesis: Digest, generation: int, authority: Digest | None) -> WrapPurpose:
    """The keeper's own signing key, wrapped under the root key of a generation, which rests on ``authority``.

    So an older keyring doesn't pass for a newer one by another number, nor does a rotation that never happened.
    """
    parent = f"root {generation} by {'genesis' if authority is None else authority}"
    return WrapPurpose(genesis=genesis, kind=KeyKind.KEEPER_SIGNING, name="keeper", parent=parent)


def epoch_purpose(genesis: Digest, tree: Tree, epoch: int) -> WrapPurpose:
    """An epoch key, wrapped under its tree's root key."""
    return WrapPurpose(genesis=genesis, kind=KeyKind.EPOCH, name=str(epoch), parent=f"root {tree.value}")


def kek_purpose(genesis: Digest, epoch: int, model: ModelId, kek: str) -> WrapPurpose:
    """A model's key-encryption key ``kek``, wrapped under an epoch key."""
    return WrapPurpose(genesis=genesis, kind=KeyKind.MODEL_KEK, name=kek, parent=f"epoch {epoch}", model=model)


def data_purpose(genesis: Digest, model: ModelId, version: int, data_key_id: str, kek: str) -> WrapPurpose:
    """The data key of one version, wrapped under its model's key-encryption key ``kek``."""
    return WrapPurpose(
        genesis=genesis, kind=KeyKind.DATA, name=data_key_id, parent=f"kek {kek}", model=model, version=version
    )


def record_purpose(genesis: Digest, epoch: int, person: PersonId) -> WrapPurpose:
    """The key of one person's vetting records, wrapped under an epoch key; destroyed when the person is erased."""
    return WrapPurpose(genesis=genesis, kind=KeyKind.PERSON_RECORD, name=person, parent=f"epoch {epoch}")
