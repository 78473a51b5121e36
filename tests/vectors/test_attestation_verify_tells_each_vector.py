"""Each vector through the command, as a person would: how it ends and what it says, unbound, bound and replayed.

The policies are the strictest ones with what these old machines don't meet loosened, rule by rule.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from strongroom.attestation.kinds import EvidenceKind
from support.attestation_cli import attestation, policy_file
from support.vector_cases import (
    ADVISED,
    ANY_ENCLAVE,
    ANY_TIME,
    AZURE_AT,
    AZURE_VTPM,
    BARE_TPM,
    CHAIN_535,
    GENOA,
    GPU,
    INTEL_AT,
    MILAN,
    NITRO,
    OLD_INTEL,
    RIM,
    SNP_AT,
    SWITCH,
    TPM,
    UNSTATED_MODE,
    WRONG_RIM,
)
from support.vectors import vectors_folder

GENUINE: Final = 4
REFUSED: Final = 3


@dataclass(frozen=True, kw_only=True)
class Case:
    """One file, what comes along, and what must come out."""

    file: str
    kind: EvidenceKind
    code: int
    words: tuple[str, ...]
    rules: Mapping[str, Any] = field(default_factory=dict)
    along: tuple[str, ...] = ()
    at: str | None = None


CASES: Final = (
    Case(
        file="sev-snp/milan-v2-report.bin",
        kind=EvidenceKind.SEV_SNP,
        rules=MILAN,
        along=("sev-snp/milan-v2-vcek.der",),
        at=SNP_AT,
        code=GENUINE,
        words=("product: milan", "cvm-weak: can support models up to SL2"),
    ),
    Case(
        file="sev-snp/milan-v2-report.bin",
        kind=EvidenceKind.SEV_SNP,
        along=("sev-snp/milan-v2-vcek.der",),
        at=SNP_AT,
        code=REFUSED,
        words=("failed product: seen milan; wanted one of genoa, turin",),
    ),
    Case(
        file="sev-snp/milan-v2-report.bin",
        kind=EvidenceKind.SEV_SNP,
        rules=MILAN,
        along=("sev-snp/wrong-vcek-new.der",),
        at=SNP_AT,
        code=REFUSED,
        words=("NOT PROVEN [collateral-missing]", "wanted the VCEK of chip c38427a3"),
    ),
    Case(
        file="sev-snp/milan-v2-debug-report.bin",
        kind=EvidenceKind.SEV_SNP,
        rules=MILAN,
        along=("sev-snp/milan-v2-debug-vcek.der",),
        at=SNP_AT,
        code=REFUSED,
        words=("GENUINE, REFUSED [unwanted-debug]", "failed debug: seen yes; wanted no"),
    ),
    Case(
        file="sev-snp/genoa-v3-configfs-tsm.json",
        kind=EvidenceKind.SEV_SNP,
        rules=GENOA,
        at="2026-01-15T00:00:00Z",
        code=GENUINE,
        words=("configfs-tsm JSON", "cvm: can support models up to SL3"),
    ),
    Case(
        file="tdx/tdx-v4-up-to-date.quote",
        kind=EvidenceKind.TDX,
        rules={"platform": OLD_INTEL},
        along=("tdx/tdx-v4-up-to-date.collateral.json",),
        at=INTEL_AT,
        code=GENUINE,
        words=("tcb-status: UpToDate", "cvm: can support models up to SL3"),
    ),
    Case(
        file="tdx/tdx-v4-up-to-date.quote",
        kind=EvidenceKind.TDX,
        rules={"platform": OLD_INTEL},
        along=("tdx/tdx-v4-up-to-date.collateral.json",),
        at="2026-01-01T00:00:00Z",
        code=REFUSED,
        words=("NOT PROVEN [collateral-expired]",),
    ),
    Case(
        file="tdx/sgx-v3-hardening-needed.quote",
        kind=EvidenceKind.SGX,
        rules={"platform": OLD_INTEL, **ANY_ENCLAVE},
        along=("tdx/sgx-v3-hardening-needed.collateral.json",),
        at=INTEL_AT,
        code=REFUSED,
        words=(
            "failed tcb-status: seen ConfigurationAndSWHardeningNeeded",
            "failed advisories: seen INTEL-SA-00289, INTEL-SA-00615",
        ),
    ),
    Case(
        file="tdx/sgx-v3-hardening-needed.quote",
        kind=EvidenceKind.SGX,
        rules={"platform": ADVISED, **ANY_ENCLAVE},
        along=("tdx/sgx-v3-hardening-needed.collateral.json",),
        at=INTEL_AT,
        code=GENUINE,
        words=("cvm-weak: can support models up to SL2",),
    ),
    Case(
        file="tdx/tdx-v4-debug.quote",
        kind=EvidenceKind.TDX,
        rules={"platform": OLD_INTEL},
        at=INTEL_AT,
        code=REFUSED,
        words=("NOT GENUINE [evidence-debug]",),
    ),
    Case(
        file="nitro/nitro-2025.bin",
        kind=EvidenceKind.NITRO,
        rules=NITRO,
        at="document",
        code=GENUINE,
        words=("pcr0: eb7d0dab08ff4154", "cvm: can support models up to SL3"),
    ),
    Case(
        file="nitro/nitro-2025.bin",
        kind=EvidenceKind.NITRO,
        rules=NITRO,
        at="2026-01-01T00:00:00Z",
        code=REFUSED,
        words=("NOT GENUINE [chain-refused]", "isn't valid at this time"),
    ),
    Case(
        file="nitro/nitro-2025-debug.bin",
        kind=EvidenceKind.NITRO,
        rules=NITRO,
        at="document",
        code=REFUSED,
        words=("failed debug: seen pcr0, pcr1, pcr2 zero or absent",),
    ),
    Case(
        file="nvidia/h100-8gpu-evidence.json",
        kind=EvidenceKind.NVIDIA_GPU,
        rules=GPU,
        at=ANY_TIME,
        code=GENUINE,
        words=("8 statements", "gpu7 nvidia-gpu GENUINE", "none: this attests no machine"),
    ),
    Case(
        file="nvidia/nvswitch-4-evidence.json",
        kind=EvidenceKind.NVIDIA_SWITCH,
        rules=SWITCH,
        at=ANY_TIME,
        code=GENUINE,
        words=("4 statements", "switch3 nvidia-switch GENUINE"),
    ),
    Case(
        file="nvidia/hopper-evidence.json",
        kind=EvidenceKind.NVIDIA_GPU,
        rules=GPU,
        at=ANY_TIME,
        code=GENUINE,
        words=("gpu0 nvidia-gpu GENUINE",),
    ),
    Case(
        file="nvidia/hopper-evidence.json",
        kind=EvidenceKind.NVIDIA_GPU,
        at=ANY_TIME,
        code=REFUSED,
        words=("failed rim.driver: seen NV_GPU_DRIVER_GH100_590.12: not in collateral",),
    ),
    Case(
        file="nvidia/hopper-535-report.txt",
        kind=EvidenceKind.NVIDIA_GPU,
        rules=UNSTATED_MODE,
        along=(CHAIN_535, RIM),
        at=ANY_TIME,
        code=GENUINE,
        words=("12 of 12",),
    ),
    Case(
        file="nvidia/hopper-535-report.txt",
        kind=EvidenceKind.NVIDIA_GPU,
        rules=UNSTATED_MODE,
        along=(CHAIN_535, WRONG_RIM),
        at=ANY_TIME,
        code=REFUSED,
        words=("failed rim.vbios: seen NV_GPU_VBIOS_1010_0200_882_96005E0001",),
    ),
    Case(
        file="nvidia/hopper-535-report-invalid-signature.txt",
        kind=EvidenceKind.NVIDIA_GPU,
        rules=UNSTATED_MODE,
        along=(CHAIN_535,),
        at=ANY_TIME,
        code=REFUSED,
        words=("NOT GENUINE [evidence-bad-signature]",),
    ),
    Case(
        file="tpm/gce-cos-85-nonce9009.pb",
        kind=EvidenceKind.TPM2,
        rules=TPM,
        at=ANY_TIME,
        code=GENUINE,
        words=("go-tpm-tools attestation", "measured-host"),
    ),
    Case(
        file="tpm/tpm-rsa-quote.json",
        kind=EvidenceKind.TPM2,
        rules=BARE_TPM,
        at=ANY_TIME,
        code=REFUSED,
        words=("GENUINE, REFUSED [unwanted-key-vouched-by]", "none by its kind; refused, it supports no model"),
    ),
    Case(
        file="azure-vtpm/snp-vtpm-v1.json",
        kind=EvidenceKind.AZURE_SNP_VTPM,
        rules={"hardware": MILAN, "vtpm": AZURE_VTPM},
        at=AZURE_AT,
        code=GENUINE,
        words=("cvm-weak: can support models up to SL2",),
    ),
    Case(
        file="azure-vtpm/snp-vtpm-genoa.json",
        kind=EvidenceKind.AZURE_SNP_VTPM,
        rules={"hardware": GENOA, "vtpm": AZURE_VTPM},
        at=AZURE_AT,
        code=GENUINE,
        words=("cvm: can support models up to SL3",),
    ),
    Case(
        file="azure-vtpm/tdx-vtpm-v0.json",
        kind=EvidenceKind.AZURE_TDX_VTPM,
        at=AZURE_AT,
        code=REFUSED,
        words=("GENUINE", "not known: no TDX collateral for `00806f050000/platform` was imported"),
    ),
)


def arguments(case: Case, folder: Path) -> list[str | Path]:
    vectors = vectors_folder("attestation")
    told: list[str | Path] = ["verify", vectors / case.file, "--policy", policy_file(folder, case.kind, **case.rules)]
    for name in case.along:
        told += ["--with", vectors / name]
    return [*told, *(["--at", case.at] if case.at else [])]


def plain(output: str) -> str:
    return " ".join(output.split())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{Path(case.file).stem}-{case.code}-{case.words[0][:24]}")
def test_each_vector_ends_as_it_must(case: Case, tmp_path: Path) -> None:
    told = arguments(case, tmp_path)
    code, output = attestation(*told, "--unbound")
    assert code == case.code, output
    assert [words for words in case.words if words not in plain(output)] == [], output
    assert attestation(*told)[0] == 2, "without a binding, and without saying so, there is no answer"
    if code == GENUINE:
        check_bound(told)


def check_bound(told: list[str | Path]) -> None:
    """What was genuine is wanted with the bytes that it commits to, and a replay with any others."""
    statements = json.loads(attestation(*told, "--unbound", "--json")[1])["statements"]
    committed = {name: value for name, value in statements[0]["committed"].items() if value}
    assert committed
    right: list[str] = [word for name, value in committed.items() for word in (f"--{name}", value)]
    code, output = attestation(*told, *right)
    assert code == 0, output
    for name, value in committed.items():
        wrong = bytes((bytes.fromhex(value)[0] ^ 1,)) + bytes.fromhex(value)[1:]
        code, output = attestation(*told, *right, f"--{name}", wrong.hex())
        assert code == REFUSED
        assert "evidence-replayed" in output
