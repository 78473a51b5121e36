"""NVIDIA's recorded evidence, taken apart, with its collateral."""

from __future__ import annotations

from strongroom.attestation.bindings import ItemBinding
from strongroom.attestation.collateral import Collateral, CollateralItem, CollateralKind
from strongroom.attestation.containers.contained import Contained
from strongroom.attestation.containers.nvidia import read
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.nvidia.statement import DeviceStatement
from strongroom.attestation.trust_anchors import vendor_anchors
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.nvidia import NvidiaGpuVerifier, NvidiaSwitchVerifier
from strongroom.core.clock import parse_instant
from support.vectors import vectors_folder

PIN = parse_instant("2026-11-01T00:00:00Z")
VBIOS_535 = "NV_GPU_VBIOS_1010_0200_882_96005E0001"
GPU = NvidiaGpuVerifier()
SWITCH = NvidiaSwitchVerifier()


def raw(name: str) -> bytes:
    return (vectors_folder("attestation/nvidia") / name).read_bytes()


def contained(name: str) -> Contained:
    found = read(raw(name))
    assert found is not None
    return found


def vendor(*, manifest: str = "", chain: str = "") -> Endorsements:
    """Endorse with NVIDIA's own roots, and with a manifest for the 535 report or a chain, if they are named."""
    items = [(CollateralKind.NVIDIA_RIM, VBIOS_535, raw(manifest))] if manifest else []
    if chain:
        items += [(CollateralKind.CERTIFICATE, "chain", one) for one in contained(chain).certificates]
    found = tuple(
        CollateralItem(kind=kind, name=name, data=data, not_before=0, not_after=0) for kind, name, data in items
    )
    return Endorsements(anchors=vendor_anchors(), collateral=Collateral(found))


def proven(
    item: EvidenceItem, binding: ItemBinding, endorsements: Endorsements, at: int = PIN
) -> Genuine[DeviceStatement]:
    verifier = GPU if item.kind is EvidenceKind.NVIDIA_GPU else SWITCH
    return verifier.genuine(verifier.parse(item.body), binding, endorsements, at)
