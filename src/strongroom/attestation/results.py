"""Attestation results: what the relying party gets. Every default is the refusing one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from strongroom.attestation.claims import Claim
from strongroom.attestation.errors import AttestationRefusedError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.ids import ImageId, PlatformId

GENUINE_CLAIM: Final = "genuine"


class Status(StrEnum):
    """How far an appraisal came."""

    ERROR = "error"
    GENUINE = "genuine"
    WANTED = "wanted"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmoduleResult:
    """What came of one statement."""

    name: str
    """``cpu0``, ``tpm0``, ``gpu3``, ``switch0``."""
    kind: EvidenceKind
    evidence: Digest
    """SHA-256 of the statement's body."""
    status: Status = Status.ERROR
    reason: str = "not-appraised"
    """The code of the first claim that failed; empty only when wanted."""
    claims: tuple[Claim, ...] = ()
    fresh: bool = False
    isolation: IsolationClass = IsolationClass.NONE
    hardware_id: bytes = b""
    measurements: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    endorsed_until: Instant | None = None
    reset_count: int | None = None

    @property
    def failed(self) -> tuple[Claim, ...]:
        """The claims that failed."""
        return tuple(claim for claim in self.claims if not claim.ok)

    def to_json(self) -> Json:
        """Return the result for a log entry or a person; it holds no secret."""
        return {
            "name": self.name,
            "kind": self.kind.value,
            "evidence": str(self.evidence),
            "status": self.status.value,
            "reason": self.reason,
            "fresh": self.fresh,
            "isolation": self.isolation.value,
            "hardware_id": self.hardware_id.hex(),
            "measurements": dict(self.measurements),
            "details": dict(self.details),
            "endorsed_until": None if self.endorsed_until is None else format_instant(self.endorsed_until),
            "claims": [claim.to_json() for claim in self.claims],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationResult:
    """What came of a platform's evidence. ``image`` and ``isolation`` are set only by the step that earns them."""

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
    policy: Digest | None = None
    recipient_key: Digest | None = None
    nonce: bytes = b""
    """The challenge's nonce that the evidence was bound to."""
    endorsed_until: Instant | None = None
    """The earliest end of anything that the verdict rests on."""
    claims: tuple[Claim, ...] = ()
    """What concerns the platform as a whole; each statement's own claims are in ``submodules``."""
    submodules: tuple[SubmoduleResult, ...] = ()

    @property
    def failed(self) -> tuple[Claim, ...]:
        """The claims that failed: the statements' first, then the platform's."""
        return (
            *(claim for one in self.submodules for claim in one.failed),
            *(claim for claim in self.claims if not claim.ok),
        )

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
            "policy": str(self.policy) if self.policy else None,
            "reset_count": self.reset_count,
            "at": format_instant(self.at),
            "claims": [claim.to_json() for claim in self.claims],
            "submodules": [one.to_json() for one in self.submodules],
        }
