"""Evidence of real Azure confidential virtual machines on SEV-SNP (Milan and Genoa) and TDX."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from strongroom.attestation.azure.hcl_report import HardwareKind
from strongroom.attestation.azure.statement import VtpmEvidence
from strongroom.attestation.bindings import ExpectedBinding, ItemBinding, RecordedBinding, Slot
from strongroom.attestation.containers import azure
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import (
    BadSignatureError,
    ChainRefusedError,
    EvidenceReplayedError,
    PcrMismatchError,
)
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.policies.allowed import ANYTHING
from strongroom.attestation.policies.azure import AzureSnpPolicy, VtpmRules
from strongroom.attestation.policies.revocation_rule import RevocationRule
from strongroom.attestation.trust_anchors import TrustAnchors, vendor_anchors
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.azure import AzureSnpVtpmVerifier, AzureTdxVtpmVerifier
from strongroom.core.clock import parse_instant
from support.vectors import vectors_folder

SNP, TDX = AzureSnpVtpmVerifier(), AzureTdxVtpmVerifier()
AT = parse_instant("2026-06-01T00:00:00Z")
TDX_AT = parse_instant("2025-06-01T00:00:00Z")
ENDORSEMENTS = Endorsements(anchors=vendor_anchors())
CHALLENGES = {
    "snp-vtpm-v1.json": b"challenge",
    "snp-vtpm-genoa.json": bytes.fromhex(
        "0218488bae25d2509232bf676f1a66a30d7372add909109b36016ef136f2938ca05475f8b46094de6b64270ea35d950f"
    ),
}
TDX_NAME = "tdx-vtpm-v0.json"
# A certificate of a chip has the serial number 0, of which the library warns.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")


def item(name: str) -> EvidenceItem:
    found = azure.read((vectors_folder("attestation/azure-vtpm") / name).read_bytes())
    assert found is not None
    (only,) = found.items
    return only


def proven(name: str, binding: ItemBinding) -> Genuine[Any]:
    return SNP.genuine(SNP.parse(item(name).body), binding, ENDORSEMENTS, AT)


@pytest.mark.parametrize("name", CHALLENGES)
def test_machines_on_snp_are_genuine_for_their_challenge(name: str) -> None:
    assert item(name).kind is EvidenceKind.AZURE_SNP_VTPM
    recorded = proven(name, RecordedBinding())
    assert recorded.bound.seen == {Slot.QUALIFYING_DATA: CHALLENGES[name]}
    assert not recorded.bound.fresh
    assert proven(name, ExpectedBinding({Slot.QUALIFYING_DATA: CHALLENGES[name]})).bound.fresh
    with pytest.raises(EvidenceReplayedError):
        proven(name, ExpectedBinding({Slot.QUALIFYING_DATA: CHALLENGES[name] + b"\0"}))


def test_what_each_generation_of_processor_can_vouch_for() -> None:
    milan, genoa = (proven(name, RecordedBinding()) for name in CHALLENGES)
    assert (milan.details["product"], milan.isolation) == ("milan", IsolationClass.CVM_WEAK)
    assert (genoa.details["product"], genoa.isolation) == ("genoa", IsolationClass.CVM)
    assert milan.measurements["pcr0"] == "e15c44796beabf46abcec7c57e590942041e47497e4ec27571c8b7664f48dced"
    assert genoa.measurements["pcr0"] == "afd689d0bb1c5f36f023fbaf574135f555a28a10c1f6b938d2a25e70c7783338"
    assert genoa.measurements.keys() == SNP.reference_names | SNP.optional_names


def test_the_genoa_machine_is_refused_for_its_age_and_what_isnt_listed_and_for_nothing_else() -> None:
    strict = AzureSnpPolicy.strictest()
    found = proven("snp-vtpm-genoa.json", RecordedBinding())
    names = [claim.name for claim in SNP.judge(found, strict) if not claim.ok]
    assert names == ["tcb.snp", "tcb.microcode", "chip", "revocation", "machine"]
    assert "id-key" in {claim.name for claim in SNP.judge(found, strict)}
    listed = replace(
        strict,
        hardware=replace(strict.hardware, chips=ANYTHING, revocation=RevocationRule.WHEN_PRESENT),
        vtpm=replace(VtpmRules.strictest(), machines=ANYTHING),
    )
    assert [claim.name for claim in SNP.judge(found, listed) if not claim.ok] == ["tcb.snp", "tcb.microcode"]


def test_no_root_but_amds_accepts_them() -> None:
    statement = SNP.parse(item("snp-vtpm-genoa.json").body)
    with pytest.raises(ChainRefusedError):
        SNP.genuine(statement, RecordedBinding(), Endorsements(anchors=TrustAnchors(())), AT)


def test_the_machine_on_tdx_is_genuine_and_wanted_only_with_intels_collateral() -> None:
    """Every signature, both commitments and the registers hold; how old the platform is, nothing here can tell."""
    assert item(TDX_NAME).kind is EvidenceKind.AZURE_TDX_VTPM
    statement = TDX.parse(item(TDX_NAME).body)
    right = ExpectedBinding({Slot.QUALIFYING_DATA: b"challenge"})
    for binding in (right, RecordedBinding()):
        proven = TDX.genuine(statement, binding, ENDORSEMENTS, TDX_AT)
        assert (proven.isolation, proven.revocation_checked) == (IsolationClass.NONE, False)
        failed = [claim for claim in TDX.judge(proven, TDX.policy.strictest()) if not claim.ok]
        assert any("00806f050000/platform" in claim.seen for claim in failed)
    with pytest.raises(EvidenceReplayedError):
        TDX.genuine(statement, ExpectedBinding({Slot.QUALIFYING_DATA: b"another"}), ENDORSEMENTS, TDX_AT)
    with pytest.raises(ChainRefusedError):
        TDX.genuine(statement, right, Endorsements(anchors=TrustAnchors(())), TDX_AT)


def test_on_tdx_what_was_changed_is_what_is_refused() -> None:
    whole = VtpmEvidence.parse(item(TDX_NAME).body, HardwareKind.TDX)
    changed = replace(whole, pcrs=(bytes(32), *whole.pcrs[1:]))
    with pytest.raises(PcrMismatchError):
        TDX.genuine(TDX.parse(changed.to_bytes(HardwareKind.TDX)), RecordedBinding(), ENDORSEMENTS, TDX_AT)
    quote = bytearray(whole.endorsement)
    quote[48 + 136] ^= 1  # MRTD
    changed = replace(whole, endorsement=bytes(quote))
    with pytest.raises((BadSignatureError, PcrMismatchError)) as error:
        TDX.genuine(
            TDX.parse(replace(changed, hcl_report=same_in_report(whole.hcl_report)).to_bytes(HardwareKind.TDX)),
            RecordedBinding(),
            ENDORSEMENTS,
            TDX_AT,
        )
    assert error.type is BadSignatureError


def same_in_report(report: bytes) -> bytes:
    """Change MRTD in the HCL report's TDREPORT as it was changed in the quote."""
    changed = bytearray(report)
    changed[32 + 512 + 16] ^= 1
    return bytes(changed)
