"""Collateral of simulated makers, and where a keeper in memory keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from simulators import nvidia_chain, sev_snp_chain
from simulators.intel_chain import intel_chain
from strongroom.attestation.bundle.format import Bundle
from strongroom.attestation.bundle.reading import read_item
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.trust_anchors import TrustAnchors, vendor_anchors
from strongroom.core.digest import Digest


@dataclass
class MemoryCollateral:
    """Kept bundles, in memory."""

    kept: dict[Digest, bytes] = field(default_factory=dict)

    def load(self, digest: Digest) -> bytes | None:
        """Return a bundle."""
        return self.kept.get(digest)

    def save(self, digest: Digest, data: bytes) -> None:
        """Keep a bundle."""
        self.kept[digest] = data

    def keep_only(self, digest: Digest) -> None:
        """Forget the others."""
        self.kept = {name: data for name, data in self.kept.items() if name == digest}


def items(*data: tuple[CollateralKind, bytes] | tuple[CollateralKind, bytes, str]) -> Bundle:
    """Make a bundle of kinds and data, and names where they don't follow from the data."""
    return Bundle.of(read_item(kind, one, name=name[0] if name else "") for kind, one, *name in data)


def certificate(data: bytes) -> tuple[CollateralKind, bytes]:
    """Name a certificate's kind."""
    return CollateralKind.CERTIFICATE, data


def simulated_anchors() -> TrustAnchors:
    """Return the roots of every simulated maker, and the real ones."""
    return vendor_anchors().joined(
        (*sev_snp_chain.anchors().anchors, intel_chain().anchor, *nvidia_chain.maker().anchors.anchors)
    )


@cache
def device() -> nvidia_chain.Device:
    """Return one simulated GPU."""
    return nvidia_chain.device()


@cache
def rim() -> bytes:
    """Return a signed manifest of a VBIOS."""
    return nvidia_chain.manifest("96.00.A5.00.01", {1: [bytes(48)]})


RIM_ID = "NV_GPU_VBIOS_G520_0200_885_9600A50001"


@cache
def whole() -> Bundle:
    """Return a bundle with everything that simulated makers publish."""
    made = nvidia_chain.maker()
    product = sev_snp_chain.authorities()
    machine = sev_snp_chain.Machine()
    return items(
        certificate(product.ask.der),
        certificate(machine.certificate()),
        (CollateralKind.REVOCATION_LIST, sev_snp_chain.revocation_list()),
        (CollateralKind.INTEL_TCB, intel_chain().collateral()),
        (CollateralKind.INTEL_TCB, intel_chain().collateral(tee="SGX")),
        (CollateralKind.NVIDIA_RIM, rim(), RIM_ID),
        certificate(made.family.der),
        certificate(made.provisioner.der),
        (CollateralKind.OCSP_ANSWER, nvidia_chain.answer(made.family, made.root)),
        (CollateralKind.OCSP_ANSWER, nvidia_chain.answer(device().factory, made.provisioner)),
    )
