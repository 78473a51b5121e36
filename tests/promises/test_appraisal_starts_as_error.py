from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from simulators.attester import (
    APPRAISAL,
    GENESIS,
    MEASUREMENTS,
    NOW,
    SimulatedAttester,
    attester,
    binding,
    tpm_root,
    vendor_root,
)
from strongroom.attestation.appraisal import appraise, appraise_item
from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.bindings import RecordedBinding
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import AttestationRefusedError
from strongroom.attestation.evidence import Evidence, EvidenceItem
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.measurement import MeasuredName, Measurement
from strongroom.attestation.reference_values import ReferenceImage, ReferenceValues
from strongroom.attestation.registry import VERIFIERS
from strongroom.attestation.results import AttestationResult, Status, SubmoduleResult
from strongroom.attestation.tpm.statement import TpmStatement
from strongroom.attestation.trust_anchors import TrustAnchors
from strongroom.core.digest import Digest
from strongroom.core.ids import ImageId

BOUND = binding()
IMAGE = ReferenceImage.launched(ImageId("embedder"), MEASUREMENTS)
VALUES = ReferenceValues(
    genesis=GENESIS,
    epoch=1,
    images=(IMAGE,),
    anchors=(tpm_root(vendor_root()),),
    appraisal=APPRAISAL,
    not_after=NOW + 10,
)


def result_of(
    values: ReferenceValues = VALUES,
    measurements: tuple[Measurement, ...] = MEASUREMENTS,
    *,
    image: str | None = None,
    at: int = NOW,
) -> AttestationResult:
    return appraise(
        attester().evidence(BOUND, measurements),
        binding=BOUND,
        record=attester().record(),
        reference_values=values,
        at=at,
        image=ImageId(image) if image else None,
    )


def refused(result: AttestationResult) -> str:
    with pytest.raises(AttestationRefusedError) as caught:
        result.require_wanted()
    assert result.image is None
    assert result.isolation is IsolationClass.NONE
    assert caught.value.reason == result.reason
    return result.reason


def test_a_result_that_no_step_improved_allows_nothing() -> None:
    born = AttestationResult(platform=attester().record().platform, evidence=Digest.of(b""), at=NOW)
    assert (born.status, refused(born)) == (Status.ERROR, "not-appraised")


def test_a_status_alone_allows_nothing() -> None:
    born = AttestationResult(platform=attester().record().platform, evidence=Digest.of(b""), at=NOW)
    refused(replace(born, status=Status.GENUINE))
    statement = SubmoduleResult(name="tpm0", kind=EvidenceKind.TPM2, evidence=Digest.of(b""))
    assert (statement.status, statement.reason, statement.fresh) == (Status.ERROR, "not-appraised", False)
    with pytest.raises(AttestationRefusedError):
        replace(born, status=Status.WANTED).require_wanted()


def test_genuine_and_wanted_evidence_names_its_image_and_class() -> None:
    result = result_of()
    assert result.require_wanted() == "embedder"
    assert (result.status, result.reason, result.failed) == (Status.WANTED, "", ())
    assert result.isolation is IsolationClass.VM_SIMULATED
    (statement,) = result.submodules
    assert (statement.name, statement.status, statement.fresh) == ("tpm0", Status.WANTED, True)
    assert {claim.name for claim in result.claims} >= {*MeasuredName, "reference-period", "endorsement-root", "image"}
    assert (result.policy, result.reference_values) == (APPRAISAL.digest, VALUES.digest)


def test_evidence_that_is_not_genuine_stays_an_error() -> None:
    evidence = resigned(TpmStatement.parse(attester("b").evidence(BOUND).main.body).signature)
    result = appraise(evidence, binding=BOUND, record=attester().record(), reference_values=VALUES, at=NOW)
    assert (result.status, refused(result)) == (Status.ERROR, "evidence-bad-signature")
    unreadable = resigned(b"")
    result = appraise(unreadable, binding=BOUND, record=attester().record(), reference_values=VALUES, at=NOW)
    assert (result.status, refused(result)) == (Status.ERROR, "malformed")


