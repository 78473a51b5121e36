from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.attester import (
    NOW,
    attest_bytes,
    attester,
    binding,
    ek_public_area,
    endorsement_private,
    enrolment_request,
    vendor_root,
)
from strongroom.attestation.chain import load_certificate
from strongroom.attestation.enrolment import EnrolmentRequest
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.platform_record import PlatformRecord
from strongroom.attestation.reference_values import ReferenceValues
from strongroom.attestation.tpm.public_area import PublicArea
from strongroom.attestation.tpm.quote import Quote
from strongroom.attestation.tpm.signature import TpmSignature
from strongroom.attestation.verifiers.tpm2 import genuine
from strongroom.core.errors import StrongroomError

Parser = Callable[[bytes], object]

BOUND = binding()
HONEST = attester().evidence(BOUND)
STRUCTURES: dict[str, tuple[Parser, bytes]] = {
    "quote": (Quote.parse, attest_bytes(qualifying_data=bytes(32), pcr_digest=bytes(32))),
    "signature": (TpmSignature.parse, HONEST.signature),
    "attestation key": (PublicArea.parse, attester().public.raw),
    "endorsement key": (PublicArea.parse, ek_public_area(endorsement_private().public_key())),
    "evidence": (Evidence.parse, HONEST.to_bytes()),
    "platform": (PlatformRecord.parse, attester().record().to_bytes()),
    "enrolment": (EnrolmentRequest.parse, enrolment_request().to_bytes()),
    "certificate": (load_certificate, vendor_root()),
}
PARSERS = {name: parser for name, (parser, _) in STRUCTURES.items()} | {"values": ReferenceValues.parse}


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("name", STRUCTURES)
def test_every_truncation_and_every_extra_byte_is_refused(name: str) -> None:
    parse, data = STRUCTURES[name]
    parse(data)
    for size in range(len(data)):
        with pytest.raises(StrongroomError):
            parse(data[:size])
    for extra in (b"\0", b"\xff" * 4):
        with pytest.raises(StrongroomError):
            parse(data + extra)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_give_a_value_or_our_error(name: str, data: bytes) -> None:
    with suppress(StrongroomError):
        PARSERS[name](data)


# A certificate with an odd serial number is read with a warning that it will be refused one day.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("name", STRUCTURES)
@settings(max_examples=150, deadline=None)
@given(spot=st.integers(min_value=0), value=st.binary(min_size=1, max_size=8))
def test_overwritten_bytes_give_a_value_or_our_error(name: str, spot: int, value: bytes) -> None:
    parse, data = STRUCTURES[name]
    place = spot % len(data)
    with suppress(StrongroomError):
        parse(data[:place] + value + data[place + len(value) :])


def flips(data: bytes) -> Iterator[bytes]:
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)


def test_every_flipped_bit_of_a_quote_or_its_signature_is_refused() -> None:
    record = attester().record()
    genuine(HONEST, binding=BOUND, platform_record=record, at=NOW)
    changed = [
        *(replace(HONEST, quote=data) for data in flips(HONEST.quote)),
        *(replace(HONEST, signature=data) for data in flips(HONEST.signature)),
    ]
    for evidence in changed:
        with pytest.raises(StrongroomError):
            genuine(evidence, binding=BOUND, platform_record=record, at=NOW)
