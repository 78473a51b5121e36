from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from simulators.attester import APPRAISAL, GENESIS, NOW, attest_bytes, attester, binding, tpm_root, vendor_root
from strongroom.attestation.appraisal import appraise
from strongroom.attestation.bindings import Bound, ExpectedBinding, Slot
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import EvidenceReplayedError
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.reference_values import ReferenceValues
from strongroom.attestation.registry import VERIFIERS
from strongroom.attestation.results import Status
from strongroom.attestation.transcript import Binding
from strongroom.attestation.trust_anchors import TrustAnchors
from strongroom.attestation.verifiers.tpm2 import Tpm2Verifier
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, UsageError

EMPTY_VALUES = ReferenceValues(genesis=GENESIS, epoch=1, images=(), anchors=(), appraisal=APPRAISAL, not_after=NOW + 10)


def tpm_anchors() -> TrustAnchors:
    return TrustAnchors((tpm_root(vendor_root()),))


def made(**changes: Any) -> Binding:
    whole = binding()
    return Binding(**{f.name: getattr(whole, f.name) for f in fields(whole)} | changes)


@pytest.mark.parametrize("missing", [f.name for f in fields(Binding)])
def test_no_part_of_a_binding_has_a_default(missing: str) -> None:
    whole = binding()
    with pytest.raises(TypeError):
        Binding(**{f.name: getattr(whole, f.name) for f in fields(whole) if f.name != missing})


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": b""},
        {"nonce": bytes(31)},
        {"nonce": bytes(33)},
        {"challenge": ""},
        {"challenge": "c" * 65},
        {"challenge": "c\n"},
        {"version": 0},
        {"model": "../atlas"},
    ],
)
def test_a_malformed_binding_can_not_be_made(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        made(**changes)


@pytest.mark.parametrize("nothing", [None, {}, b"", True])
def test_no_binding_is_not_any_binding(nothing: Any) -> None:
    evidence, record = attester().evidence(binding()), attester().record()
    with pytest.raises(UsageError):
        appraise(evidence, binding=nothing, record=record, reference_values=EMPTY_VALUES, at=NOW)


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_evidence_with_malformed_qualifying_data_is_refused(size: int) -> None:
    bound = binding()
    data = (bound.tpm2_qualifying_data * 2)[:size]
    evidence = attester().evidence(bound, quote=attest_bytes(qualifying_data=data, pcr_digest=bytes(32)))
    endorsed = Endorsements(anchors=tpm_anchors(), platform=attester().record())
    verifier = Tpm2Verifier()
    with pytest.raises(EvidenceReplayedError):
        verifier.genuine(verifier.parse(evidence.main.body), bound.item(evidence.main.kind), endorsed, NOW)
    result = appraise(evidence, binding=bound, record=attester().record(), reference_values=EMPTY_VALUES, at=NOW)
    assert (result.status, result.reason) == (Status.ERROR, "evidence-replayed")


def test_every_part_of_the_binding_changes_what_is_signed() -> None:
    whole = binding()
    changed = [
        made(nonce=b"\x01" * 32),
        made(challenge="c-2"),
        made(version=2),
        made(model="borea"),
        *(
            made(**{name: Digest.of(b"other")})
            for name in ("genesis", "request", "manifest", "recipient_key", "devices")
        ),
    ]
    assert len({one.tpm2_qualifying_data for one in (whole, *changed)}) == len(changed) + 1
    assert len({one.report_data for one in (whole, *changed)}) == len(changed) + 1
    assert len({one.nitro_user_data for one in (whole, *changed)}) == len(changed) + 1


def test_a_binding_without_bytes_and_a_proof_that_no_binding_made_can_not_be_had() -> None:
    for nothing in ({}, {Slot.REPORT_DATA: b""}, {Slot.NONCE: b"n", Slot.USER_DATA: b""}):
        with pytest.raises(UsageError):
            ExpectedBinding(nothing)
    with pytest.raises(UsageError):
        Bound(fresh=True, seen={}, made_by=object())
    expected = ExpectedBinding({Slot.REPORT_DATA: b"r" * 64})
    with pytest.raises(UsageError):
        expected.bound({Slot.NONCE: b"r" * 64})
    for wrong in (b"", b"r" * 63, b"r" * 65, b"r" * 63 + b"s"):
        with pytest.raises(EvidenceReplayedError):
            expected.bound({Slot.REPORT_DATA: wrong})
    assert expected.bound({Slot.REPORT_DATA: b"r" * 64}).fresh


@pytest.mark.parametrize("kind", EvidenceKind)
def test_every_kind_of_evidence_has_its_slots_and_takes_no_other_s(kind: EvidenceKind) -> None:
    slots = VERIFIERS[kind].slots
    item = binding().item(kind)
    assert set(item.values) == slots
    others = {other for other in Slot if other not in slots}
    with pytest.raises(UsageError):
        item.bound(dict.fromkeys(others, b"x"))
