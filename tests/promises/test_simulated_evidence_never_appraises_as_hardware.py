from __future__ import annotations

import os

import pytest

from simulators.attester import (
    APPRAISAL,
    GENESIS,
    HARDWARE,
    MEASUREMENTS,
    NOW,
    SIMULATOR,
    attester,
    authority_certificate,
    binding,
    ek_certificate,
    enrolment_request,
    tpm_root,
    vendor_root,
)
from strongroom.attestation.appraisal import appraise
from strongroom.attestation.enrolment import begin, finish
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.platform_record import TPM_CLASSES as ENROLLABLE
from strongroom.attestation.platform_record import PlatformRecord
from strongroom.attestation.reference_values import ReferenceImage, ReferenceValues
from strongroom.attestation.trust_anchors import TrustAnchor
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ImageId
from strongroom.core.insecure_secret_access import TOKEN

HARDWARE_ROOT = tpm_root(vendor_root(), IsolationClass.MEASURED_HOST)
SIMULATED_ROOT = tpm_root(vendor_root(), IsolationClass.VM_SIMULATED)


def enrolled(tpm: tuple[str, str, str], root: TrustAnchor) -> PlatformRecord:
    request = enrolment_request(ek_certificate(tpm=tpm))
    pending = begin(request, roots=[root], at=NOW, random_bytes=os.urandom)
    return finish(pending, bytes(pending.secret.reveal(TOKEN)), at=NOW)


def appraised(record: PlatformRecord, root: TrustAnchor) -> IsolationClass:
    bound = binding()
    values = ReferenceValues(
        genesis=GENESIS,
        epoch=1,
        images=(ReferenceImage.launched(ImageId("embedder"), MEASUREMENTS),),
        anchors=(root,),
        appraisal=APPRAISAL,
        not_after=NOW + 10,
    )
    result = appraise(attester().evidence(bound), binding=bound, record=record, reference_values=values, at=NOW)
    result.require_wanted()
    return result.isolation


def test_hardware_under_a_hardware_root_is_a_measured_host() -> None:
    assert appraised(enrolled(HARDWARE, HARDWARE_ROOT), HARDWARE_ROOT) is IsolationClass.MEASURED_HOST


@pytest.mark.parametrize(
    "tpm",
    [
        SIMULATOR,
        ("ID:00001014", "SLB9670", "id:0"),
        ("id:49465800", "swtpm", "id:0"),
        ("id:49465800", "My SWTPM 2", "id:0"),
    ],
)
def test_a_certificate_that_says_simulator_is_one_even_under_a_hardware_root(tpm: tuple[str, str, str]) -> None:
    assert appraised(enrolled(tpm, HARDWARE_ROOT), HARDWARE_ROOT) is IsolationClass.VM_SIMULATED


def test_a_simulated_root_makes_whatever_it_certifies_simulated() -> None:
    assert appraised(enrolled(HARDWARE, SIMULATED_ROOT), SIMULATED_ROOT) is IsolationClass.VM_SIMULATED


def test_a_record_never_outranks_the_root_as_it_is_listed_today() -> None:
    assert appraised(enrolled(HARDWARE, HARDWARE_ROOT), SIMULATED_ROOT) is IsolationClass.VM_SIMULATED
    assert appraised(enrolled(SIMULATOR, HARDWARE_ROOT), HARDWARE_ROOT) is IsolationClass.VM_SIMULATED


def test_a_root_can_not_stand_in_both_sets() -> None:
    # The same key in a second certificate is the same root.
    twin = authority_certificate("vendor root", "vendor root", days=300)
    assert twin != vendor_root()
    for other in (vendor_root(), twin):
        roots = (HARDWARE_ROOT, tpm_root(other, IsolationClass.VM_SIMULATED))
        with pytest.raises(MalformedError, match="twice"):
            ReferenceValues(genesis=GENESIS, epoch=1, images=(), anchors=roots, appraisal=APPRAISAL, not_after=NOW)


@pytest.mark.parametrize("isolation", sorted(set(IsolationClass) - ENROLLABLE))
def test_no_tpm_is_enrolled_into_a_class_that_needs_other_evidence(isolation: IsolationClass) -> None:
    with pytest.raises(MalformedError):
        attester().record(isolation)
    roots = (tpm_root(vendor_root(), isolation),)
    with pytest.raises(MalformedError):
        ReferenceValues(genesis=GENESIS, epoch=1, images=(), anchors=roots, appraisal=APPRAISAL, not_after=NOW)


def test_classes_are_ordered_by_strength_not_by_spelling() -> None:
    names = [item.value for item in IsolationClass]
    assert names == [
        "none", "process", "vm-simulated", "measured-host", "cvm-weak", "cvm", "cvm+gpu", "cvm+gpu+custody",
    ]  # fmt: skip
    assert IsolationClass.CVM.at_least(IsolationClass.VM_SIMULATED)
    assert not IsolationClass.VM_SIMULATED.at_least(IsolationClass.CVM)
    assert IsolationClass.VM_SIMULATED.weaker(IsolationClass.CVM) is IsolationClass.VM_SIMULATED
