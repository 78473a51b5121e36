"""What vouches for evidence besides the evidence: pinned roots, collateral, and the record of the enrolled platform."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.attestation.collateral import NO_COLLATERAL, Collateral
from strongroom.attestation.platform_record import PlatformRecord
from strongroom.attestation.revocation import RevocationLists
from strongroom.attestation.trust_anchors import TrustAnchors


@dataclass(frozen=True, slots=True, kw_only=True)
class Endorsements:
    """Everything that a verifier may rely on. It fetches nothing."""

    anchors: TrustAnchors
    collateral: Collateral = NO_COLLATERAL
    platform: PlatformRecord | None = None
    """The enrolled platform; None where evidence is judged by its certificates alone."""

    @property
    def lists(self) -> RevocationLists:
        """The revocation lists in the collateral."""
        return self.collateral.lists
