"""Attestation documents of real Nitro enclaves, one of them in debug mode, judged at their own timestamps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.attestation.bindings import ExpectedBinding, ItemBinding, RecordedBinding, Slot
from strongroom.attestation.containers import aws
from strongroom.attestation.containers.contained import Contained
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import ChainRefusedError, EvidenceReplayedError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.policies.allowed import ANYTHING
from strongroom.attestation.policies.nitro import NitroPolicy
from strongroom.attestation.trust_anchors import TrustAnchors, Vendor, vendor_anchors
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.nitro import NitroStatement, NitroVerifier
from support.vectors import vectors_folder

VERIFIER = NitroVerifier()
LOOSE = replace(
    NitroPolicy.strictest(), locked_pcrs=(), pcr3=ANYTHING, pcr4=ANYTHING, pcr8=ANYTHING, instances=ANYTHING
)


def contained(name: str) -> Contained:
    found = aws.read((vectors_folder("attestation/nitro") / name).read_bytes())
    assert found is not None
    return found


def proven(name: str, binding: ItemBinding) -> Genuine[NitroStatement]:
    statement = VERIFIER.parse(contained(name).items[0].body)
    return VERIFIER.genuine(statement, binding, Endorsements(anchors=vendor_anchors()), statement.document.made)


def test_the_document_is_genuine_at_its_own_timestamp() -> None:
    found = proven("nitro-2025.bin", RecordedBinding())
    assert not found.bound.fresh
    assert found.isolation is IsolationClass.CVM
    assert found.hardware_id == b"i-0827e799ec9232d44"
    assert found.measurements["pcr0"].startswith("eb7d0dab08ff4154")
    assert found.endorsed_until - found.statement.document.made == 3 * 3600
    assert not found.revocation_checked
    assert [claim.name for claim in VERIFIER.judge(found, LOOSE) if not claim.ok] == []


def test_the_document_is_bound_to_its_user_data() -> None:
    stated = contained("nitro-2025.bin").stated
    assert proven("nitro-2025.bin", ExpectedBinding(stated)).bound.fresh
    assert len(stated[Slot.USER_DATA]) == 64
    with pytest.raises(EvidenceReplayedError):
        proven("nitro-2025.bin", ExpectedBinding({Slot.USER_DATA: bytes(64)}))
    with pytest.raises(EvidenceReplayedError):
        proven("nitro-2025.bin", ExpectedBinding({**stated, Slot.NONCE: bytes(32)}))


def test_the_debug_enclaves_document_is_genuine_and_refused() -> None:
    found = proven("nitro-2025-debug.bin", RecordedBinding())
    assert [claim.name for claim in VERIFIER.judge(found, LOOSE) if not claim.ok] == ["debug"]


def test_the_document_is_refused_after_its_three_hours() -> None:
    statement = VERIFIER.parse(contained("nitro-2025.bin").items[0].body)
    late = statement.document.made + 3 * 3600 + 1
    with pytest.raises(ChainRefusedError):
        VERIFIER.genuine(statement, RecordedBinding(), Endorsements(anchors=vendor_anchors()), late)


def test_without_anchors_nothing_is_genuine() -> None:
    statement = VERIFIER.parse(contained("nitro-2025.bin").items[0].body)
    with pytest.raises(ChainRefusedError):
        VERIFIER.genuine(statement, RecordedBinding(), Endorsements(anchors=TrustAnchors(())), statement.document.made)


def test_the_root_in_the_bundle_is_the_pinned_one() -> None:
    statement = VERIFIER.parse(contained("nitro-2025.bin").items[0].body)
    (anchor,) = vendor_anchors().of(Vendor.AWS_NITRO)
    assert statement.document.cabundle[0] == anchor.certificate
    assert anchor.digest.value.hex().startswith("641a0321")
