"""Founding a deployment: root key, keeper's signing key, first epoch key, and the genesis that pins them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import UsageError
from strongroom.core.genesis import MAX_ROOT_KEYS, Genesis
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Ed25519Signer, PublicKey, Signer
from strongroom.keeper.keyring import Keyring
from strongroom.keeper.vault import new_keyring
from strongroom.keys.escrow import ESCROW_TYPE, Custodian, EscrowPlan, make_escrow
from strongroom.keys.wrapping import RandomBytes, new_key


@dataclass(frozen=True, slots=True)
class Founded:
    """What a new deployment's keeper keeps, and what everybody pins."""

    genesis: Genesis
    keyring: Keyring
    escrow: Envelope | None
    """Signed; None where nobody keeps shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceremony:
    """Who keeps the shares of the root key from the beginning, and the keeper's unlock key."""

    custodians: tuple[Custodian, ...]
    threshold: int
    unlock_key: PublicKey


def found(
    *,
    deployment: str,
    root_keys: Sequence[PublicKey],
    root_threshold: int,
    log_key: PublicKey,
    log_cosigner: bytes,
    at: Instant,
    random_bytes: RandomBytes,
    root_of: Callable[[Digest], tuple[SecretBytes, bytes]],
    ceremony: Ceremony | None = None,
) -> Founded:
    """Make the keys and the genesis. ``root_of``: genesis digest -> (new root key, what is stored of it).

    :raises UsageError: fewer than two root signatures would be needed, or a key is listed twice; or the custodians
        make no escrow.
    """
    if not 2 <= root_threshold <= len(root_keys) <= MAX_ROOT_KEYS or len(set(root_keys)) != len(root_keys):
        raise UsageError(
            f"{len(root_keys)} root keys with a threshold of {root_threshold} can't found a deployment",
            remedy="name at least two different root keys and a threshold of two: nobody may change the rules alone",
        )
    with new_key(random_bytes) as seed:
        signer = Ed25519Signer.from_seed(bytes(seed.reveal(TOKEN)))
        genesis = Genesis(
            deployment=deployment,
            created=at,
            root_keys=tuple(root_keys),
            root_threshold=root_threshold,
            keeper_key=signer.public_key,
            log_origin=f"strongroom/{deployment}",
            log_key=log_key,
            log_cosigner=log_cosigner,
        )
        Genesis.parse(genesis.to_bytes())
        root, stored = root_of(genesis.digest)
        with root:
            keyring = new_keyring(genesis.digest, root, stored, seed, random_bytes=random_bytes)
            return Founded(genesis, keyring, _escrow(root, genesis, ceremony, signer) if ceremony else None)


def _escrow(root: SecretBytes, genesis: Genesis, ceremony: Ceremony, signer: Signer) -> Envelope:
    plan = EscrowPlan(genesis=genesis.digest, threshold=ceremony.threshold, custodians=ceremony.custodians)
    escrow = make_escrow(root, plan, generation=1, unlock_key=ceremony.unlock_key, at=genesis.created)
    return sign(ESCROW_TYPE, escrow.to_bytes(), signer)
