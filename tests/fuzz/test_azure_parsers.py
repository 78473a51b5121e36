"""Parsers of Azure machines' evidence are total: any bytes are read, or refused with an error of ours."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.azure_vtpm import Vtpm
from strongroom.attestation.azure.hcl_report import HardwareKind, HclReport
from strongroom.attestation.azure.runtime_data import RuntimeData
from strongroom.attestation.azure.statement import VtpmEvidence
from strongroom.attestation.azure.td_report import require_same
from strongroom.attestation.containers import azure
from strongroom.attestation.tdx.quote import parse_td_quote
from strongroom.attestation.verifiers.azure import AzureSnpVtpmVerifier, AzureTdxVtpmVerifier
from strongroom.core.errors import StrongroomError
from support.examples import examples

SNP, TDX = Vtpm().on_snp(), Vtpm().on_tdx()
RUNTIME = json.loads(Vtpm().runtime_data())
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=20), inner, max_size=5),
    max_leaves=15,
)
NAMES = st.sampled_from(["keys", "vm-configuration", "user-data"]) | st.text(max_size=10)
KEY_NAMES = st.sampled_from(["kid", "kty", "key_ops", "e", "n"])
FILE_NAMES = st.sampled_from(["version", "tpm_quote", "quote", "hcl_report", "report", "vcek", "td_quote"])


def spoiled(data: st.DataObject, body: bytes) -> bytes:
    changed = bytearray(body)
    start = data.draw(st.integers(0, len(changed)))
    changed[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=9))
    return bytes(changed)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (HclReport.parse, RuntimeData.parse, AzureSnpVtpmVerifier().parse, AzureTdxVtpmVerifier().parse):
        with suppress(StrongroomError):
            parse(data)
    with suppress(StrongroomError):
        azure.read(data)


@given(st.data())
def test_an_overwritten_report_is_read_or_refused(data: st.DataObject) -> None:
    for whole in (SNP, TDX):
        with suppress(StrongroomError):
            RuntimeData.parse(HclReport.parse(spoiled(data, whole.hcl_report)).runtime_data)


@given(st.dictionaries(NAMES, JSON), st.dictionaries(KEY_NAMES, JSON))
def test_any_runtime_data_is_read_or_refused(changed: dict[str, Any], key: dict[str, Any]) -> None:
    value = RUNTIME | {"keys": [RUNTIME["keys"][0] | key]} | changed
    with suppress(StrongroomError):
        RuntimeData.parse(json.dumps(value).encode())


@given(st.data())
@settings(max_examples=examples(50))
def test_an_overwritten_body_is_read_or_refused(data: st.DataObject) -> None:
    with suppress(StrongroomError):
        AzureSnpVtpmVerifier().parse(spoiled(data, SNP.to_bytes(HardwareKind.SEV_SNP)))
    with suppress(StrongroomError):
        AzureTdxVtpmVerifier().parse(spoiled(data, TDX.to_bytes(HardwareKind.TDX)))
    with suppress(StrongroomError):
        VtpmEvidence.parse(spoiled(data, TDX.to_bytes(HardwareKind.TDX)), HardwareKind.TDX)


@given(st.binary(min_size=1024, max_size=1024))
def test_any_td_report_is_compared_or_refused(data: bytes) -> None:
    with suppress(StrongroomError):
        require_same(data, parse_td_quote(TDX.endorsement).body)


@given(st.dictionaries(FILE_NAMES, JSON), st.dictionaries(st.sampled_from(["message", "pcrs", "signature"]), JSON))
def test_any_file_is_read_or_refused(changed: dict[str, Any], quote: dict[str, Any]) -> None:
    value = {"tpm_quote": quote, "hcl_report": "AAAA", "vcek": "AAAA"} | changed
    with suppress(StrongroomError):
        azure.read(json.dumps(value).encode())
