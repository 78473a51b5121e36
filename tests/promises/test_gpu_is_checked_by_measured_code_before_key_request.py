"""The agent judges its own accelerators before it asks for a key: each must answer, freshly, as itself, as wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simulators.nvidia_chain import NOW, Device, answers_for, device, endorsements, item, report
from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.policies.allowed import NOTHING
from strongroom.attestation.policies.nvidia import Demand
from strongroom.attestation.results import Status
from strongroom.attestation.transcript import device_nonce
from strongroom.attestation.trust_anchors import vendor_anchors
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.enclave.agent.own_devices import OwnDeviceRefusedError, require_genuine

NONCE = b"\x07" * 32
RECIPIENT = Digest.of(b"the key that was made inside")
ASKED = device_nonce(NONCE, RECIPIENT)
ONE, TWO = device(pdi=b"\x01" * 8), device(pdi=b"\x02" * 8)
POLICY = AppraisalPolicy.strictest(EvidenceKind.TPM2, EvidenceKind.NVIDIA_GPU)
ENDORSED = endorsements(answers=(*answers_for(ONE), *answers_for(TWO)))


def rules(**members: Any) -> AppraisalPolicy:
    """The strictest rules, but that no reference manifest is at hand."""
    strict = POLICY.kinds[EvidenceKind.NVIDIA_GPU]
    manifests = replace(strict.manifests, rim=Demand.WHEN_PRESENT)
    gpu = replace(strict, **{"manifests": manifests, **members})
    return replace(POLICY, kinds={**POLICY.kinds, EvidenceKind.NVIDIA_GPU: gpu})


def answered(*devices: Device, nonce: bytes = ASKED) -> tuple[EvidenceItem, ...]:
    return tuple(item(one, report(one, nonce=nonce)) for one in devices)


def look(
    devices: tuple[EvidenceItem, ...],
    *,
    expected: int | None = None,
    policy: AppraisalPolicy | None = None,
    endorsed: Endorsements | None = None,
    recipient: Digest = RECIPIENT,
) -> int:
    """Look at the devices; returns how many are good."""
    found = require_genuine(
        devices,
        expected=len(devices) if expected is None else expected,
        nonce=NONCE,
        recipient_key=recipient,
        endorsements=endorsed or ENDORSED,
        policy=policy or rules(),
        at=NOW,
    )
    assert all(one.status is Status.WANTED and one.fresh for one in found)
    return len(found)


def refused(devices: tuple[EvidenceItem, ...], **how: Any) -> str:
    with pytest.raises(OwnDeviceRefusedError) as caught:
        look(devices, **how)
    return caught.value.reason


def test_devices_that_answer_for_this_challenge_and_key_are_good() -> None:
    assert look(answered(ONE)) == 1
    assert look(answered(ONE, TWO)) == 2
    assert look(()) == 0


def test_a_device_that_is_attached_and_silent_stops_the_release() -> None:
    assert refused(answered(ONE), expected=2) == "device-silent"
    assert refused((), expected=1) == "device-silent"
    assert refused(answered(ONE, TWO), expected=1) == "device-silent"


def test_an_answer_to_another_machine_s_question_is_a_copy() -> None:
    assert refused(answered(ONE, nonce=NONCE)) == "device-not-genuine"
    assert refused(answered(ONE), recipient=Digest.of(b"another key")) == "device-not-genuine"


def test_one_device_that_answers_twice_is_one_device() -> None:
    assert refused(answered(ONE, ONE)) == "device-twice"


def test_a_changed_report_and_a_root_that_nobody_pinned_are_refused() -> None:
    raw = bytearray(report(ONE, nonce=ASKED))
    raw[80] ^= 1
    assert refused((item(ONE, bytes(raw)),)) == "device-not-genuine"
    assert refused(answered(ONE), endorsed=Endorsements(anchors=vendor_anchors())) == "device-not-genuine"


def test_the_rules_for_devices_are_the_signed_ones() -> None:
    assert refused(answered(ONE), policy=rules(driver_floors=("999.1",))).startswith("unwanted-")
    assert refused(answered(ONE), policy=rules(chips=NOTHING)) == "unwanted-chip"
    # Without a manifest the strictest rules take no device at all.
    assert refused(answered(ONE), policy=POLICY).startswith("unwanted-")


def test_what_isn_t_a_device_is_no_device() -> None:
    with pytest.raises(MalformedError):
        look((EvidenceItem(EvidenceKind.SEV_SNP, b"{}"),))
