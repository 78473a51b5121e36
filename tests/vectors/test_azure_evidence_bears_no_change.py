"""Real evidence of Azure machines with one bit turned, cut short, or with sizes that lie: refused, and quickly."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from strongroom.attestation.azure.hcl_report import HardwareKind, HclReport
from strongroom.attestation.azure.statement import VtpmEvidence
from strongroom.attestation.bindings import RecordedBinding
from strongroom.attestation.containers import azure
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.trust_anchors import vendor_anchors
from strongroom.attestation.verifiers.azure import AzureSnpVtpmVerifier, AzureTdxVtpmVerifier
from strongroom.core.clock import parse_instant
from strongroom.core.errors import StrongroomError
from support.hostile import flipped
from support.vectors import vectors_folder

NAMES = {
    "snp-vtpm-v1.json": HardwareKind.SEV_SNP,
    "snp-vtpm-genoa.json": HardwareKind.SEV_SNP,
    "tdx-vtpm-v0.json": HardwareKind.TDX,
}
VERIFIERS: Mapping[HardwareKind, Any] = {
    HardwareKind.SEV_SNP: AzureSnpVtpmVerifier(),
    HardwareKind.TDX: AzureTdxVtpmVerifier(),
}
AT = {
    HardwareKind.SEV_SNP: parse_instant("2026-06-01T00:00:00Z"),
    HardwareKind.TDX: parse_instant("2025-06-01T00:00:00Z"),
}
PARTS: dict[str, Callable[[VtpmEvidence, bytes], VtpmEvidence]] = {
    "hcl_report": lambda whole, data: replace(whole, hcl_report=data),
    "quote": lambda whole, data: replace(whole, quote=data),
    "signature": lambda whole, data: replace(whole, signature=data),
}
TD_REPORT = range(32, 32 + 1024)
COMPARED = (*range(32 + 128, 32 + 192), *range(32 + 512, 32 + 1024))
"""Bytes of a TDREPORT that the quote repeats; the others are for the machine that made it, and nothing rests on it."""
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")


def whole(name: str) -> VtpmEvidence:
    found = azure.read((vectors_folder("attestation/azure-vtpm") / name).read_bytes())
    assert found is not None
    return VtpmEvidence.parse(found.items[0].body, NAMES[name])


def judge(name: str, evidence: VtpmEvidence) -> None:
    hardware = NAMES[name]
    verifier = VERIFIERS[hardware]
    statement = verifier.parse(evidence.to_bytes(hardware))
    verifier.genuine(statement, RecordedBinding(), Endorsements(anchors=vendor_anchors()), AT[hardware])


def refuse(name: str, evidence: VtpmEvidence) -> None:
    with pytest.raises(StrongroomError):
        judge(name, evidence)


def bits(name: str, part: str, data: bytes) -> list[int]:
    found = range(len(data) * 8)
    if part == "hcl_report" and NAMES[name] is HardwareKind.TDX:
        return [bit for bit in found if bit // 8 not in TD_REPORT or bit // 8 in COMPARED]
    return list(found)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", PARTS)
def test_turned_bits_are_refused(name: str, part: str) -> None:
    unchanged = whole(name)
    data: bytes = getattr(unchanged, part)
    for bit in bits(name, part, data)[::9]:
        refuse(name, PARTS[part](unchanged, flipped(data, bit)))


@pytest.mark.heavy
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", PARTS)
def test_every_turned_bit_is_refused(name: str, part: str) -> None:
    unchanged = whole(name)
    data: bytes = getattr(unchanged, part)
    for bit in bits(name, part, data):
        refuse(name, PARTS[part](unchanged, flipped(data, bit)))


@pytest.mark.parametrize("name", NAMES)
def test_every_turned_bit_of_a_register_is_refused(name: str) -> None:
    unchanged = whole(name)
    for number in range(24):
        for bit in range(0, 256, 5):
            pcrs = list(unchanged.pcrs)
            pcrs[number] = flipped(pcrs[number], bit)
            refuse(name, replace(unchanged, pcrs=tuple(pcrs)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", PARTS)
def test_every_truncation_is_refused(name: str, part: str) -> None:
    unchanged = whole(name)
    data: bytes = getattr(unchanged, part)
    # The zeros that fill the NV index may be missing.
    end = len(data.rstrip(b"\0")) if part == "hcl_report" else len(data)
    for size in range(end):
        refuse(name, PARTS[part](unchanged, data[:size]))


@pytest.mark.parametrize("name", NAMES)
def test_sizes_at_their_maximum_are_refused_at_once(name: str) -> None:
    unchanged = whole(name)
    began = time.monotonic()
    for width in (1, 2, 4, 8):
        for start in range(len(unchanged.quote) - width):
            changed = unchanged.quote[:start] + b"\xff" * width + unchanged.quote[start + width :]
            if changed != unchanged.quote:
                refuse(name, replace(unchanged, quote=changed))
        for start in (*range(32), *range(1216, 1236)):
            report = unchanged.hcl_report
            refuse(name, replace(unchanged, hcl_report=report[:start] + b"\xff" * width + report[start + width :]))
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("name", NAMES)
def test_a_report_of_another_machine_is_refused(name: str) -> None:
    unchanged = whole(name)
    for other, hardware in NAMES.items():
        if other != name and hardware is NAMES[name]:
            refuse(name, replace(unchanged, hcl_report=whole(other).hcl_report))
            refuse(name, replace(unchanged, endorsement=whole(other).endorsement))


def test_the_parser_agrees_with_the_bytes() -> None:
    for name, hardware in NAMES.items():
        report = HclReport.parse(whole(name).hcl_report)
        assert report.hardware_kind is hardware
        assert report.runtime_data.startswith(b'{"keys":[')
