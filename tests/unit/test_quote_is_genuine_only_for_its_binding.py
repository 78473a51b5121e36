from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from simulators.attester import APPRAISAL, GENESIS, MEASUREMENTS, NOW, attest_bytes, attester, binding
from strongroom.attestation.appraisal import appraise
from strongroom.attestation.bindings import RecordedBinding
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import (
    BadSignatureError,
    EventLogMismatchError,
    EvidenceReplayedError,
    NotGenuineError,
    NotYetEnrolledError,
    OtherPlatformError,
    WrongBankError,
    WrongSelectionError,
    WrongStructureError,
)
from strongroom.attestation.evidence import Evidence, EvidenceItem
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.measurement import Measurement, expected_pcr, measured_set
from strongroom.attestation.platform_record import EnrolledChip, PlatformRecord, platform_of_chip
from strongroom.attestation.reference_values import ReferenceImage, ReferenceValues
from strongroom.attestation.results import Status
from strongroom.attestation.tpm.statement import LoggedEvent, TpmStatement
from strongroom.attestation.transcript import Binding
from strongroom.attestation.trust_anchors import TrustAnchors
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.tpm2 import Tpm2Verifier, TpmEvidence
from strongroom.core.digest import Digest
from strongroom.core.ids import ImageId, ModelId
from strongroom.tpm import wire
from strongroom.tpm.wire import u16, u32

BOUND = binding()
PCR = expected_pcr(MEASUREMENTS)
PCRS = hashlib.sha256(PCR).digest()
VERIFIER = Tpm2Verifier()


def judge(
    evidence: Evidence, bound: Binding = BOUND, *, at: int = NOW, record: PlatformRecord | None = None
) -> Genuine[TpmEvidence]:
    endorsements = Endorsements(anchors=TrustAnchors(()), platform=record or attester().record())
    return VERIFIER.genuine(VERIFIER.parse(evidence.main.body), bound.item(evidence.main.kind), endorsements, at)


def reference_values() -> ReferenceValues:
    images = (ReferenceImage.launched(ImageId("embedder"), MEASUREMENTS),)
    return ReferenceValues(genesis=GENESIS, epoch=1, images=images, anchors=(), appraisal=APPRAISAL, not_after=NOW + 10)


def with_statement(evidence: Evidence, **changed: Any) -> Evidence:
    statement = replace(TpmStatement.parse(evidence.main.body), **changed)
    return replace(evidence, main=EvidenceItem(EvidenceKind.TPM2, statement.to_bytes()))


def test_honest_evidence_is_genuine() -> None:
    seen = judge(attester().evidence(BOUND))
    assert seen.measurements == {**measured_set(MEASUREMENTS), "pcr14": PCR.hex()}
    assert seen.bound.fresh
    assert (seen.reset_count, seen.isolation) == (3, IsolationClass.VM_SIMULATED)
    found = seen.statement.found
    assert found is not None
    assert (found.quote.restart_count, found.quote.clock) == (0, 12_345)


@pytest.mark.parametrize(
    "other",
    [
        binding(nonce=bytes(31) + b"\x01"),
        binding(challenge="c-2"),
        binding(recipient_key=bytes(1216)),
        replace(BOUND, genesis=Digest.of(b"other")),
        replace(BOUND, request=Digest.of(b"other")),
        replace(BOUND, manifest=Digest.of(b"other")),
        replace(BOUND, model=ModelId("borea")),
        replace(BOUND, version=2),
        replace(BOUND, devices=Digest.of(b"other")),
    ],
    ids=["nonce", "challenge", "recipient", "genesis", "request", "manifest", "model", "version", "devices"],
)
def test_evidence_for_another_binding_is_a_replay(other: Binding) -> None:
    with pytest.raises(EvidenceReplayedError) as refused:
        judge(attester().evidence(BOUND), other)
    assert refused.value.reason == "evidence-replayed"
    assert refused.value.wanted == other.tpm2_qualifying_data.hex()


def test_recorded_evidence_is_genuine_and_never_fresh() -> None:
    endorsements = Endorsements(anchors=TrustAnchors(()), platform=attester().record())
    parsed = VERIFIER.parse(attester().evidence(BOUND).main.body)
    assert not VERIFIER.genuine(parsed, RecordedBinding(), endorsements, NOW).bound.fresh


def test_another_platform_is_refused_by_name_and_by_key() -> None:
    foreign = attester("b").evidence(BOUND)
    values = reference_values()
    for evidence, reason in (
        (foreign, "evidence-other-platform"),
        (replace(foreign, platform=attester().record().platform), "evidence-bad-signature"),
    ):
        record = attester().record()
        result = appraise(evidence, binding=BOUND, record=record, reference_values=values, at=NOW)
        assert (result.status, result.reason) == (Status.ERROR, reason)
    with pytest.raises(BadSignatureError):
        judge(foreign)


def test_a_chips_record_is_no_tpms() -> None:
    chip = PlatformRecord(
        platform=platform_of_chip(EvidenceKind.SEV_SNP, b"chip"),
        kind=EvidenceKind.SEV_SNP,
        identity=EnrolledChip(hardware_id=b"chip"),
        anchor=Digest.of(b"root"),
        isolation=IsolationClass.CVM,
        enrolled=NOW,
    )
    with pytest.raises(OtherPlatformError):
        judge(attester().evidence(BOUND), record=chip)


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
    events = TpmStatement.parse(honest.main.body).events
    swapped = (
        LoggedEvent(14, Measurement(MEASUREMENTS[0].name, MEASUREMENTS[1].digest)),
        LoggedEvent(14, Measurement(MEASUREMENTS[1].name, MEASUREMENTS[0].digest)),
    )
    logs = (
        events[:-1],
        (*events, events[-1]),
        events[::-1],
        (),
        (*swapped, *events[2:]),
        (*events, LoggedEvent(13, MEASUREMENTS[0])),
    )
    for log in logs:
        with pytest.raises(EventLogMismatchError):
            judge(with_statement(honest, events=log))


def test_values_beside_a_launch_log_do_not_replace_it() -> None:
    honest = attester().evidence(BOUND)
    assert judge(with_statement(honest, pcrs={14: PCR})).measurements["pcr14"] == PCR.hex()
    with pytest.raises(EventLogMismatchError):
        judge(with_statement(honest, pcrs={14: bytes(32)}))
    with pytest.raises(WrongSelectionError):
        judge(with_statement(honest, pcrs={13: PCR}))
    events = TpmStatement.parse(honest.main.body).events
    lying = LoggedEvent(14, Measurement(MEASUREMENTS[0].name, Digest.of(b"another interpreter")))
    with pytest.raises(EventLogMismatchError):
        judge(with_statement(honest, pcrs={14: PCR}, events=(lying, *events[1:])))


def test_names_are_part_of_what_is_extended() -> None:
    one, other = MEASUREMENTS[0], MEASUREMENTS[1]
    renamed = (Measurement(other.name, one.digest), *MEASUREMENTS[1:])
    assert expected_pcr(renamed) != expected_pcr(MEASUREMENTS)
