"""Every verifier, by the kind of evidence that it judges."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.verifier import Verifier
from strongroom.attestation.verifiers.azure import AzureSnpVtpmVerifier, AzureTdxVtpmVerifier
from strongroom.attestation.verifiers.nitro import NitroVerifier
from strongroom.attestation.verifiers.nvidia import NvidiaGpuVerifier, NvidiaSwitchVerifier
from strongroom.attestation.verifiers.sev_snp import SevSnpVerifier
from strongroom.attestation.verifiers.sgx import SgxVerifier
from strongroom.attestation.verifiers.tdx import TdxVerifier
from strongroom.attestation.verifiers.tpm2 import Tpm2Verifier

VERIFIERS: Final[Mapping[EvidenceKind, Verifier[Any, Any]]] = MappingProxyType(
    {
        one.kind: one
        for one in (
            Tpm2Verifier(),
            SevSnpVerifier(),
            TdxVerifier(),
            SgxVerifier(),
            NitroVerifier(),
            AzureSnpVtpmVerifier(),
            AzureTdxVtpmVerifier(),
            NvidiaGpuVerifier(),
            NvidiaSwitchVerifier(),
        )
    }
)
