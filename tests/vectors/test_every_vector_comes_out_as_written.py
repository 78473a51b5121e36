"""Every file of real evidence comes out as the list beside it says: whole files in, results out, no command between.

A file that stands in neither table here fails: nobody can add one and forget to say what it must come out as.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pytest

from strongroom.attestation.bindings import ExpectedBinding, ItemBinding, RecordedBinding
from strongroom.attestation.bundle.files import read_collateral_file
from strongroom.attestation.bundle.proof import CollateralUnprovenError, prove_all
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.recorded import FRESH_CLAIM, Recorded, appraise_recorded, isolation_of
from strongroom.attestation.results import Status
from strongroom.attestation.trust_anchors import Vendor, vendor_anchors
from strongroom.core.clock import parse_instant
from support.vector_cases import (
    ADVISED,
    ANY_ENCLAVE,
    ANY_TIME,
    AZURE_DOMAIN,
    AZURE_GENOA,
    AZURE_MILAN,
    BARE_TPM,
    CHAIN_535,
    GENOA_AT,
    GENOA_REPORT,
    GPU_535,
    GPUS,
    INTEL_AT,
    MILAN_REPORT,
    NITRO_DOCUMENT,
    RIM,
    SGX_QUOTE,
    SWITCHES,
    TD_QUOTE,
    TPM_QUOTE,
    WRONG_RIM,
    VectorCase,
)
from support.vectors import vectors_folder

NONE: Final = IsolationClass.NONE


@dataclass(frozen=True, kw_only=True)
class Row:
    """A case and what must come of it: of every statement in the file, and of all together."""

    case: VectorCase
    statements: int = 1
    status: Status = Status.GENUINE
    failed: frozenset[str] = frozenset()
    """Claims that fail besides ``fresh``: recorded evidence never meets that one."""
    reason: str = ""
    """Why it isn't even genuine."""
    isolation: IsolationClass = NONE
    together: IsolationClass = NONE
    said: Mapping[str, str] = field(default_factory=dict)
    """Parts of measurements, and of what claims saw."""


CVM, WEAK, HOST = IsolationClass.CVM, IsolationClass.CVM_WEAK, IsolationClass.MEASURED_HOST

