"""What is verified: real evidence where it lies beside the checkout, and simulators' of every kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from strongroom.attestation.bindings import RecordedBinding
from strongroom.attestation.collateral import NO_COLLATERAL
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import CollateralMissingError
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.registry import VERIFIERS
from strongroom.core.clock import Instant
from support import simulated_evidence
from support.vector_cases import (
    AZURE_DOMAIN,
    AZURE_GENOA,
    GENOA_REPORT,
    GPU_535,
    GPUS,
    MILAN_REPORT,
    NITRO_DOCUMENT,
    SGX_QUOTE,
    SWITCHES,
    TD_QUOTE,
    TPM_QUOTE,
    VectorCase,
)
from support.vectors import vectors_root

REAL: Final[tuple[tuple[str, VectorCase], ...]] = (
    ("tpm2, Compute Engine, firmware's log", TPM_QUOTE),
    ("sev-snp, Milan, report version 2", MILAN_REPORT),
    ("sev-snp, Genoa, report version 3", GENOA_REPORT),
    ("tdx, quote version 4", TD_QUOTE),
    ("sgx, quote version 3", SGX_QUOTE),
    ("nitro", NITRO_DOCUMENT),
    ("azure-snp-vtpm, Genoa", AZURE_GENOA),
    ("azure-tdx-vtpm, without Intel's collateral", AZURE_DOMAIN),
    ("nvidia-gpu, H100", GPUS),
    ("nvidia-gpu, H100, with a manifest (RIM)", GPU_535),
    ("nvidia-switch", SWITCHES),
)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One statement and what it is judged with."""

    name: str
    kind: EvidenceKind
    body: bytes
    endorsements: Endorsements
    at: Instant
    policy: Any

    def parse(self, body: bytes) -> object:
        """Read the body alone."""
        return VERIFIERS[self.kind].parse(body)

    def judge(self, body: bytes) -> object:
        """Do all that an appraisal does with one statement: parse, genuine, every claim of the policy."""
        verifier = VERIFIERS[self.kind]
        proven = verifier.genuine(verifier.parse(body), RecordedBinding(), self.endorsements, self.at)
        return tuple(verifier.judge(proven, self.policy))

    def without_collateral(self, body: bytes) -> object:
        """Go as far as that goes with roots alone: signatures and chain."""
        verifier = VERIFIERS[self.kind]
        bare = Endorsements(anchors=self.endorsements.anchors, collateral=NO_COLLATERAL)
        with suppress(CollateralMissingError):
            return verifier.genuine(verifier.parse(body), RecordedBinding(), bare, self.at)
        return None


def real() -> Iterator[Work]:
    """Yield real evidence; nothing where it isn't there."""
    vectors: Path = vectors_root() / "attestation"
    for name, case in REAL if vectors.is_dir() else ():
        contained = case.contained(vectors)
        yield Work(
            name=name,
            kind=case.kind,
            body=contained.items[0].body,
            endorsements=case.endorsements(vectors, contained),
            at=case.instant(contained),
            policy=case.policy().kinds[case.kind],
        )


def simulated() -> Iterator[Work]:
    """Yield evidence of every kind by simulated makers, with their collateral."""
    for kind, verifier in VERIFIERS.items():
        yield Work(
            name=f"{kind}, simulated",
            kind=kind,
            body=simulated_evidence.simulated_body(kind),
            endorsements=simulated_evidence.endorsements(),
            at=simulated_evidence.AT,
            policy=verifier.policy.strictest(),
        )
