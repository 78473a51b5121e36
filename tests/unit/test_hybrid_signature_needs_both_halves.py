"""A hybrid signature holds only whole: one half, halves of two keys, or a half by itself are no signature."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.signature import (
    ED25519_SIGNATURE_BYTES,
    HYBRID_KEY_BYTES,
    HYBRID_SIGNATURE_BYTES,
    MAX_KEY_TEXT,
    Ed25519Signer,
    HybridSigner,
    PublicKey,
    SignatureAlgorithm,
    SignatureError,
)

SEED = bytes(range(32))
SIGNER, OTHER = HybridSigner.from_seed(SEED), HybridSigner.from_seed(b"o" * 32)
KEY = SIGNER.public_key
MESSAGE = b"message"
LABEL = b"strongroom ed25519-ml-dsa-65 v1"
SIGNATURE = SIGNER.sign(MESSAGE)
FIRST, SECOND = SIGNATURE[:ED25519_SIGNATURE_BYTES], SIGNATURE[ED25519_SIGNATURE_BYTES:]


def expanded(seed: bytes, label: bytes) -> bytes:
    """HKDF-Expand (RFC 5869 section 2.3) of one block, by hand."""
    return hmac.digest(seed, label + b"\x01", "sha384")[:32]


def by_hand() -> tuple[Ed25519PrivateKey, MLDSA65PrivateKey]:
    return (
        Ed25519PrivateKey.from_private_bytes(expanded(SEED, LABEL + b" ed25519 seed")),
        MLDSA65PrivateKey.from_seed_bytes(expanded(SEED, LABEL + b" ml-dsa-65 seed")),
    )


def bound(key: PublicKey, message: bytes = MESSAGE) -> bytes:
    return LABEL + b"\0" + hashlib.sha256(key.raw).digest() + message


def test_a_whole_signature_verifies_over_its_message_only() -> None:
    assert len(SIGNATURE) == HYBRID_SIGNATURE_BYTES == 64 + 3309
    KEY.verify(SIGNATURE, MESSAGE)
    with pytest.raises(SignatureError, match="doesn't verify"):
        KEY.verify(SIGNATURE, b"massage")


def test_the_parts_are_those_of_the_specification() -> None:
    first, second = by_hand()
    assert KEY.raw == first.public_key().public_bytes_raw() + second.public_key().public_bytes_raw()
    KEY.verify(first.sign(bound(KEY)) + second.sign(bound(KEY), LABEL), MESSAGE)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        FIRST,
        SECOND,
        SECOND + FIRST,
        FIRST + FIRST,
        FIRST + bytes(len(SECOND)),
        bytes(len(FIRST)) + SECOND,
        SIGNATURE[:-1],
        SIGNATURE + b"\0",
        FIRST + OTHER.sign(MESSAGE)[ED25519_SIGNATURE_BYTES:],
        OTHER.sign(MESSAGE)[:ED25519_SIGNATURE_BYTES] + SECOND,
        bytes([FIRST[0] ^ 1]) + SIGNATURE[1:],
        SIGNATURE[:-1] + bytes([SIGNATURE[-1] ^ 1]),
    ],
)
def test_anything_less_than_both_halves_is_refused(broken: bytes) -> None:
    with pytest.raises(SignatureError, match="doesn't verify"):
        KEY.verify(broken, MESSAGE)


def test_whoever_broke_one_algorithm_still_cannot_sign() -> None:
    # Each half's private key in the attacker's hands, and the other half made up or taken from another message.
    first, second = by_hand()
    older = SIGNER.sign(b"an older message")
    for forged in (
        first.sign(bound(KEY)) + older[ED25519_SIGNATURE_BYTES:],
        older[:ED25519_SIGNATURE_BYTES] + second.sign(bound(KEY), LABEL),
    ):
        with pytest.raises(SignatureError):
            KEY.verify(forged, MESSAGE)


def test_no_half_is_a_signature_of_its_own() -> None:
    plain = PublicKey(SignatureAlgorithm.ED25519, KEY.raw[:32])
    with pytest.raises(SignatureError):
        plain.verify(FIRST, MESSAGE)
    Ed25519PublicKey.from_public_bytes(KEY.raw[:32]).verify(FIRST, bound(KEY))
    half = MLDSA65PublicKey.from_public_bytes(KEY.raw[32:])
    for message, context in ((MESSAGE, None), (MESSAGE, LABEL), (bound(KEY), None), (bound(KEY), b"")):
        with pytest.raises(InvalidSignature):
            half.verify(SECOND, message, context)
    half.verify(SECOND, bound(KEY), LABEL)


def test_plain_signatures_by_the_same_private_keys_are_no_halves() -> None:
    first, second = by_hand()
    with pytest.raises(SignatureError):
        KEY.verify(first.sign(MESSAGE) + SECOND, MESSAGE)
    for plain in (second.sign(MESSAGE), second.sign(bound(KEY)), second.sign(MESSAGE, LABEL)):
        with pytest.raises(SignatureError):
            KEY.verify(FIRST + plain, MESSAGE)


def test_halves_stay_with_the_whole_key_that_they_were_made_for() -> None:
    # A key put together from a good half and the attacker's own: the good half's signatures don't move to it.
    mixed = PublicKey(SignatureAlgorithm.ED25519_ML_DSA_65, KEY.raw[:32] + OTHER.public_key.raw[32:])
    second = MLDSA65PrivateKey.from_seed_bytes(expanded(b"o" * 32, LABEL + b" ml-dsa-65 seed"))
    with pytest.raises(SignatureError):
        mixed.verify(FIRST + second.sign(bound(mixed), LABEL), MESSAGE)
    mixed.verify(by_hand()[0].sign(bound(mixed)) + second.sign(bound(mixed), LABEL), MESSAGE)


def test_the_text_of_a_key_says_what_it_is_and_comes_back() -> None:
    text = str(KEY)
    assert text.startswith("ed25519-ml-dsa-65:")
    assert len(text) == MAX_KEY_TEXT
    assert PublicKey.parse(text) == KEY
    assert (KEY.hybrid, Ed25519Signer.from_seed(SEED).public_key.hybrid) == (True, False)


@pytest.mark.parametrize(
    "wrong",
    [
        "ed25519-ml-dsa-65:",
        "ed25519-ml-dsa-65:" + to_base64(KEY.raw[:32]),
        "ed25519-ml-dsa-65:" + to_base64(KEY.raw[32:]),
        "ed25519-ml-dsa-65:" + to_base64(KEY.raw[:-1]),
        "ed25519-ml-dsa-65:" + to_base64(KEY.raw + b"\0"),
        "ed25519:" + to_base64(KEY.raw),
        "ml-dsa-65:" + to_base64(KEY.raw[32:]),
        "ED25519-ML-DSA-65:" + to_base64(KEY.raw),
    ],
)
def test_another_form_of_a_hybrid_key_is_refused(wrong: str) -> None:
    with pytest.raises(MalformedError):
        PublicKey.parse(wrong)


def test_no_private_key_is_used_in_two_algorithms() -> None:
    first, second = by_hand()
    seeds = {SEED, first.private_bytes_raw(), second.private_bytes_raw()}
    assert len(seeds) == 3
    assert Ed25519Signer.from_seed(SEED).public_key.raw != KEY.raw[:32]


@pytest.mark.parametrize("length", [0, 31, 33, HYBRID_KEY_BYTES])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(MalformedError):
        HybridSigner.from_seed(bytes(length))


def test_a_hybrid_signer_does_not_show_its_key() -> None:
    assert repr(SIGNER) == f"<HybridSigner {KEY.key_id}>"
