"""Targets of escrow: what a custodian reads, and what a locked keeper reads from whoever reaches it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Ed25519Signer
from strongroom.keys.escrow import Custodian, Escrow, EscrowPlan, SealedShare
from strongroom.keys.slip39 import padded, read_share
from strongroom.keys.unlocking import UnlockAnswer, UnlockOffer

_KEY: Final = Ed25519Signer.from_seed(bytes(32))
_DIGEST: Final = Digest.of(b"")
_WORDS: Final = (
    b"domain therapy academic acne acquire pile holiday guest wits cricket arena wildlife space recall timely analysis "
    b"dish furl modern unwrap champion alive adjust shaped grownup spew maiden humidity disease main daisy river "
    b"aluminum"
)


def _custodians() -> tuple[Custodian, ...]:
    keys = [Ed25519Signer.from_seed(bytes([number]) * 32).public_key for number in (1, 2)]
    return tuple(
        Custodian(person=PersonId(name), key=key, recipient=name.encode() * 1216)
        for name, key in zip(("a", "b"), keys, strict=True)
    )


def _escrows() -> Iterable[bytes]:
    shares = tuple(
        SealedShare(number=number, custodian=one, proof=_DIGEST, sealed=bytes(16))
        for number, one in enumerate(_custodians(), 1)
    )
    yield Escrow(
        genesis=_DIGEST, generation=1, threshold=2, made=0, unlock_key=_KEY.public_key, shares=shares
    ).to_bytes()


def _plans() -> Iterable[bytes]:
    yield EscrowPlan(genesis=_DIGEST, threshold=2, custodians=_custodians()).to_bytes()


def _cards() -> Iterable[bytes]:
    yield Custodian(person=PersonId("a"), key=_KEY.public_key, recipient=bytes(1216)).card(_KEY).to_bytes()


def _offers() -> Iterable[bytes]:
    for providers in ((), ("local:",)):
        yield UnlockOffer(
            genesis=_DIGEST,
            escrow=_DIGEST,
            generation=1,
            recipient=bytes(1216),
            made=0,
            expires=3600,
            unlock_key=_KEY.public_key,
            providers=providers,
        ).to_bytes()


def _answers() -> Iterable[bytes]:
    yield UnlockAnswer(offer=_DIGEST, escrow=_DIGEST, person=PersonId("a"), number=1, sealed=bytes(16)).to_bytes()


def _again(data: bytes, parsed: Escrow | EscrowPlan | UnlockOffer | UnlockAnswer) -> None:
    # One object has one sequence of bytes: a digest of it can't be had in two ways.
    if parsed.to_bytes() != data:
        raise AssertionError


ESCROW: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "escrow": Target(read=lambda data: _again(data, Escrow.parse(data)), seeds=_escrows, longest=16384),
        "escrow-plan": Target(read=lambda data: _again(data, EscrowPlan.parse(data)), seeds=_plans, longest=8192),
        "custodian-card": Target(read=lambda data: Custodian.of_card(Envelope.parse(data)), seeds=_cards, longest=8192),
        "unlock-offer": Target(read=lambda data: _again(data, UnlockOffer.parse(data)), seeds=_offers, longest=8192),
        "unlock-answer": Target(read=lambda data: _again(data, UnlockAnswer.parse(data)), seeds=_answers),
        "share-words": Target(
            read=lambda data: read_share(padded(SecretBytes(bytearray(data)))), seeds=lambda: [_WORDS]
        ),
    }
)
