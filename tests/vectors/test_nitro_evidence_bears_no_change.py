"""Real Nitro documents with one bit turned, cut short, or with lengths that lie: refused, and quickly."""

from __future__ import annotations

import time

import pytest

from strongroom.attestation.bindings import RecordedBinding
from strongroom.attestation.containers import aws
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.trust_anchors import vendor_anchors
from strongroom.attestation.verifiers.nitro import NitroVerifier
from strongroom.core.errors import StrongroomError
from support.hostile import flipped, greatest_lengths
from support.vectors import vectors_folder

NAMES = ("nitro-2025.bin", "nitro-2025-debug.bin")
VERIFIER = NitroVerifier()
# A turned bit can make a certificate that the library warns of before it refuses it.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")


def document(name: str) -> tuple[bytes, int]:
    found = aws.read((vectors_folder("attestation/nitro") / name).read_bytes())
    assert found is not None
    body = found.items[0].body
    return body, VERIFIER.parse(body).document.made


def refuse(body: bytes, at: int) -> None:
    with pytest.raises(StrongroomError):
        VERIFIER.genuine(VERIFIER.parse(body), RecordedBinding(), Endorsements(anchors=vendor_anchors()), at)


@pytest.mark.parametrize("name", NAMES)
def test_turned_bits_are_refused(name: str) -> None:
    body, at = document(name)
    # Nine and a byte share no factor: every byte is met, and every place within one.
    for bit in range(0, len(body) * 8, 9):
        refuse(flipped(body, bit), at)


@pytest.mark.heavy
@pytest.mark.parametrize("name", NAMES)
def test_every_turned_bit_is_refused(name: str) -> None:
    body, at = document(name)
    for bit in range(len(body) * 8):
        refuse(flipped(body, bit), at)


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_is_refused(name: str) -> None:
    body, at = document(name)
    for size in range(len(body)):
        refuse(body[:size], at)


@pytest.mark.parametrize("name", NAMES)
def test_lengths_at_their_maximum_are_refused_at_once(name: str) -> None:
    body, at = document(name)
    began = time.monotonic()
    for changed in greatest_lengths(body, 5):
        refuse(changed, at)
    # Each item's head as one that promises 2**64 - 1 of its kind.
    for start in range(0, len(body), 5):
        refuse(body[:start] + bytes([body[start] & 0xE0 | 0x1B]) + b"\xff" * 8 + body[start + 1 :], at)
    assert time.monotonic() - began < 60
