from __future__ import annotations

from dataclasses import replace

import pytest

from simulators.attester import GENESIS, MEASUREMENTS, NOW, attester, binding, vendor_root
from strongroom.attestation.appraisal import AttestationResult, ClaimName, Status, appraise
from strongroom.attestation.chain import EkRoot
from strongroom.attestation.errors import AttestationRefusedError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.measurement import MeasuredName, Measurement
from strongroom.attestation.reference_values import ReferenceImage, ReferenceValues
from strongroom.core.digest import Digest
from strongroom.core.ids import ImageId

BOUND = binding()
IMAGE = ReferenceImage(image=ImageId("embedder"), events=MEASUREMENTS)
VALUES = ReferenceValues(
    genesis=GENESIS,
    epoch=1,
    images=(IMAGE,),
    ek_roots=(EkRoot(vendor_root(), IsolationClass.VM_SIMULATED),),
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
    with pytest.raises(AttestationRefusedError):
        replace(born, status=Status.WANTED).require_wanted()


def test_genuine_and_wanted_evidence_names_its_image_and_class() -> None:
    result = result_of()
    assert result.require_wanted() == "embedder"
    assert (result.status, result.reason, result.failed) == (Status.WANTED, "", ())
    assert result.isolation is IsolationClass.VM_SIMULATED
    assert {claim.name for claim in result.claims} == {*ClaimName, *MeasuredName}


def test_evidence_that_is_not_genuine_stays_an_error() -> None:
    evidence = replace(attester().evidence(BOUND), signature=attester("b").evidence(BOUND).signature)
    result = appraise(evidence, binding=BOUND, record=attester().record(), reference_values=VALUES, at=NOW)
    assert (result.status, refused(result)) == (Status.ERROR, "evidence-bad-signature")
    unreadable = replace(evidence, signature=b"")
    result = appraise(unreadable, binding=BOUND, record=attester().record(), reference_values=VALUES, at=NOW)
    assert (result.status, refused(result)) == (Status.ERROR, "malformed")


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
    foreign = replace(VALUES, genesis=other, images=(replace(IMAGE, events=events),))
    assert refused(result_of(foreign)) == "unwanted-reference-genesis"


def test_a_root_that_is_no_longer_listed_takes_its_platforms_with_it() -> None:
    assert refused(result_of(replace(VALUES, ek_roots=()))) == "unwanted-endorsement-root"
