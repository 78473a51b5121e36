"""Real quotes with one bit turned, cut short, or with lengths that lie: refused, and quickly."""

from __future__ import annotations

import time
from typing import Any

import pytest

from strongroom.attestation.bindings import RecordedBinding
from strongroom.attestation.bundle.reading import read_item
from strongroom.attestation.collateral import Collateral, CollateralItem, CollateralKind
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import BadSignatureError
from strongroom.attestation.trust_anchors import vendor_anchors
from strongroom.attestation.verifiers.sgx import SgxVerifier
from strongroom.attestation.verifiers.tdx import TdxVerifier
from strongroom.core.clock import parse_instant
from strongroom.core.errors import StrongroomError
from support.hostile import flipped, greatest_lengths
from support.vectors import vectors_folder

PIN = parse_instant("2025-07-01T00:00:00Z")
NAMES = ("tdx-v4-up-to-date", "sgx-v3-hardening-needed")
# A turned bit can make a certificate that the library warns of before it refuses it.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")


def verifier(name: str) -> Any:
    return TdxVerifier() if name.startswith("tdx") else SgxVerifier()


def quote(name: str) -> bytes:
    return (vectors_folder("attestation/tdx") / f"{name}.quote").read_bytes()


def collateral(name: str) -> bytes:
    return (vectors_folder("attestation/tdx") / f"{name}.collateral.json").read_bytes()


def endorsements(name: str) -> Endorsements:
    item = read_item(CollateralKind.INTEL_TCB, collateral(name)).item
    return Endorsements(anchors=vendor_anchors(), collateral=Collateral((item,)))


def refuse(name: str, body: bytes, about: Endorsements) -> None:
    judge = verifier(name)
    with pytest.raises(StrongroomError):
        judge.genuine(judge.parse(body), RecordedBinding(), about, PIN)


@pytest.mark.parametrize("name", NAMES)
def test_turned_bits_are_refused(name: str) -> None:
    body, about = quote(name), endorsements(name)
    # Nine and a byte share no factor: every byte is met, and every place within one.
    for bit in range(0, len(body) * 8, 9):
        refuse(name, flipped(body, bit), about)


@pytest.mark.heavy
@pytest.mark.parametrize("name", NAMES)
def test_every_turned_bit_is_refused(name: str) -> None:
    body, about = quote(name), endorsements(name)
    for bit in range(len(body) * 8):
        refuse(name, flipped(body, bit), about)


def test_a_debug_bit_can_neither_be_turned_off_nor_on() -> None:
    attributes = 48 + 120
    for name in ("tdx-v4-debug", "tdx-v4-up-to-date"):
        with pytest.raises(BadSignatureError):
            TdxVerifier().genuine(
                TdxVerifier().parse(flipped(quote(name), attributes * 8)),
                RecordedBinding(),
                endorsements("tdx-v4-up-to-date"),
                PIN,
            )


@pytest.mark.parametrize("name", [*NAMES, "tdx-v4-debug"])
def test_every_truncation_is_refused(name: str) -> None:
    body, judge = quote(name), verifier(name)
    whole = len(judge.parse(body).quote.raw)
    for size in range(whole):
        with pytest.raises(StrongroomError):
            judge.parse(body[:size])
    # Beyond its end there is only what the driver's buffer left.
    for size in range(whole, len(body)):
        assert judge.parse(body[:size]).quote.raw == body[:whole]


@pytest.mark.parametrize("name", NAMES)
def test_lengths_at_their_maximum_are_refused_at_once(name: str) -> None:
    body, about = quote(name), endorsements(name)
    began = time.monotonic()
    for changed in greatest_lengths(body, 5):
        refuse(name, changed, about)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("name", NAMES)
def test_changed_collateral_never_says_anything_else(name: str) -> None:
    judge, data = verifier(name), collateral(name)
    statement = judge.parse(quote(name))
    named = read_item(CollateralKind.INTEL_TCB, data).item.name
    honest = judge.genuine(statement, RecordedBinding(), endorsements(name), PIN)
    refused = 0
    for bit in range(0, len(data) * 8, 89):
        item = CollateralItem(
            kind=CollateralKind.INTEL_TCB, name=named, data=flipped(data, bit), not_before=0, not_after=0
        )
        about = Endorsements(anchors=vendor_anchors(), collateral=Collateral((item,)))
        try:
            found = judge.genuine(statement, RecordedBinding(), about, PIN)
        except StrongroomError:
            refused += 1
        else:
            # Another case of a hex digit, or a certificate that nobody needs, means what it meant.
            assert (found.statement.tcb.status, found.statement.tcb.advisories) == (
                honest.statement.tcb.status,
                honest.statement.tcb.advisories,
            )
            assert found.endorsed_until == honest.endorsed_until
    assert refused > 200
