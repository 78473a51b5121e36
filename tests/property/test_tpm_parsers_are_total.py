from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import NoReturn

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
from simulators.tpm_chain import (
    NONCE,
    agile_log,
    area,
    attestation_message,
    boot,
    old_log,
    quote_message,
    registers,
    rsa_key,
    virtual_tpm,
)
from strongroom.attestation.bindings import RecordedBinding, Slot
from strongroom.attestation.containers import tpm as container
from strongroom.attestation.containers.contained import Contained
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.enrolment import EnrolmentRequest
from strongroom.attestation.evidence import Evidence, EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.platform_record import PlatformRecord
from strongroom.attestation.reference_values import ReferenceValues
from strongroom.attestation.tpm.boot_facts import loader_texts, secure_boot
from strongroom.attestation.tpm.event_log import EventLog, replay
from strongroom.attestation.tpm.public_area import PublicArea
from strongroom.attestation.tpm.quote import Quote
from strongroom.attestation.tpm.signature import TpmSignature
from strongroom.attestation.tpm.statement import MAX_FIRMWARE_LOG, TpmStatement
from strongroom.attestation.trust_anchors import MAX_CERTIFICATE, TrustAnchors, load_certificate
from strongroom.attestation.verifiers.tpm2 import Tpm2Verifier
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.tpm import wire
from support.examples import examples

Parser = Callable[[bytes], object]

BOUND = binding()
EVIDENCE = attester().evidence(BOUND)
HONEST = TpmStatement.parse(EVIDENCE.main.body)
VERIFIER = Tpm2Verifier()
MACHINE = virtual_tpm()
LOG = agile_log(boot())
CERTIFIED = MACHINE.statement(registers(LOG), event_log=LOG)


def read_log(data: bytes) -> object:
    """Read a log as a verifier does: all of it."""
    log = EventLog.parse(data)
    return [(replay(log, bank), secure_boot(log, bank), loader_texts(log, bank)) for bank in log.banks]


def read_file(data: bytes) -> Contained:
    """Read a file of evidence; that it is none of ours is a refusal too."""
    contained = container.read(data)
    if contained is None:
        raise_unread()
    return contained


def raise_unread() -> NoReturn:
    raise StrongroomError("not a file of evidence")


def judge_certified(body: bytes) -> object:
    endorsements = Endorsements(anchors=TrustAnchors((MACHINE.anchor,)))
    return VERIFIER.genuine(VERIFIER.parse(body), RecordedBinding(), endorsements, NOW)


