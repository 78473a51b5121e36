"""Real evidence with all that judging it takes: what comes along, the instant, and a policy that old machines can meet.

The policies are the strictest ones, with what a machine of that day doesn't meet loosened rule by rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.bundle.files import read_collateral_file
from strongroom.attestation.collateral import Collateral, CollateralItem
from strongroom.attestation.containers.contained import Contained
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.recorded import manifests_wanted, read_file
from strongroom.attestation.trust_anchors import vendor_anchors
from strongroom.attestation.verifiers.nitro import NitroVerifier
from strongroom.core.clock import Instant, parse_instant
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

OLD_SNP: Final[Mapping[str, Any]] = {
    "allow_smt": True,
    "guest_rules": [],
    "platform_features": [],
    "chips": "any",
    "revocation": "when-present",
}
ANY_FIRMWARE: Final = {"bootloader": 0, "tee": 0, "snp": 0, "microcode": 0, "firmware": "0.0.0"}
MILAN: Final = {**OLD_SNP, "floors": {"milan": ANY_FIRMWARE}}
GENOA: Final = {**OLD_SNP, "floors": {"genoa": ANY_FIRMWARE}}
OLD_INTEL: Final[Mapping[str, Any]] = {
    "evaluation_number": 0,
    "allow_dynamic_platform": True,
    "allow_cached_keys": True,
    "allow_smt": True,
    "platforms": "any",
}
ADVISED: Final[Mapping[str, Any]] = {
    **OLD_INTEL,
    "statuses": ["UpToDate", "ConfigurationAndSWHardeningNeeded"],
    "advisories": ["INTEL-SA-00289", "INTEL-SA-00615"],
}
ANY_ENCLAVE: Final = {"mr_signers": "any", "isv_prod_ids": "any", "isv_svn": 0}
NITRO: Final = {"locked_pcrs": [], "pcr3": "any", "pcr4": "any", "pcr8": "any", "instances": "any"}
OLD_MANIFESTS: Final = {"rim": "when-present", "revocation": "when-present", "rim_signer_must_be_current": False}
GPU: Final = {**OLD_MANIFESTS, "driver_floors": "any", "vbios_floors": "any"}
UNSTATED_MODE: Final = {**GPU, "modes": ["spt", "mpt", "ppcie", "unstated"]}
SWITCH: Final = {**OLD_MANIFESTS, "bios_floors": "any"}
AZURE_VTPM: Final = {"machines": "any"}
TPM: Final = {"ak_vouched_by": ["certificate"], "revocation": "when-present"}
AZURE_TD: Final = {"hardware": {"platform": OLD_INTEL, "tee_tcb_svn": "00" * 16}, "vtpm": AZURE_VTPM}
BARE_TPM: Final = {**TPM, "event_log": "when-present"}

SNP_AT: Final = "2024-01-15T00:00:00Z"
GENOA_AT: Final = "2026-01-15T00:00:00Z"
INTEL_AT: Final = "2025-07-01T00:00:00Z"
AZURE_AT: Final = "2026-06-01T00:00:00Z"
ANY_TIME: Final = "2026-11-01T00:00:00Z"
OWN_TIME: Final = "document"


@dataclass(frozen=True, kw_only=True)
class VectorCase:
    """One file of evidence, and what it is judged with."""

    file: str
    kind: EvidenceKind
    at: str
    """RFC 3339, or :data:`OWN_TIME`: the document's own timestamp."""
    along: tuple[str, ...] = ()
    rules: Mapping[str, Any] = field(default_factory=dict)
    """What is loosened in the kind's strictest rules; a mapping changes an object's members."""

    def contained(self, vectors: Path) -> Contained:
        """Read the file."""
        return read_file((vectors / self.file).read_bytes())

    def instant(self, contained: Contained) -> Instant:
        """Return the time to judge as of."""
        if self.at == OWN_TIME:
            return NitroVerifier().parse(contained.items[0].body).document.made
        return parse_instant(self.at)

    def policy(self) -> AppraisalPolicy:
        """Return the loosened policy."""
        kinds = dict.fromkeys((EvidenceKind.SEV_SNP, self.kind)) if self.kind.is_device else (self.kind,)
        told: Any = AppraisalPolicy.strictest(*kinds).to_json()
        loosened(told["kinds"][self.kind.value], self.rules)
        with Fields(told, "policy") as fields:
            return AppraisalPolicy.read(fields)

    def endorsements(self, vectors: Path, contained: Contained) -> Endorsements:
        """Return the makers' own roots, and what comes along."""
        items = [one for name in self.along for one in _along(vectors / name, contained)]
        items += [read.item for der in contained.certificates for read in read_collateral_file(der)]
        return Endorsements(anchors=vendor_anchors(), collateral=Collateral(tuple(items)))


