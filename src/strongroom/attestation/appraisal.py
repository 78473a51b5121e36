"""Appraising evidence (RFC 9334, section 8): genuine first, then wanted.

Each statement's result is born as an ERROR. Two named steps can better it, in this order and no other:

    ERROR --genuine--> GENUINE --wanted--> WANTED

    genuine: the kind's own verifier, with the bytes that this statement must commit to
    wanted:  1. made for this challenge      2. the policy takes this kind      3. each field of the kind's rules

and the platform is wanted when all its statements are, and

    4. the reference values are this deployment's   5. and in force        6. the record's root is still believed
    7. the record is this machine's                 8. the image asked for, or the nearest, isn't revoked
    9. each measurement, one by one                10. the devices are those that the image wants
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.bindings import ItemBinding
from strongroom.attestation.claims import Aspect, Claim, equal
from strongroom.attestation.collateral import NO_COLLATERAL, Collateral
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import NotGenuineError
from strongroom.attestation.evidence import Evidence, EvidenceItem
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.measured import image_claim, measurement_claims, nearest_image
from strongroom.attestation.platform_record import EnrolledChip, PlatformRecord
from strongroom.attestation.reference_values import ReferenceImage, ReferenceValues
from strongroom.attestation.registry import VERIFIERS
from strongroom.attestation.results import GENUINE_CLAIM, AttestationResult, Status, SubmoduleResult
from strongroom.attestation.transcript import Binding
from strongroom.attestation.trust_anchors import vendor_anchors
from strongroom.attestation.verifier import Genuine
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.ids import ImageId


def appraise_item(
    name: str,
    item: EvidenceItem,
    *,
    binding: ItemBinding,
    endorsements: Endorsements,
    policy: AppraisalPolicy,
    at: Instant,
) -> SubmoduleResult:
    """Appraise one statement: steps 1 to 3. Refusals are results, so that they can be logged and explained.

    :raises UsageError: there is no binding, or a library that this kind needs isn't installed.
    """
    return _appraised(name, item, binding, endorsements, policy, at)[0]


def appraise(
    evidence: Evidence,
    *,
    binding: Binding,
    record: PlatformRecord,
    reference_values: ReferenceValues,
    at: Instant,
    collateral: Collateral = NO_COLLATERAL,
    image: ImageId | None = None,
) -> AttestationResult:
    """Appraise a platform's evidence. With ``image``, that image alone will do; without, any that isn't revoked.

    Refusals are results, not exceptions; call ``require_wanted`` to act.

    :raises UsageError: there is no binding, or a library that a kind needs isn't installed.
    """
    if not isinstance(binding, Binding):
        # A verifier that took "no binding" for "any binding" would accept every old piece of evidence.
        raise UsageError("evidence can't be judged without the binding that it must carry")
    anchors = vendor_anchors().joined(reference_values.anchors)
    endorsements = Endorsements(anchors=anchors, collateral=collateral, platform=record)
    result = AttestationResult(
        platform=evidence.platform,
        evidence=evidence.digest,
        at=at,
        reference_values=reference_values.digest,
        policy=reference_values.appraisal.digest,
        recipient_key=evidence.recipient_digest,
        nonce=binding.nonce,
    )
    if apart := _envelope_claims(evidence, binding, record):
        return replace(result, reason=apart[0][0], claims=tuple(claim for _, claim in apart))
    judged = [
        _appraised(name, item, binding.item(item.kind), endorsements, reference_values.appraisal, at)
        for name, item in evidence.submodules()
    ]
    submodules = tuple(one for one, _ in judged)
    result = replace(result, submodules=submodules, reset_count=submodules[0].reset_count)
    if any(one.status is Status.ERROR for one in submodules):
        # Comparing what may be forged with what is wanted would explain nothing.
        return replace(result, reason=next(one.reason for one in submodules if one.status is Status.ERROR))
    proven = tuple(one for _, one in judged if one is not None)
    return _wanted(
        replace(result, status=Status.GENUINE, reason="not-wanted"), proven, record, binding, reference_values, image
    )


def _envelope_claims(evidence: Evidence, binding: Binding, record: PlatformRecord) -> list[tuple[str, Claim]]:
    # What the binding was built from must be what came: else the keys would go to somebody the evidence doesn't name.
    pairs = (
        ("evidence-other-platform", "platform", evidence.platform, record.platform),
        ("evidence-other-recipient", "recipient-key", str(evidence.recipient_digest), str(binding.recipient_key)),
        ("evidence-other-devices", "devices", str(evidence.devices_digest), str(binding.devices)),
    )
    claims = [(reason, equal(name, Aspect.INSTANCE_IDENTITY, seen, wanted)) for reason, name, seen, wanted in pairs]
    return [(reason, claim) for reason, claim in claims if not claim.ok]


def _appraised(
    name: str,
    item: EvidenceItem,
    binding: ItemBinding,
    endorsements: Endorsements,
    policy: AppraisalPolicy,
    at: Instant,
) -> tuple[SubmoduleResult, Genuine[Any] | None]:
    result = SubmoduleResult(name=name, kind=item.kind, evidence=Digest.of(item.body))
    verifier = VERIFIERS[item.kind]
    try:
        proven = verifier.genuine(verifier.parse(item.body), binding, endorsements, at)
    except UsageError:
        raise
    except StrongroomError as error:
        return replace(result, reason=error.reason, claims=(_not_genuine(error),)), None
    rules = policy.kinds.get(item.kind)
    claims = (
        Claim(GENUINE_CLAIM, Aspect.INSTANCE_IDENTITY, "genuine evidence", "genuine evidence", ok=True),
        # 1.
        Claim("fresh", Aspect.INSTANCE_IDENTITY, _freshness(proven), "made for this challenge", ok=proven.bound.fresh),
        # 2.
        Claim("kind", Aspect.CONFIGURATION, item.kind, "a kind that the policy takes", ok=rules is not None),
        # 3.
        *(verifier.judge(proven, rules) if rules is not None else ()),
    )
    failed = next((claim for claim in claims if not claim.ok), None)
    judged = replace(
        result,
        status=Status.GENUINE if failed else Status.WANTED,
        reason=f"unwanted-{failed.name}" if failed else "",
        claims=claims,
        fresh=proven.bound.fresh,
        isolation=proven.isolation,
        hardware_id=proven.hardware_id,
        measurements=proven.measurements,
        details=proven.details,
        endorsed_until=proven.endorsed_until,
        reset_count=proven.reset_count,
    )
    return judged, proven


def _not_genuine(error: StrongroomError) -> Claim:
    seen, wanted = error.message, "genuine evidence"
    if isinstance(error, NotGenuineError):
        seen = f"{error.message}: {error.seen}" if error.seen else seen
        wanted = error.wanted or wanted
    return Claim(GENUINE_CLAIM, Aspect.INSTANCE_IDENTITY, seen, wanted, ok=False)


def _freshness(proven: Genuine[Any]) -> str:
    return "made for this challenge" if proven.bound.fresh else "recorded evidence, its challenge unknown"


def _wanted(
    result: AttestationResult,
    proven: tuple[Genuine[Any], ...],
    record: PlatformRecord,
    binding: Binding,
    values: ReferenceValues,
    image: ImageId | None,
) -> AttestationResult:
    main = proven[0]
    nearest = _nearest(main, values, image)
    claims = (
        # 4.
        equal("reference-genesis", Aspect.CONFIGURATION, str(values.genesis), str(binding.genesis)),
        # 5.
        Claim(
            "reference-period",
            Aspect.CONFIGURATION,
            format_instant(result.at),
            f"before {format_instant(values.not_after)}",
            ok=result.at < values.not_after,
        ),
        # 6. A root that was taken off the list takes its platforms with it.
        Claim(
            "endorsement-root",
            Aspect.INSTANCE_IDENTITY,
            str(record.anchor),
            "a root that is believed",
            ok=_anchor_class(record, values) is not None,
        ),
        # 7.
        *_record_claims(main, record),
        # 8.
        image_claim(nearest, image),
        # 9. and 10.
        *(measurement_claims(main, nearest) if nearest else ()),
        *_device_claims(proven[1:], nearest, values),
    )
    until = min(one.endorsed_until for one in proven)
    judged = replace(result, claims=claims, endorsed_until=until)
    if judged.failed or nearest is None:
        return replace(judged, reason=f"unwanted-{judged.failed[0].name}")
    isolation = _isolation(proven, record, values, result.at)
    return replace(judged, status=Status.WANTED, reason="", image=nearest.image, isolation=isolation)


def _anchor_class(record: PlatformRecord, values: ReferenceValues) -> IsolationClass | None:
    # What a TPM is enrolled under, the deployment lists itself; so taking it off the list is all that it takes.
    shipped = () if record.kind is EvidenceKind.TPM2 else vendor_anchors().anchors
    known = {one.digest: one.isolation for one in (*shipped, *values.anchors)}
    return known.get(record.anchor)


def _record_claims(main: Genuine[Any], record: PlatformRecord) -> Iterable[Claim]:
    yield equal("platform-kind", Aspect.INSTANCE_IDENTITY, main.kind.value, record.kind.value)
    if isinstance(record.identity, EnrolledChip):
        yield equal("platform", Aspect.INSTANCE_IDENTITY, main.hardware_id, record.identity.hardware_id)


def _isolation(
    proven: tuple[Genuine[Any], ...], record: PlatformRecord, values: ReferenceValues, at: Instant
) -> IsolationClass:
    # The class never exceeds what the root stands for today, whatever the record said when it was made.
    root = _anchor_class(record, values) or IsolationClass.NONE
    main = proven[0].isolation.weaker(record.isolation).weaker(root)
    for device in proven[1:]:
        main = main.weaker(device.isolation)  # one simulated device makes the whole simulated
    if main is not IsolationClass.CVM or len(proven) == 1:
        return main
    return IsolationClass.CVM_GPU_CUSTODY if values.in_custody(record.platform, at) else IsolationClass.CVM_GPU


def _nearest(main: Genuine[Any], values: ReferenceValues, image: ImageId | None) -> ReferenceImage | None:
    return nearest_image(main, [known for known in values.images if image is None or known.image == image])


def _device_claims(
    devices: tuple[Genuine[Any], ...], image: ReferenceImage | None, values: ReferenceValues
) -> Iterable[Claim]:
    listed = {kind for kind in image.measured if kind.is_device} if image else set()
    seen = {device.kind for device in devices}
    # A device that the image doesn't know could read what is sent to it; one that is missing wasn't checked.
    yield Claim("devices", Aspect.HARDWARE, _kinds(seen), _kinds(listed), ok=seen == listed)
    for device in devices:
        if image is not None and device.kind in listed:
            yield from measurement_claims(device, image)
    if values.appraisal.devices is not None and (devices or listed):
        by_kind = {kind: [one.statement for one in devices if one.kind is kind] for kind in EvidenceKind}
        yield from values.appraisal.devices.claims(
            by_kind[EvidenceKind.NVIDIA_GPU], by_kind[EvidenceKind.NVIDIA_SWITCH]
        )


def _kinds(kinds: set[Any]) -> str:
    return ", ".join(sorted(kinds)) or "none"
