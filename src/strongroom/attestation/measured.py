"""Comparing what was measured with what an image lists, alternative by alternative."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from strongroom.attestation.claims import Aspect, Claim
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.reference_values import MeasuredSet, ReferenceImage
from strongroom.core.ids import ImageId


class Measured(Protocol):
    """Whatever has measurements: genuine evidence, or the result of its appraisal."""

    @property
    def kind(self) -> EvidenceKind:
        """Which kind of evidence it was."""
        ...

    @property
    def measurements(self) -> Mapping[str, str]:
        """Name to value."""
        ...


def nearest_image(seen: Measured, images: Iterable[ReferenceImage]) -> ReferenceImage | None:
    """Return the image that most measurements agree with, and among equals one that isn't revoked."""
    # The nearest is only what an explanation compares with; each of its measurements must still hold.
    return max(images, key=lambda one: (_agreement(seen, nearest_set(seen, one)), not one.revoked), default=None)


def nearest_set(seen: Measured, image: ReferenceImage) -> MeasuredSet:
    """Return the alternative that most measurements agree with; empty where the image lists none of this kind."""
    return max(image.measured.get(seen.kind, ()), key=lambda one: _agreement(seen, one), default={})


def measurement_claims(seen: Measured, image: ReferenceImage) -> list[Claim]:
    """Compare with the nearest alternative, as a whole; with none, there is one claim and it fails."""
    wanted = nearest_set(seen, image)
    if not wanted:
        # An image that nothing was predicted for on this kind is wanted on none of its machines.
        return [Claim("measurements", Aspect.EXECUTABLES, seen.kind, f"a kind that `{image.image}` lists", ok=False)]
    return [
        Claim(name, Aspect.EXECUTABLES, seen.measurements.get(name, ""), value, ok=seen.measurements.get(name) == value)
        for name, value in wanted.items()
    ]


def image_claim(nearest: ReferenceImage | None, image: ImageId | None) -> Claim:
    """Claim that the image asked for, or any, is listed and isn't revoked."""
    wanted = f"`{image}`, not revoked" if image else "an image in the reference values, not revoked"
    if nearest is None:
        return Claim("image", Aspect.EXECUTABLES, "", wanted, ok=False)
    seen = f"`{nearest.image}`{', revoked' * nearest.revoked}"
    return Claim("image", Aspect.EXECUTABLES, seen, wanted, ok=not nearest.revoked)


def _agreement(seen: Measured, wanted: MeasuredSet) -> tuple[bool, int]:
    """Tell whether all agree, and how many: a longer list that nearly agrees must not hide a shorter one that does."""
    agreeing = sum(seen.measurements.get(name) == value for name, value in wanted.items())
    return 0 < agreeing == len(wanted), agreeing
