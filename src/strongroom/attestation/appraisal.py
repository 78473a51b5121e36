"""Appraising evidence (RFC 9334, section 8): genuine first, then wanted.

A result is born as an ERROR. Two named steps can better it, in this order and no other:

    ERROR --genuine--> GENUINE --wanted--> WANTED

    wanted: 1. reference values are this deployment's   2. and in force      3. the endorsement root is still believed
            4. the image asked for, or the nearest      5. it isn't revoked  6. each measurement, one by one
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from strongroom.attestation.errors import AttestationRefusedError, NotGenuineError
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.measurement import MeasuredName, Measurement
from strongroom.attestation.platform_record import PlatformRecord
from strongroom.attestation.reference_values import ReferenceImage, ReferenceValues
from strongroom.attestation.transcript import Binding
from strongroom.attestation.verifiers.tpm2 import Genuine, genuine
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.ids import ImageId, PlatformId


class Status(StrEnum):
    """How far an appraisal came."""

    ERROR = "error"
    GENUINE = "genuine"
    WANTED = "wanted"


class ClaimName(StrEnum):
    """What is claimed besides the five measurements."""

    GENUINE = "genuine"
    REFERENCE_GENESIS = "reference-genesis"
    REFERENCE_PERIOD = "reference-period"
    ENDORSEMENT_ROOT = "endorsement-root"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class Claim:
    """One comparison: what was seen, what would have passed, and whether it did."""

    name: ClaimName | MeasuredName
    seen: str
    wanted: str
    ok: bool

    def to_json(self) -> Json:
        """Return ``{name, seen, wanted, ok}``."""
        return {"name": self.name.value, "seen": self.seen, "wanted": self.wanted, "ok": self.ok}


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationResult:
    """What the relying party gets. Every default is the refusing one.

    ``image`` and ``isolation`` are set only by the step that earns them.
    """

    platform: PlatformId
    evidence: Digest
    at: Instant
    status: Status = Status.ERROR
    reason: str = "not-appraised"
    """The code of the first claim that failed; empty only when wanted."""
    image: ImageId | None = None
    isolation: IsolationClass = IsolationClass.NONE
    reset_count: int | None = None
    reference_values: Digest | None = None
    claims: tuple[Claim, ...] = field(default=())

    @property
    def failed(self) -> tuple[Claim, ...]:
        """The claims that failed."""
        return tuple(claim for claim in self.claims if not claim.ok)

    def require_wanted(self) -> ImageId:
        """Return the image; anything short of a wanted one is refused.

        :raises AttestationRefusedError: with the first failed claim's code as its reason.
        """
        if self.status is not Status.WANTED or self.image is None or self.failed:
            names = ", ".join(f"`{claim.name}`" for claim in self.failed) or "no step was passed"
            raise AttestationRefusedError(
                f"the platform `{self.platform}` isn't attested as wanted: {names}",
                reason=self.reason or "not-appraised",
                remedy="\n".join(f"{c.name}: seen {c.seen or 'nothing'}, wanted {c.wanted}" for c in self.failed),
            )
        return self.image

    def to_json(self) -> Json:
        """Return the result for a log entry or a person; it holds no secret."""
        return {
            "v": 1,
            "status": self.status.value,
            "reason": self.reason,
            "platform": self.platform,
            "image": self.image,
            "isolation": self.isolation.value,
            "evidence": str(self.evidence),
            "reference_values": str(self.reference_values) if self.reference_values else None,
            "reset_count": self.reset_count,
            "at": format_instant(self.at),
            "claims": [claim.to_json() for claim in self.claims],
        }


def appraise(
    evidence: Evidence,
    *,
    binding: Binding,
    record: PlatformRecord,
    reference_values: ReferenceValues,
    at: Instant,
    image: ImageId | None = None,
) -> AttestationResult:
    """Appraise evidence. With ``image``, that image alone will do; without, any image that isn't revoked.

    Refusals are results, not exceptions, so that they can be logged and explained; call ``require_wanted`` to act.

    :raises UsageError: there is no binding.
    """
    result = AttestationResult(platform=evidence.platform, evidence=evidence.digest, at=at)
    try:
        proven = genuine(evidence, binding=binding, platform_record=record, at=at)
    except NotGenuineError as error:
        claim = Claim(ClaimName.GENUINE, error.seen or error.message, error.wanted or "genuine evidence", ok=False)
        return replace(result, reason=error.reason, claims=(claim,))
    except UsageError:
        raise
    except StrongroomError as error:
        claim = Claim(ClaimName.GENUINE, error.message, "genuine evidence", ok=False)
        return replace(result, reason=error.reason, claims=(claim,))
    result = replace(
        result,
        status=Status.GENUINE,
        reason="not-wanted",
        reset_count=proven.reset_count,
        claims=(Claim(ClaimName.GENUINE, "genuine evidence", "genuine evidence", ok=True),),
    )
    return _wanted(result, proven, record, reference_values, binding.genesis, image)


def _wanted(
    result: AttestationResult,
    proven: Genuine,
    record: PlatformRecord,
    values: ReferenceValues,
    genesis: Digest,
    image: ImageId | None,
) -> AttestationResult:
    root = values.root(record.ek_root)
    nearest = _nearest(proven.measurements, values, image)
    claims = [
        *result.claims,
        # 1.
        Claim(ClaimName.REFERENCE_GENESIS, str(values.genesis), str(genesis), ok=values.genesis == genesis),
        # 2.
        Claim(
            ClaimName.REFERENCE_PERIOD,
            format_instant(result.at),
            f"before {format_instant(values.not_after)}",
            ok=result.at < values.not_after,
        ),
        # 3. A root that was taken off the list takes its platforms with it.
        Claim(ClaimName.ENDORSEMENT_ROOT, str(record.ek_root), "a root in the reference values", ok=root is not None),
        # 4. and 5.
        _image_claim(nearest, image),
        # 6.
        *_measurement_claims(proven.measurements, nearest),
    ]
    judged = replace(result, reference_values=values.digest, claims=tuple(claims))
    if judged.failed or root is None or nearest is None:
        return replace(judged, reason=f"unwanted-{judged.failed[0].name}")
    # The class never exceeds what the root stands for today, whatever the record said when it was made.
    isolation = proven.isolation.weaker(root.isolation)
    return replace(judged, status=Status.WANTED, reason="", image=nearest.image, isolation=isolation)


def _nearest(seen: tuple[Measurement, ...], values: ReferenceValues, image: ImageId | None) -> ReferenceImage | None:
    candidates = [known for known in values.images if image is None or known.image == image]
    # Among equals one that isn't revoked: the nearest is only what an explanation compares with.
    return max(candidates, key=lambda known: (len(set(known.events) & set(seen)), not known.revoked), default=None)


def _image_claim(nearest: ReferenceImage | None, image: ImageId | None) -> Claim:
    wanted = f"`{image}`, not revoked" if image else "an image in the reference values, not revoked"
    if nearest is None:
        return Claim(ClaimName.IMAGE, "", wanted, ok=False)
    return Claim(ClaimName.IMAGE, f"`{nearest.image}`{', revoked' * nearest.revoked}", wanted, ok=not nearest.revoked)


def _measurement_claims(seen: tuple[Measurement, ...], nearest: ReferenceImage | None) -> list[Claim]:
    wanted = nearest.events if nearest else ()
    claims = []
    for place in range(max(len(seen), len(wanted), len(MeasuredName))):
        have = seen[place] if place < len(seen) else None
        want = wanted[place] if place < len(wanted) else None
        # Named by what should stand in this place; a sixth event is named by itself and wanted nowhere.
        named = want or have
        name = named.name if named else tuple(MeasuredName)[place]
        claims.append(
            Claim(
                name,
                f"{have.name} {have.digest}" if have else "",
                f"{want.name} {want.digest}" if want else "nothing here",
                ok=have is not None and have == want,
            )
        )
    return claims
