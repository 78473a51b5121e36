from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from simulators.attester import MEASUREMENTS, NOW, attest_bytes, attester, binding
from strongroom.attestation.errors import (
    BadQuoteSignatureError,
    EventLogMismatchError,
    EvidenceReplayedError,
    NotGenuineError,
    NotYetEnrolledError,
    OtherPlatformError,
    OtherRecipientError,
    WrongBankError,
    WrongSelectionError,
    WrongStructureError,
)
from strongroom.attestation.evidence import Evidence, LoggedEvent
from strongroom.attestation.measurement import Measurement, expected_pcr
from strongroom.attestation.tpm import wire
from strongroom.attestation.tpm.wire import u16, u32
from strongroom.attestation.transcript import Binding
from strongroom.attestation.verifiers.tpm2 import Genuine, genuine, parse
from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId

BOUND = binding()
PCRS = hashlib.sha256(expected_pcr(MEASUREMENTS)).digest()


def judge(evidence: Evidence, bound: Binding = BOUND, *, at: int = NOW) -> Genuine:
    return genuine(parse(evidence.to_bytes()), binding=bound, platform_record=attester().record(), at=at)


def test_honest_evidence_is_genuine() -> None:
    seen = judge(attester().evidence(BOUND))
    assert seen.measurements == MEASUREMENTS
    assert (seen.reset_count, seen.restart_count, seen.clock) == (3, 0, 12_345)


@pytest.mark.parametrize(
    "other",
    [
        binding(nonce=bytes(31) + b"\x01"),
        binding(challenge="c-2"),
        replace(BOUND, genesis=Digest.of(b"other")),
        replace(BOUND, request=Digest.of(b"other")),
        replace(BOUND, manifest=Digest.of(b"other")),
        replace(BOUND, model=ModelId("borea")),
        replace(BOUND, version=2),
    ],
    ids=["nonce", "challenge", "genesis", "request", "manifest", "model", "version"],
)
def test_evidence_for_another_binding_is_a_replay(other: Binding) -> None:
    with pytest.raises(EvidenceReplayedError) as refused:
        judge(attester().evidence(BOUND), other)
    assert refused.value.reason == "evidence-replayed"
    assert refused.value.wanted == other.tpm2_qualifying_data.hex()


def test_another_recipient_key_is_refused_in_envelope_and_in_quote() -> None:
    swapped = bytes(1216)
    with pytest.raises(OtherRecipientError):
        judge(attester().evidence(BOUND, recipient_key=swapped))
    # The attacker's key in the envelope, and a binding made from it: the quote still names the honest key.
    with pytest.raises(EvidenceReplayedError):
        judge(attester().evidence(BOUND, recipient_key=swapped), binding(recipient_key=swapped))


def test_another_platform_is_refused_by_name_and_by_key() -> None:
    foreign = attester("b").evidence(BOUND)
    with pytest.raises(OtherPlatformError):
        judge(foreign)
    with pytest.raises(BadQuoteSignatureError):
        judge(replace(foreign, platform=attester().record().platform))


def test_evidence_before_enrolment_is_refused() -> None:
    with pytest.raises(NotYetEnrolledError):
        judge(attester().evidence(BOUND), at=attester().record().enrolled - 1)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"magic": 0xFF544346}, WrongStructureError),
        ({"kind": 0x8017}, WrongStructureError),
        ({"qualifying_data": b""}, EvidenceReplayedError),
        ({"selection": u32(1) + u16(0x0004) + b"\x03\x00\x40\x00"}, WrongBankError),
        ({"selection": u32(1) + u16(0x000C) + b"\x03\x00\x40\x00"}, WrongBankError),
        ({"selection": u32(0)}, WrongBankError),
        ({"selection": u32(2) + (u16(0x000B) + b"\x03\x00\x40\x00") * 2}, WrongBankError),
        ({"selection": wire.pcr_selection(())}, WrongSelectionError),
        ({"selection": wire.pcr_selection((13,))}, WrongSelectionError),
        ({"selection": wire.pcr_selection((14, 23))}, WrongSelectionError),
        ({"pcr_digest": bytes(32)}, EventLogMismatchError),
        ({"pcr_digest": b""}, EventLogMismatchError),
        ({"pcr_digest": PCRS[:-1]}, EventLogMismatchError),
    ],
)
def test_a_well_signed_but_wrong_quote_names_its_fault(changes: dict[str, Any], error: type[NotGenuineError]) -> None:
    fields: dict[str, Any] = {"qualifying_data": BOUND.tpm2_qualifying_data, "pcr_digest": PCRS} | changes
    quote = attest_bytes(**fields)
    with pytest.raises(error):
        judge(attester().evidence(BOUND, quote=quote))


def test_a_log_that_the_pcr_does_not_hold_is_refused() -> None:
    honest = attester().evidence(BOUND)
    swapped = (
        LoggedEvent(14, Measurement(MEASUREMENTS[0].name, MEASUREMENTS[1].digest)),
        LoggedEvent(14, Measurement(MEASUREMENTS[1].name, MEASUREMENTS[0].digest)),
    )
    logs = (
        honest.events[:-1],
        (*honest.events, honest.events[-1]),
        honest.events[::-1],
        (),
        (*swapped, *honest.events[2:]),
        (*honest.events, LoggedEvent(13, MEASUREMENTS[0])),
    )
    for events in logs:
        with pytest.raises(EventLogMismatchError):
            judge(replace(honest, events=events))


def test_names_are_part_of_what_is_extended() -> None:
    one, other = MEASUREMENTS[0], MEASUREMENTS[1]
    renamed = (Measurement(other.name, one.digest), *MEASUREMENTS[1:])
    assert expected_pcr(renamed) != expected_pcr(MEASUREMENTS)