def loosened(rules: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Change some of a kind's rules in their JSON form; a mapping changes an object's members."""
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(rules.get(name), dict):
            loosened(rules[name], value)
        else:
            rules[name] = value


def _along(path: Path, contained: Contained) -> Iterator[CollateralItem]:
    # A manifest of a VBIOS doesn't state its id: where its file's name is none either, it is one that was asked for.
    for name in (path.name, *manifests_wanted(contained)):
        with suppress(MalformedError):
            yield from (read.item for read in read_collateral_file(path.read_bytes(), file_name=name))
            return
    raise AssertionError(f"`{path.name}` isn't collateral")


CHAIN_535: Final = "nvidia/hopper-535-cert-chain.txt"
RIM: Final = "nvidia/rim-vbios-1010_0200_882_96005E0001_PROD.swidtag"
WRONG_RIM: Final = "nvidia/rim-vbios-96005E0001-measurement-mismatch.xml"
MILAN_REPORT: Final = VectorCase(
    file="sev-snp/milan-v2-report.bin",
    kind=EvidenceKind.SEV_SNP,
    at=SNP_AT,
    rules=MILAN,
    along=("sev-snp/milan-v2-vcek.der",),
)
GENOA_REPORT: Final = VectorCase(
    file="sev-snp/genoa-v3-configfs-tsm.json", kind=EvidenceKind.SEV_SNP, at=GENOA_AT, rules=GENOA
)
TD_QUOTE: Final = VectorCase(
    file="tdx/tdx-v4-up-to-date.quote",
    kind=EvidenceKind.TDX,
    at=INTEL_AT,
    rules={"platform": OLD_INTEL},
    along=("tdx/tdx-v4-up-to-date.collateral.json",),
)
SGX_QUOTE: Final = VectorCase(
    file="tdx/sgx-v3-hardening-needed.quote",
    kind=EvidenceKind.SGX,
    at=INTEL_AT,
    rules={"platform": OLD_INTEL, **ANY_ENCLAVE},
    along=("tdx/sgx-v3-hardening-needed.collateral.json",),
)
NITRO_DOCUMENT: Final = VectorCase(file="nitro/nitro-2025.bin", kind=EvidenceKind.NITRO, at=OWN_TIME, rules=NITRO)
GPUS: Final = VectorCase(file="nvidia/h100-8gpu-evidence.json", kind=EvidenceKind.NVIDIA_GPU, at=ANY_TIME, rules=GPU)
GPU_535: Final = VectorCase(
    file="nvidia/hopper-535-report.txt",
    kind=EvidenceKind.NVIDIA_GPU,
    at=ANY_TIME,
    rules=UNSTATED_MODE,
    along=(CHAIN_535, RIM),
)
AZURE_MILAN: Final = VectorCase(
    file="azure-vtpm/snp-vtpm-v1.json",
    kind=EvidenceKind.AZURE_SNP_VTPM,
    at=AZURE_AT,
    rules={"hardware": MILAN, "vtpm": AZURE_VTPM},
)
AZURE_GENOA: Final = replace(
    AZURE_MILAN, file="azure-vtpm/snp-vtpm-genoa.json", rules={"hardware": GENOA, "vtpm": AZURE_VTPM}
)
AZURE_DOMAIN: Final = VectorCase(
    file="azure-vtpm/tdx-vtpm-v0.json", kind=EvidenceKind.AZURE_TDX_VTPM, at=AZURE_AT, rules=AZURE_TD
)
SWITCHES: Final = replace(GPUS, file="nvidia/nvswitch-4-evidence.json", kind=EvidenceKind.NVIDIA_SWITCH, rules=SWITCH)
TPM_QUOTE: Final = VectorCase(file="tpm/gce-cos-85-nonce9009.pb", kind=EvidenceKind.TPM2, at=ANY_TIME, rules=TPM)
