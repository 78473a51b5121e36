"""Custodians and their escrows, for tests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.core.digest import Digest
from strongroom.core.ids import PersonId
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Ed25519Signer
from strongroom.keys.escrow import Custodian, Escrow, EscrowPlan, make_escrow
from strongroom.keys.recipient import IDENTITY_BYTES, RecipientIdentity

AT = 1_700_000_000
NAMES = ("ada", "bo", "cy", "dee", "eve", "fay")
GENESIS = Digest.of(b"an escrow's genesis")


@dataclass(frozen=True)
class Holder:
    """A custodian with their private halves."""

    signer: Ed25519Signer
    identity: RecipientIdentity
    custodian: Custodian


def holder(name: str) -> Holder:
    signer = Ed25519Signer.from_seed(Digest.of(name.encode()).value)
    identity = RecipientIdentity(SecretBytes(bytearray(os.urandom(IDENTITY_BYTES))))
    return Holder(signer, identity, Custodian(person=PersonId(name), key=signer.public_key, recipient=identity.public))


def holders(count: int) -> tuple[Holder, ...]:
    return tuple(holder(name) for name in NAMES[:count])


def secret(data: bytes) -> SecretBytes:
    return SecretBytes(bytearray(data))


def seen(held: SecretBytes) -> bytes:
    return bytes(held.reveal(TOKEN))


UNLOCK = Ed25519Signer.from_seed(bytes(32))


def escrow_of(held: Sequence[Holder], threshold: int, *, root: bytes = bytes(range(32)), generation: int = 1) -> Escrow:
    plan = EscrowPlan(genesis=GENESIS, threshold=threshold, custodians=tuple(one.custodian for one in held))
    return make_escrow(secret(root), plan, generation=generation, unlock_key=UNLOCK.public_key, at=AT)
