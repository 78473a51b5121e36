"""The purposes of the hierarchy, written once so that wrapping and unwrapping can't disagree."""

from __future__ import annotations

from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId, PersonId
from strongroom.keys.wrapping import KeyKind, WrapPurpose


def root_purpose(genesis: Digest) -> WrapPurpose:
    """The root key, wrapped by a provider outside the hierarchy."""
    return WrapPurpose(genesis=genesis, kind=KeyKind.ROOT, name="root", parent="provider")


def root_part_purpose(genesis: Digest, number: int) -> WrapPurpose:
    """One part of a root key that two providers hold, wrapped by provider ``number`` (1 or 2)."""
    return WrapPurpose(genesis=genesis, kind=KeyKind.ROOT_PART, name=str(number), parent=f"provider {number}")


def signing_purpose(genesis: Digest) -> WrapPurpose:
    """The keeper's own signing key, wrapped under the root key."""
    return WrapPurpose(genesis=genesis, kind=KeyKind.KEEPER_SIGNING, name="keeper", parent="root")


def epoch_purpose(genesis: Digest, epoch: int) -> WrapPurpose:
    """An epoch key, wrapped under the root key."""
    return WrapPurpose(genesis=genesis, kind=KeyKind.EPOCH, name=str(epoch), parent="root")


def kek_purpose(genesis: Digest, epoch: int, model: ModelId) -> WrapPurpose:
    """A model's key-encryption key, wrapped under an epoch key."""
    return WrapPurpose(genesis=genesis, kind=KeyKind.MODEL_KEK, name=model, parent=f"epoch {epoch}", model=model)


def data_purpose(genesis: Digest, model: ModelId, version: int, data_key_id: str) -> WrapPurpose:
    """The data key of one version, wrapped under its model's key-encryption key."""
    return WrapPurpose(
        genesis=genesis, kind=KeyKind.DATA, name=data_key_id, parent=f"kek {model}", model=model, version=version
    )


def record_purpose(genesis: Digest, epoch: int, person: PersonId) -> WrapPurpose:
    """The key of one person's vetting records, wrapped under an epoch key; destroyed when the person is erased."""
    return WrapPurpose(genesis=genesis, kind=KeyKind.PERSON_RECORD, name=person, parent=f"epoch {epoch}")
