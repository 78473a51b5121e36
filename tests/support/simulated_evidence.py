"""Evidence of every kind by simulated makers, and what it is judged with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Final

from simulators import nvidia_chain, sev_snp_chain
from simulators.azure_vtpm import Vtpm
from simulators.intel_chain import intel_chain
from simulators.nitro_chain import nitro_chain
from simulators.tpm_chain import agile_log, boot, registers, virtual_tpm
from strongroom.attestation.azure.hcl_report import HardwareKind
from strongroom.attestation.bundle.reading import read_item
from strongroom.attestation.collateral import Collateral, CollateralItem, CollateralKind
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.trust_anchors import vendor_anchors
from strongroom.core.clock import Instant

AT: Final[Instant] = 1_790_000_060
"""Every simulated certificate, list and collateral but NVIDIA's answers is current then."""


@cache
def endorsements() -> Endorsements:
    """Return all simulated roots beside the makers' own, and what simulated makers publish."""
    anchors = vendor_anchors().joined(
        (
            *sev_snp_chain.anchors().anchors,
            intel_chain().anchor,
            nitro_chain().anchor,
            virtual_tpm().anchor,
            *nvidia_chain.maker().anchors.anchors,
        )
    )
    intel = (read_item(CollateralKind.INTEL_TCB, intel_chain().collateral(tee=tee)).item for tee in ("TDX", "SGX"))
    ders = (sev_snp_chain.authorities().ask.der, sev_snp_chain.Machine().certificate())
    certificates = (read_item(CollateralKind.CERTIFICATE, der).item for der in ders)
    items: tuple[CollateralItem, ...] = (*intel, *certificates)
    return Endorsements(anchors=anchors, collateral=Collateral(items))


def simulated_body(kind: EvidenceKind) -> bytes:
    """Return the body of an honest statement of this kind."""
    return _BODIES[kind]()


def _tpm() -> bytes:
    log = agile_log(boot())
    return virtual_tpm().statement(registers(log), event_log=log).to_bytes()


def _gpu() -> bytes:
    device = nvidia_chain.device()
    return nvidia_chain.item(device, nvidia_chain.report(device)).body


def _switch() -> bytes:
    device = nvidia_chain.device("LS_10")
    raw = nvidia_chain.report(device, opaque=nvidia_chain.entries(nvidia_chain.SWITCH_FIELDS))
    return nvidia_chain.item(device, raw, EvidenceKind.NVIDIA_SWITCH).body


_BODIES: Final[Mapping[EvidenceKind, Callable[[], bytes]]] = MappingProxyType(
    {
        EvidenceKind.TPM2: _tpm,
        EvidenceKind.SEV_SNP: lambda: sev_snp_chain.Machine().body(),
        EvidenceKind.TDX: lambda: intel_chain().td_quote(),
        EvidenceKind.SGX: lambda: intel_chain().sgx_quote(),
        EvidenceKind.NITRO: lambda: nitro_chain().document(),
        EvidenceKind.AZURE_SNP_VTPM: lambda: Vtpm().on_snp().to_bytes(HardwareKind.SEV_SNP),
        EvidenceKind.AZURE_TDX_VTPM: lambda: Vtpm().on_tdx().to_bytes(HardwareKind.TDX),
        EvidenceKind.NVIDIA_GPU: _gpu,
        EvidenceKind.NVIDIA_SWITCH: _switch,
    }
)
