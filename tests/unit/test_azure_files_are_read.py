"""Files that hold an Azure machine's evidence: each generation and spelling is read, and nothing that resembles one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from simulators.azure_vtpm import PARAVISOR, Vtpm, url
from strongroom.attestation.azure.hcl_report import HardwareKind
from strongroom.attestation.azure.statement import VtpmEvidence
from strongroom.attestation.containers import azure
from strongroom.attestation.containers.contained import MAX_FILE
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.sev_snp.certificate_table import VCEK, CertificateTable
from strongroom.core.errors import MalformedError

VTPM = Vtpm()
SNP, TDX = VTPM.on_snp(), VTPM.on_tdx()
CERTIFICATE = PARAVISOR.certificate()


def pem(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()


def numbers(evidence: VtpmEvidence) -> dict[str, Any]:
    return {
        "message": list(evidence.quote),
        "signature": list(evidence.signature),
        "pcrs": [list(register) for register in evidence.pcrs],
    }


def texts(evidence: VtpmEvidence) -> dict[str, Any]:
    return {
        "signature": evidence.signature.hex(),
        "message": evidence.quote.hex(),
        "pcrs": [register.hex() for register in evidence.pcrs],
    }


def padded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


V0_SNP = {"quote": numbers(SNP), "report": list(SNP.hcl_report), "vcek": pem(CERTIFICATE)}
V0_TDX = {"tpm_quote": numbers(TDX), "hcl_report": list(TDX.hcl_report), "td_quote": list(TDX.endorsement)}
V1_SNP = {"version": 1, "tpm_quote": texts(SNP), "hcl_report": padded(SNP.hcl_report), "vcek": padded(CERTIFICATE)}
V2_TDX = {
    "version": 2,
    "tpm_quote": texts(TDX),
    "hcl_report": padded(TDX.hcl_report),
    "td_quote": padded(TDX.endorsement),
}


def held(value: Any, hardware: HardwareKind) -> VtpmEvidence:
    found = azure.read(json.dumps(value).encode())
    assert found is not None
    (item,) = found.items
    kinds = {HardwareKind.SEV_SNP: EvidenceKind.AZURE_SNP_VTPM, HardwareKind.TDX: EvidenceKind.AZURE_TDX_VTPM}
    assert item.kind is kinds[hardware]
    return VtpmEvidence.parse(item.body, hardware)


@pytest.mark.parametrize(
    "value",
    [
        V0_SNP,
        V1_SNP,
        V1_SNP | {"version": 2},
        V1_SNP | {"vcek": pem(CERTIFICATE)},
        V1_SNP | {"hcl_report": url(SNP.hcl_report), "vcek": base64.b64encode(CERTIFICATE).decode()},
        V1_SNP | {"tpm_quote": numbers(SNP), "hcl_report": list(SNP.hcl_report), "vcek": list(CERTIFICATE)},
    ],
)
def test_each_generation_for_snp_is_read(value: dict[str, Any]) -> None:
    found = held(value, HardwareKind.SEV_SNP)
    assert (found.hcl_report, found.quote, found.signature, found.pcrs) == (
        SNP.hcl_report,
        SNP.quote,
        SNP.signature,
        SNP.pcrs,
    )
    assert CertificateTable.parse(found.endorsement).certificates(VCEK) == (CERTIFICATE,)


@pytest.mark.parametrize("value", [V0_TDX, V2_TDX | {"version": 1}, V2_TDX, V0_TDX | {"version": None}])
def test_each_generation_for_tdx_is_read(value: dict[str, Any]) -> None:
    assert held(value, HardwareKind.TDX) == TDX


def test_a_certificate_can_be_missing() -> None:
    assert held(V1_SNP | {"vcek": ""}, HardwareKind.SEV_SNP).endorsement == b""


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        {"tpm_quote": {}},
        {name: value for name, value in V1_SNP.items() if name != "vcek"},
        {name: value for name, value in V1_SNP.items() if name != "hcl_report"},
        {name: value for name, value in V1_SNP.items() if name != "tpm_quote"},
        V1_SNP | {"tpm_quote": "text"},
        # One quote, one report, one endorsement: two would let two readers see two machines.
        V1_SNP | {"quote": V1_SNP["tpm_quote"]},
        V1_SNP | {"report": V1_SNP["hcl_report"]},
        V1_SNP | {"td_quote": V2_TDX["td_quote"]},
    ],
)
def test_what_isnt_such_a_file_is_left_to_others(value: Any) -> None:
    assert azure.read(json.dumps(value).encode()) is None


@pytest.mark.parametrize("data", [b"", b"{", b"HCLA", b'{"a":1.5}', b'{"a":1,"a":1}', SNP.hcl_report])
def test_bytes_of_another_kind_are_left_to_others(data: bytes) -> None:
    assert azure.read(data) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 3},
        {"version": "1"},
        {"more": 1},
        {"hcl_report": 7},
        {"hcl_report": padded(SNP.hcl_report) + "!"},
        {"hcl_report": padded(SNP.hcl_report)[:-1]},
        {"hcl_report": "é"},
        {"hcl_report": [256]},
        {"hcl_report": [-1]},
        {"hcl_report": [True]},
        {"hcl_report": ["00"]},
        {"hcl_report": [0] * 65537},
        {"vcek": pem(CERTIFICATE) * 2},
        {"vcek": pem(CERTIFICATE)[:-30]},
        {"vcek": "-----BEGIN CERTIFICATE-----"},
        {"tpm_quote": texts(SNP) | {"more": 1}},
        {"tpm_quote": texts(SNP) | {"pcrs": [register.hex() for register in (*SNP.pcrs, bytes(32))]}},
        {"tpm_quote": texts(SNP) | {"pcrs": [None] * 24}},
        {"tpm_quote": texts(SNP) | {"message": SNP.quote.hex()[:-1] + "!"}},
        {"tpm_quote": texts(SNP) | {"message": "ab" * 65536 + "no more hex"}},
        {"tpm_quote": {"message": "00"}},
    ],
)
def test_a_broken_file_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        azure.read(json.dumps(V1_SNP | changed).encode())


def test_a_file_above_the_bound_is_refused() -> None:
    with pytest.raises(MalformedError):
        azure.read(b"{" + bytes(MAX_FILE))