def resigned(signature: bytes) -> Evidence:
    honest = attester().evidence(BOUND)
    statement = replace(TpmStatement.parse(honest.main.body), signature=signature)
    return replace(honest, main=EvidenceItem(EvidenceKind.TPM2, statement.to_bytes()))


@pytest.mark.parametrize("place", range(5), ids=[name.value for name in MeasuredName])
def test_one_other_measurement_is_named_with_what_would_pass(place: int) -> None:
    changed = Measurement(MEASUREMENTS[place].name, Digest.of(b"changed"))
    result = result_of(measurements=(*MEASUREMENTS[:place], changed, *MEASUREMENTS[place + 1 :]))
    (failed,) = result.failed
    assert result.status is Status.GENUINE
    assert refused(result) == f"unwanted-{MEASUREMENTS[place].name}"
    assert str(MEASUREMENTS[place].digest) in failed.wanted
    assert str(changed.digest) in failed.seen


@pytest.mark.parametrize("count", [0, 4, 6])
def test_too_few_or_too_many_measurements_are_refused(count: int) -> None:
    assert refused(result_of(measurements=(*MEASUREMENTS, MEASUREMENTS[0])[:count]))


def test_an_image_that_was_revoked_or_not_asked_for_is_refused() -> None:
    assert refused(result_of(replace(VALUES, images=(replace(IMAGE, revoked=True),)))) == "unwanted-image"
    assert refused(result_of(image="other")) == "unwanted-image"
    assert refused(result_of(replace(VALUES, images=()))) == "unwanted-image"
    assert result_of(image="embedder").require_wanted() == "embedder"


def test_reference_values_that_ended_or_are_foreign_are_refused() -> None:
    assert refused(result_of(at=VALUES.not_after)) == "unwanted-reference-period"
    other = Digest.of(b"other deployment")
    events = (*MEASUREMENTS[:-1], Measurement(MeasuredName.GENESIS, other))
    foreign = replace(VALUES, genesis=other, images=(ReferenceImage.launched(ImageId("embedder"), events),))
    assert refused(result_of(foreign)) == "unwanted-reference-genesis"


def test_a_root_that_is_no_longer_listed_takes_its_platforms_with_it() -> None:
    assert refused(result_of(replace(VALUES, anchors=()))) == "unwanted-endorsement-root"


def test_a_kind_that_the_policy_does_not_take_is_refused() -> None:
    policy = AppraisalPolicy(
        kinds={EvidenceKind.SEV_SNP: VERIFIERS[EvidenceKind.SEV_SNP].policy.strictest()},
        devices=None,
        reattest_seconds=600,
    )
    assert refused(result_of(replace(VALUES, appraisal=policy))) == "unwanted-kind"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"recipient_key": bytes(1216)}, "evidence-other-recipient"),
        ({"devices": (EvidenceItem(EvidenceKind.NVIDIA_GPU, b"{}"),)}, "evidence-other-devices"),
    ],
)
def test_what_came_is_what_the_binding_was_made_for(changes: dict[str, Any], reason: str) -> None:
    evidence = replace(attester().evidence(BOUND), **changes)
    result = appraise(evidence, binding=BOUND, record=attester().record(), reference_values=VALUES, at=NOW)
    assert (result.status, refused(result)) == (Status.ERROR, reason)


def test_the_record_of_another_platform_judges_nothing() -> None:
    other = SimulatedAttester(ec.generate_private_key(ec.SECP256R1())).record()
    result = appraise(attester().evidence(BOUND), binding=BOUND, record=other, reference_values=VALUES, at=NOW)
    assert (result.status, refused(result)) == (Status.ERROR, "evidence-other-platform")


def test_recorded_evidence_is_genuine_and_never_wanted() -> None:
    endorsements = Endorsements(anchors=TrustAnchors(VALUES.anchors), platform=attester().record())
    item = attester().evidence(BOUND).main
    result = appraise_item("tpm0", item, binding=RecordedBinding(), endorsements=endorsements, policy=APPRAISAL, at=NOW)
    assert (result.status, result.reason) == (Status.GENUINE, "unwanted-fresh")
