"""What a bundle holds, how old each item is, and what a policy will miss, and when. Pure; the time is a parameter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from strongroom.attestation.appraisal_policy import AppraisalPolicy
from strongroom.attestation.bundle.format import Bundle
from strongroom.attestation.bundle.held import Held
from strongroom.attestation.bundle.proof import Authorities, prove
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.policies.nvidia import Demand, ManifestRules, NvidiaGpuPolicy, NvidiaSwitchPolicy
from strongroom.attestation.policies.revocation_rule import RevocationRule
from strongroom.attestation.policies.sev_snp import SevSnpPolicy
from strongroom.attestation.trust_anchors import TrustAnchors, Vendor
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError

DAY: Final = 86400
_OF_KIND: Final[Mapping[EvidenceKind, frozenset[Vendor]]] = MappingProxyType(
    {
        EvidenceKind.TPM2: frozenset({Vendor.TPM, Vendor.GOOGLE_VTPM}),
        EvidenceKind.SEV_SNP: frozenset({Vendor.AMD_SEV}),
        EvidenceKind.TDX: frozenset({Vendor.INTEL_SGX}),
        EvidenceKind.SGX: frozenset({Vendor.INTEL_SGX}),
        EvidenceKind.NITRO: frozenset({Vendor.AWS_NITRO}),
        EvidenceKind.AZURE_SNP_VTPM: frozenset({Vendor.AMD_SEV}),
        EvidenceKind.AZURE_TDX_VTPM: frozenset({Vendor.INTEL_SGX}),
        EvidenceKind.NVIDIA_GPU: frozenset({Vendor.NVIDIA_DEVICE, Vendor.NVIDIA_RIM}),
        EvidenceKind.NVIDIA_SWITCH: frozenset({Vendor.NVIDIA_DEVICE, Vendor.NVIDIA_RIM}),
    }
)
_INTEL: Final = frozenset({EvidenceKind.TDX, EvidenceKind.SGX, EvidenceKind.AZURE_TDX_VTPM})


@dataclass(frozen=True, slots=True, kw_only=True)
class Concern:
    """Something that a policy needs and doesn't have, or won't for long. ``ends`` is None for what isn't there."""

    what: str
    ends: Instant | None


def held_items(bundle: Bundle, makers: Mapping[Digest, Vendor]) -> tuple[Held, ...]:
    """Show a bundle's items, in its order."""
    return tuple(Held.of(read.item, makers.get(read.item.digest)) for read in bundle.items)


def makers_of(bundle: Bundle, anchors: TrustAnchors, at: Instant) -> dict[Digest, Vendor]:
    """Find whose root vouches for each item; items that nobody vouches for are left out.

    :raises MalformedError: the bundle has too many CAs of one name.
    """
    authorities = Authorities.of(bundle.collateral.certificates, anchors, at)
    found: dict[Digest, Vendor] = {}
    for read in bundle.items:
        try:
            found[read.item.digest] = prove(read, authorities).vendor
        except StrongroomError:
            continue
    return found


def concerns(
    held: Iterable[Held], policy: AppraisalPolicy | None, at: Instant, *, days: int = 0
) -> tuple[Concern, ...]:
    """Return what is missing, has expired, or ends within ``days``: of what the policy needs, or of everything.

    What expires is sorted by when; what is missing stands first. A revocation list, Intel's collateral and a manifest
    are missing when the policy can't be met without one, whatever chip asks.
    """
    items = tuple(held)
    found = [Concern(what=what, ends=None) for what in _missing(items, policy)] if policy else []
    ending = [one for one in items if one.ends < at + days * DAY and _counts(one, policy)]
    found += [
        Concern(what=f"{one.kind} {one.name}", ends=one.ends)
        for one in sorted(ending, key=lambda one: (one.ends, one.kind, one.name))
    ]
    return tuple(found)


def _counts(one: Held, policy: AppraisalPolicy | None) -> bool:
    if policy is None:
        return True
    if one.kind is CollateralKind.NVIDIA_RIM:
        # A policy may take manifests whose signer's certificate has ended; then its end means nothing.
        return any(rules.rim_signer_must_be_current for rules in _manifest_rules(policy))
    return any(one.maker in _OF_KIND[kind] for kind in policy.kinds)


def _missing(items: tuple[Held, ...], policy: AppraisalPolicy) -> list[str]:
    there = {(one.kind, one.maker) for one in items}
    missing = []
    snp = policy.kinds.get(EvidenceKind.SEV_SNP)
    lists = (CollateralKind.REVOCATION_LIST, Vendor.AMD_SEV)
    if isinstance(snp, SevSnpPolicy) and snp.revocation is RevocationRule.REQUIRED and lists not in there:
        missing.append("AMD's revocation list")
    if _INTEL & policy.kinds.keys() and (CollateralKind.INTEL_TCB, Vendor.INTEL_SGX) not in there:
        missing.append("Intel's collateral")
    manifests = (CollateralKind.NVIDIA_RIM, Vendor.NVIDIA_RIM)
    if any(rules.rim is Demand.REQUIRED for rules in _manifest_rules(policy)) and manifests not in there:
        missing.append("NVIDIA's reference manifests")
    return missing


def _manifest_rules(policy: AppraisalPolicy) -> tuple[ManifestRules, ...]:
    told = policy.kinds.values()
    return tuple(rules.manifests for rules in told if isinstance(rules, NvidiaGpuPolicy | NvidiaSwitchPolicy))