ROWS: Final = (
    Row(case=MILAN_REPORT, isolation=WEAK, together=WEAK),
    Row(
        case=replace(MILAN_REPORT, along=("sev-snp/wrong-vcek-new.der",)),
        status=Status.ERROR,
        reason="collateral-missing",
    ),
    Row(
        case=replace(
            MILAN_REPORT, file="sev-snp/milan-v2-debug-report.bin", along=("sev-snp/milan-v2-debug-vcek.der",)
        ),
        failed=frozenset({"debug"}),
        said={"debug": "yes"},
    ),
    Row(case=GENOA_REPORT, isolation=CVM, together=CVM),
    Row(case=TD_QUOTE, isolation=CVM, together=CVM, said={"tcb-status": "UpToDate"}),
    Row(case=replace(TD_QUOTE, at=GENOA_AT), status=Status.ERROR, reason="collateral-expired"),
    Row(
        case=SGX_QUOTE,
        failed=frozenset({"tcb-status", "advisories"}),
        isolation=WEAK,
        together=WEAK,
        said={
            "tcb-status": "ConfigurationAndSWHardeningNeeded",
            "advisories": "INTEL-SA-00289, INTEL-SA-00615",
        },
    ),
    Row(case=replace(SGX_QUOTE, rules={"platform": ADVISED, **ANY_ENCLAVE}), isolation=WEAK, together=WEAK),
    Row(case=replace(TD_QUOTE, file="tdx/tdx-v4-debug.quote", along=()), status=Status.ERROR, reason="evidence-debug"),
    Row(case=NITRO_DOCUMENT, isolation=CVM, together=CVM, said={"pcr0": "eb7d0dab08ff4154"}),
    Row(case=replace(NITRO_DOCUMENT, at=ANY_TIME), status=Status.ERROR, reason="chain-refused"),
    Row(
        case=replace(NITRO_DOCUMENT, file="nitro/nitro-2025-debug.bin"),
        failed=frozenset({"debug"}),
        isolation=IsolationClass.NONE,
        together=IsolationClass.NONE,
        said={"pcr0": "00" * 48},
    ),
    Row(case=GPUS, statements=8, isolation=IsolationClass.CVM_GPU),
    Row(
        case=SWITCHES,
        statements=4,
        isolation=IsolationClass.CVM_GPU,
    ),
    Row(case=replace(GPUS, file="nvidia/hopper-evidence.json"), isolation=IsolationClass.CVM_GPU),
    Row(case=GPU_535, isolation=IsolationClass.CVM_GPU, said={"rim.vbios": "12 of 12"}),
    Row(
        case=replace(GPU_535, along=(CHAIN_535, WRONG_RIM)),
        failed=frozenset({"rim.vbios", "debug"}),
        isolation=IsolationClass.CVM_GPU,
    ),
    Row(
        case=replace(GPU_535, file="nvidia/hopper-535-report-invalid-signature.txt"),
        status=Status.ERROR,
        reason="evidence-bad-signature",
    ),
    Row(
        case=TPM_QUOTE,
        isolation=HOST,
        together=HOST,
    ),
    Row(
        case=VectorCase(file="tpm/tpm-rsa-quote.json", kind=EvidenceKind.TPM2, at=ANY_TIME, rules=BARE_TPM),
        failed=frozenset({"key-vouched-by"}),
    ),
    Row(case=AZURE_MILAN, isolation=WEAK, together=WEAK),
    Row(
        case=AZURE_GENOA,
        isolation=CVM,
        together=CVM,
    ),
    # Its signatures are right; Intel's collateral for its platform isn't among the files, so its TCB isn't known.
    Row(
        case=AZURE_DOMAIN,
        failed=frozenset({"tcb-status"}),
        said={"tcb-status": "not known"},
    ),
)
CERTIFICATE: Final = CollateralKind.CERTIFICATE
COLLATERAL: Final[Mapping[str, tuple[CollateralKind, Vendor | None]]] = {
    "sev-snp/milan-v2-vcek.der": (CERTIFICATE, Vendor.AMD_SEV),
    "sev-snp/milan-v2-debug-vcek.der": (CERTIFICATE, Vendor.AMD_SEV),
    # A certificate that AMD never signed, for a chip whose identifier counts upwards.
    "sev-snp/wrong-vcek-new.der": (CERTIFICATE, None),
    "sev-snp/milan-ask-ark.pem": (CERTIFICATE, Vendor.AMD_SEV),
    "sev-snp/genoa-ask-ark.pem": (CERTIFICATE, Vendor.AMD_SEV),
    "tdx/tdx-v4-up-to-date.collateral.json": (CollateralKind.INTEL_TCB, Vendor.INTEL_SGX),
    "tdx/sgx-v3-hardening-needed.collateral.json": (CollateralKind.INTEL_TCB, Vendor.INTEL_SGX),
    "nitro/aws-nitro-root-g1.pem": (CERTIFICATE, Vendor.AWS_NITRO),
    "nvidia/nvidia-device-root.pem": (CERTIFICATE, Vendor.NVIDIA_DEVICE),
    "nvidia/nvidia-rim-root.pem": (CERTIFICATE, Vendor.NVIDIA_RIM),
    CHAIN_535: (CERTIFICATE, Vendor.NVIDIA_DEVICE),
    RIM: (CollateralKind.NVIDIA_RIM, Vendor.NVIDIA_RIM),
    # NVIDIA's too, with a golden value that the device hasn't: what refuses it is the comparison alone.
    WRONG_RIM: (CollateralKind.NVIDIA_RIM, Vendor.NVIDIA_RIM),
    "tpm/gcp_ek_ak_ca_root.crt": (CERTIFICATE, Vendor.GOOGLE_VTPM),
    "tpm/gcp_ek_ak_ca_intermediate_v3.crt": (CERTIFICATE, Vendor.GOOGLE_VTPM),
    "tpm/tpm_ek_root_1.cer": (CERTIFICATE, Vendor.GOOGLE_VTPM),
    "tpm/tpm_ek_intermediate_2.crt": (CERTIFICATE, Vendor.GOOGLE_VTPM),
    "tpm/tpm_ek_intermediate_3.crt": (CERTIFICATE, Vendor.GOOGLE_VTPM),
}
NOT_EVIDENCE: Final = frozenset({"README.md"})


