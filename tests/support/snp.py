"""Endorsements for SEV-SNP reports: anchors, certificates and lists, as tests hand them in."""

from __future__ import annotations

from collections.abc import Iterable

from strongroom.attestation.collateral import Collateral, CollateralItem, CollateralKind
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.trust_anchors import TrustAnchors


def endorsements(
    anchors: TrustAnchors, *, certificates: Iterable[bytes] = (), lists: Iterable[bytes] = ()
) -> Endorsements:
    """Return endorsements with a collateral bundle of these DER items."""
    kinds = ((CollateralKind.CERTIFICATE, certificates), (CollateralKind.REVOCATION_LIST, lists))
    return Endorsements(
        anchors=anchors,
        collateral=Collateral(
            tuple(
                CollateralItem(kind=kind, name=f"{kind}-{number}", data=data, not_before=0, not_after=2**33)
                for kind, ders in kinds
                for number, data in enumerate(ders)
            )
        ),
    )
