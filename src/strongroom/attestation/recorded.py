"""Appraising evidence from a file, by anyone: no deployment, no enrolled platform, no network.

A file holds statements, and each is appraised by itself. Only a live challenge shows that they belong to one machine:
the class that they support together is never better than the weakest one's, and devices alone support none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from strongroom.attestation.appraisal import appraise_item
from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.bindings import Bound, ItemBinding, Slot
from strongroom.attestation.claims import Aspect, Claim
from strongroom.attestation.containers import amd, aws, azure, intel, nvidia, strongroom, tpm
from strongroom.attestation.containers.contained import Contained, check_size
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.evidence import named_items
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.measured import image_claim, measurement_claims, nearest_image
from strongroom.attestation.nvidia.dice import Architecture
from strongroom.attestation.nvidia.names import driver_manifest, firmware_manifest
from strongroom.attestation.nvidia.statement import DeviceStatement
from strongroom.attestation.reference_values import ReferenceImage
from strongroom.attestation.results import Status, SubmoduleResult
from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ImageId

_READERS: Final = (strongroom.read, amd.read, aws.read, azure.read, intel.read, nvidia.read, tpm.read)
MAX_STATEMENTS: Final = 64
FRESH_CLAIM: Final = "fresh"
"""What recorded evidence never meets: made for this challenge."""


def read_file(data: bytes) -> Contained:
    """Read a file of evidence in whichever form a vendor's tool, or an agent, wrote it.

    :raises MalformedError: no form that is known, a broken one, or one that two readers claim.
    """
    check_size(data)
    found: list[Contained] = []
    broken: list[MalformedError] = []
    for read in _READERS:
        try:
            contained = read(data)
        except MalformedError as error:
            broken.append(error)
        else:
            found += [contained] if contained is not None else []
    if len(found) > 1:
        # Two readers that see two things in the same bytes: whoever made the file chooses what each of us believes.
        forms = " and as ".join(f"`{one.form}`" for one in found)
        raise MalformedError(f"the file reads as {forms}")
    if found:
        return _bounded(found[0])
    if broken:
        raise broken[0]
    raise MalformedError(
        "the file holds no evidence of a form that is known",
        remedy="docs/operate/verify-evidence.md lists the forms; certificates and collateral go with --with",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One statement's result, and the bytes of the relying party that it commits to."""

    result: SubmoduleResult
    committed: Mapping[Slot, bytes]
    """Empty where the statement isn't genuine up to there: what it says then is anybody's word."""


def appraise_recorded(
    contained: Contained,
    *,
    policy: AppraisalPolicy,
    endorsements: Endorsements,
    binding: ItemBinding,
    at: Instant,
    images: Iterable[ReferenceImage] | None = None,
    image: ImageId | None = None,
) -> tuple[Recorded, ...]:
    """Appraise each statement of a file. With ``images``, what was measured must be one of them (or ``image``).

    :raises UsageError: the binding has no bytes for a statement, or a library that a kind needs isn't installed.
    """
    listed = None if images is None else [one for one in images if image is None or one.image == image]
    found = []
    for name, item in named_items(contained.items):
        heard = _Heard(binding)
        result = appraise_item(name, item, binding=heard, endorsements=endorsements, policy=policy, at=at)
        if listed is not None:
            result = _measured(result, listed, image)
        found.append(Recorded(result=result, committed=heard.committed))
    return _each_device_once(found)


def manifests_wanted(contained: Contained) -> tuple[str, ...]:
    """Return the RIM ids that a file's NVIDIA statements ask for: manifests don't state their own.

    What is said here is anybody's word, and only finds the manifest; its signature and version are checked like any.
    """
    found: dict[str, None] = {}
    for item in contained.items:
        if not item.kind.is_device:
            continue
        with suppress(MalformedError):
            opaque = DeviceStatement.parse(item.body).opaque
            for architecture in Architecture:
                if architecture.kind is item.kind:
                    found[firmware_manifest(architecture, opaque)] = None
                    found[driver_manifest(architecture, opaque)] = None
    return tuple(found)


class _Heard:
    """Passes a binding on, and keeps what was compared with it."""

    def __init__(self, binding: ItemBinding) -> None:
        self._binding = binding
        self.committed: Mapping[Slot, bytes] = {}

    def bound(self, seen: Mapping[Slot, bytes]) -> Bound:
        bound = self._binding.bound(seen)
        self.committed = dict(bound.seen)
        return bound


def isolation_of(results: Sequence[SubmoduleResult]) -> IsolationClass:
    """Return the class that the statements of one file support together."""
    if any(one.status is Status.ERROR for one in results):
        return IsolationClass.NONE  # a statement that isn't genuine proves nothing of the others
    if any(one.isolation.simulated for one in results):
        return IsolationClass.VM_SIMULATED  # worse than none, though it comes after it in the order
    if all(one.kind.is_device for one in results):
        return IsolationClass.NONE  # what a device is attached to isn't known
    found = results[0].isolation
    for one in results[1:]:
        found = found.weaker(one.isolation)
    return found


def _each_device_once(found: Sequence[Recorded]) -> tuple[Recorded, ...]:
    """Refuse what a device says twice: one that is good would stand for others that nobody looked at."""
    chips = Counter(one.result.hardware_id for one in found if one.result.kind.is_device)
    return tuple(
        replace(one, result=_twice(one.result, chips[one.result.hardware_id]))
        if one.result.kind.is_device and one.result.hardware_id and chips[one.result.hardware_id] > 1
        else one
        for one in found
    )


def _twice(result: SubmoduleResult, times: int) -> SubmoduleResult:
    claim = Claim("device-once", Aspect.INSTANCE_IDENTITY, f"{times} statements of one device", "one", ok=False)
    return _lowered(replace(result, claims=(*result.claims, claim)))


def _lowered(result: SubmoduleResult) -> SubmoduleResult:
    """Take back that a statement is wanted where a claim has failed since."""
    if result.failed and result.status is Status.WANTED:
        return replace(result, status=Status.GENUINE, reason=f"unwanted-{result.failed[0].name}")
    return result


def _bounded(contained: Contained) -> Contained:
    if not contained.items:
        raise MalformedError("the file holds certificates and no evidence", remedy="hand it in --with the evidence")
    if len(contained.items) > MAX_STATEMENTS:
        raise MalformedError(f"a file holds at most {MAX_STATEMENTS} statements, not {len(contained.items)}")
    return contained


def _measured(result: SubmoduleResult, images: list[ReferenceImage], image: ImageId | None) -> SubmoduleResult:
    if result.status is Status.ERROR:
        return result
    if result.kind.is_device:
        images = [one for one in images if result.kind in one.measured]
    nearest = nearest_image(result, images)
    claims = [image_claim(nearest, image), *(measurement_claims(result, nearest) if nearest else ())]
    return _lowered(replace(result, claims=(*result.claims, *claims)))