def appraised(row: Row, binding: ItemBinding) -> tuple[Recorded, ...]:
    vectors = vectors_folder("attestation")
    contained = row.case.contained(vectors)
    return appraise_recorded(
        contained,
        policy=row.case.policy(),
        endorsements=row.case.endorsements(vectors, contained),
        binding=binding,
        at=row.case.instant(contained),
    )


def name_of(row: Row) -> str:
    return f"{Path(row.case.file).stem}-{row.reason or '-'.join(sorted(row.failed)) or 'genuine'}"


def test_no_vector_is_forgotten() -> None:
    vectors = vectors_folder("attestation")
    there = {str(path.relative_to(vectors)) for path in vectors.rglob("*") if path.is_file()}
    listed = {row.case.file for row in ROWS} | set(COLLATERAL) | NOT_EVIDENCE
    assert there == listed


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_recorded_evidence_comes_out_as_written(row: Row) -> None:
    found = appraised(row, RecordedBinding())
    assert len(found) == row.statements
    for one in found:
        result = one.result
        assert (result.kind, result.status, result.isolation) == (row.case.kind, row.status, row.isolation)
        if row.status is Status.ERROR:
            assert result.reason == row.reason
        else:
            assert {claim.name for claim in result.failed} == row.failed | {FRESH_CLAIM}
        said = {**result.measurements, **{claim.name: claim.seen for claim in result.claims}}
        assert [name for name, value in row.said.items() if value not in said[name]] == []
    assert isolation_of([one.result for one in found]) is row.together


@pytest.mark.parametrize("row", [row for row in ROWS if row.status is not Status.ERROR], ids=name_of)
def test_with_the_bytes_that_it_commits_to_it_is_fresh_and_with_any_others_a_replay(row: Row) -> None:
    committed = {slot: value for slot, value in appraised(row, RecordedBinding())[0].committed.items() if value}
    assert committed
    for one in appraised(row, ExpectedBinding(committed)):
        assert one.result.status is (Status.GENUINE if row.failed else Status.WANTED)
        assert {claim.name for claim in one.result.failed} == row.failed
    for slot, value in committed.items():
        for other in (bytes([value[0] ^ 1]) + value[1:], value[:-1] + b"\xff\0", value + b"\0"):
            for one in appraised(row, ExpectedBinding({slot: other})):
                assert (one.result.status, one.result.reason) == (Status.ERROR, "evidence-replayed")


@pytest.mark.parametrize("name", COLLATERAL)
def test_what_comes_along_is_its_makers_or_nobodys(name: str) -> None:
    kind, vendor = COLLATERAL[name]
    path = vectors_folder("attestation") / name
    called = Path(RIM if name == WRONG_RIM else name).name
    items = read_collateral_file(path.read_bytes(), file_name=called)
    assert {read.item.kind for read in items} == {kind}
    ders = [read.item.data for read in items if kind is CERTIFICATE]
    try:
        makers: set[Vendor | None] = set(prove_all(items, ders, vendor_anchors(), parse_instant(INTEL_AT)).values())
    except CollateralUnprovenError:
        makers = {None}
    assert makers == {vendor}
