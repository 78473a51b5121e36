"""The kinds of evidence that a verifier exists for."""

from __future__ import annotations

from enum import StrEnum


class EvidenceKind(StrEnum):
    """Kinds of evidence, each a technology's own statement."""

    TPM2 = "tpm2"
    SEV_SNP = "sev-snp"
    TDX = "tdx"
    SGX = "sgx"
    NITRO = "nitro"
    AZURE_SNP_VTPM = "azure-snp-vtpm"
    AZURE_TDX_VTPM = "azure-tdx-vtpm"
    NVIDIA_GPU = "nvidia-gpu"
    NVIDIA_SWITCH = "nvidia-switch"

    @property
    def is_device(self) -> bool:
        """True for what is attached to a platform and can't stand alone."""
        return self in {EvidenceKind.NVIDIA_GPU, EvidenceKind.NVIDIA_SWITCH}

    @property
    def family(self) -> str:
        """The submodule's name without its number, in results: ``cpu``, ``tpm``, ``gpu`` or ``switch``."""
        return {
            EvidenceKind.TPM2: "tpm",
            EvidenceKind.NVIDIA_GPU: "gpu",
            EvidenceKind.NVIDIA_SWITCH: "switch",
        }.get(self, "cpu")