# Memory set aside for more events may follow a log; a log may end after any event, a protocol buffer after any field.
OPEN_ENDED = {"agile log", "old log", "attestation file"}
STRUCTURES: dict[str, tuple[Parser, bytes]] = {
    "quote": (Quote.parse, attest_bytes(qualifying_data=bytes(32), pcr_digest=bytes(32))),
    "signature": (TpmSignature.parse, HONEST.signature),
    "RSA signature": (TpmSignature.parse, replace(MACHINE, key=rsa_key(), scheme=wire.ALG_RSAPSS).sign(b"message")),
    "attestation key": (PublicArea.parse, attester().public.raw),
    "RSA attestation key": (PublicArea.parse, area(rsa_key(), wire.ALG_RSASSA, wire.ALG_SHA256)),
    "endorsement key": (PublicArea.parse, ek_public_area(endorsement_private().public_key())),
    "statement": (TpmStatement.parse, EVIDENCE.main.body),
    "certified statement": (judge_certified, CERTIFIED.to_bytes()),
    "agile log": (read_log, LOG),
    "old log": (read_log, old_log(boot())),
    "attestation file": (read_file, attestation_message(MACHINE, [quote_message(MACHINE, registers(LOG))], LOG)),
    "evidence": (Evidence.parse, EVIDENCE.to_bytes()),
    "platform": (PlatformRecord.parse, attester().record().to_bytes()),
    "enrolment": (EnrolmentRequest.parse, enrolment_request().to_bytes()),
    "certificate": (load_certificate, vendor_root()),
}
PARSERS = {name: parser for name, (parser, _) in STRUCTURES.items()} | {"values": ReferenceValues.parse}


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("name", [name for name in STRUCTURES if name not in OPEN_ENDED])
def test_every_truncation_and_every_extra_byte_is_refused(name: str) -> None:
    parse, data = STRUCTURES[name]
    parse(data)
    for size in range(0, len(data), max(1, len(data) // 2000)):
        with pytest.raises(StrongroomError):
            parse(data[:size])
    for extra in (b"\0", b"\xff" * 4):
        with pytest.raises(StrongroomError):
            parse(data + extra)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=examples(150), deadline=None)
@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_give_a_value_or_our_error(name: str, data: bytes) -> None:
    with suppress(StrongroomError):
        PARSERS[name](data)


# A certificate with an odd serial number is read with a warning that it will be refused one day.
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("name", STRUCTURES)
@settings(max_examples=examples(150), deadline=None)
@given(spot=st.integers(min_value=0), value=st.binary(min_size=1, max_size=8))
def test_overwritten_bytes_give_a_value_or_our_error(name: str, spot: int, value: bytes) -> None:
    parse, data = STRUCTURES[name]
    place = spot % len(data)
    with suppress(StrongroomError):
        parse(data[:place] + value + data[place + len(value) :])


FILE_STARTS = (
    b"ak_pub:",
    b'ak_pub: "\\000',
    b"\x0a\x03\0\1\0\x0b",
    b'{"tpm_quote":{},"ak_public":"',
    b"CgMAAQAL",
    b"0a030001000b",
)


@pytest.mark.parametrize("start", FILE_STARTS)
@settings(max_examples=examples(150), deadline=None)
@given(data=st.binary(max_size=200) | st.text('"\\{}: ak_pub1', max_size=100).map(str.encode))
def test_whatever_follows_the_start_of_a_file_gives_a_value_or_our_error(start: bytes, data: bytes) -> None:
    with suppress(StrongroomError):
        read_file(start + data)


def flips(data: bytes) -> Iterator[bytes]:
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        yield bytes(flipped)


def test_every_flipped_bit_of_a_quote_or_its_signature_is_refused() -> None:
    endorsements = Endorsements(anchors=TrustAnchors(()), platform=attester().record())
    wanted = BOUND.item(EvidenceKind.TPM2)
    VERIFIER.genuine(VERIFIER.parse(HONEST.to_bytes()), wanted, endorsements, NOW)
    changed = [
        *(replace(HONEST, quote=data) for data in flips(HONEST.quote)),
        *(replace(HONEST, signature=data) for data in flips(HONEST.signature)),
    ]
    for statement in changed:
        with pytest.raises(StrongroomError):
            VERIFIER.genuine(VERIFIER.parse(statement.to_bytes()), wanted, endorsements, NOW)


@settings(max_examples=examples(300), deadline=None)
@given(spot=st.integers(min_value=0), value=st.binary(min_size=1, max_size=8))
def test_an_overwritten_statement_is_refused_or_says_the_same(spot: int, value: bytes) -> None:
    body = CERTIFIED.to_bytes()
    place = spot % len(body)
    changed = body[:place] + value + body[place + len(value) :]
    honest, endorsements = VERIFIER.parse(body), Endorsements(anchors=TrustAnchors((MACHINE.anchor,)))
    measured = VERIFIER.genuine(honest, RecordedBinding(), endorsements, NOW).measurements
    with suppress(StrongroomError):
        proven = VERIFIER.genuine(VERIFIER.parse(changed), RecordedBinding(), endorsements, NOW)
        assert proven.measurements == measured
        assert proven.bound.seen == {Slot.QUALIFYING_DATA: NONCE}


def test_the_longest_statement_fits_into_evidence() -> None:
    longest = replace(CERTIFIED, event_log=bytes(MAX_FIRMWARE_LOG), ak_certificates=(bytes(MAX_CERTIFICATE),) * 5)
    item = EvidenceItem(EvidenceKind.TPM2, longest.to_bytes())
    whole = replace(EVIDENCE, main=item)
    assert Evidence.parse(whole.to_bytes()) == whole
    with pytest.raises(MalformedError):
        replace(longest, event_log=bytes(MAX_FIRMWARE_LOG + 50_000)).to_bytes()
