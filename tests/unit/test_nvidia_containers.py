"""Every form that NVIDIA's tools write is taken apart; what is broken is refused and what is foreign left alone."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from simulators.nvidia_chain import (
    NONCE,
    NOW,
    SWITCH_FIELDS,
    device,
    entries,
    item,
    report,
)
from strongroom.attestation.bindings import Slot
from strongroom.attestation.containers.contained import MAX_FILE
from strongroom.attestation.containers.nvidia import MOST_DEVICES, read
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.nvidia.spdm import Report
from strongroom.core.errors import MalformedError
from support.certificates import Authority

GPU = device()
SWITCH = device("LS_10")
REPORT = report(GPU)
SWITCH_REPORT = report(SWITCH, opaque=entries(SWITCH_FIELDS))
WANTED = item(GPU, REPORT)
OTHER = item(SWITCH, SWITCH_REPORT, EvidenceKind.NVIDIA_SWITCH)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def entry(**said: Any) -> dict[str, Any]:
    return {
        "arch": "HOPPER",
        "evidence": b64(REPORT),
        "certificate": b64(GPU.bundle),
        "nonce": NONCE.hex(),
        "version": "1.0",
        **said,
    }


FORMS: dict[str, Any] = {
    "list": [entry()],
    "one": entry(),
    "cli": {"evidences": [entry()], "result_code": 0, "result_message": "Ok"},
    "service": {
        "nonce": NONCE.hex(),
        "arch": "HOPPER",
        "claims_version": "3.0",
        "evidence_list": [{"evidence": b64(REPORT), "certificate": b64(GPU.bundle)}],
    },
    "containers": {"device_evidence_list": [entry(arch="Hopper", evidence=REPORT.hex(), uuid="x")]},
    "old": [{"attestationReportHexStr": REPORT.hex(), "certChainBase64Encoded": b64(GPU.bundle), "nonce": NONCE.hex()}],
    "plain-pem": [entry(certificate=GPU.bundle.decode())],
    "wrapped": [entry(evidence="\n".join(b64(REPORT)[at : at + 76] for at in range(0, len(b64(REPORT)), 76)))],
    "one-byte-too-many": [entry(evidence=b64(REPORT + b"\0"))],
}


@pytest.mark.parametrize("name", FORMS)
def test_json_forms_are_taken_apart(name: str) -> None:
    found = read(json.dumps(FORMS[name], indent=1).encode() + b"\n")
    assert found is not None
    assert found.items == (WANTED,)
    assert found.stated == {Slot.NONCE: NONCE}


def test_switches_are_told_from_gpus() -> None:
    told = {"evidence": b64(SWITCH_REPORT), "certificate": b64(SWITCH.bundle)}
    for arch in ({"arch": "LS10"}, {}):
        found = read(json.dumps([{**told, **arch}, entry()]).encode())
        assert found is not None
        assert found.items == (OTHER, WANTED)


def test_single_reports_come_without_a_chain() -> None:
    for data in (REPORT, REPORT + b"\0", REPORT.hex().encode(), REPORT.hex().upper().encode() + b"\n"):
        found = read(data)
        assert found is not None
        assert [one.kind for one in found.items] == [EvidenceKind.NVIDIA_GPU]
    found = read(SWITCH_REPORT)
    assert found is not None
    assert [one.kind for one in found.items] == [EvidenceKind.NVIDIA_SWITCH]


def test_a_chain_comes_as_certificates() -> None:
    found = read(GPU.bundle)
    assert found is not None
    assert (found.items, len(found.certificates)) == ((), 5)
    # Of another maker, or no certificates at all: for another module to take.
    assert read(Authority.make("AMD", NOW).pem) is None
    assert read(GPU.bundle.replace(b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN CERTIFICATE-----\n!")) is None


def test_a_file_whose_devices_state_other_nonces_states_none() -> None:
    found = read(json.dumps([entry(), entry(nonce=bytes(32).hex())]).encode())
    assert found is not None
    assert found.stated == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"[1]",
        b"{",
        b"hello",
        b'{"evidences": []}',
        b'{"evidences": 1}',
        b'[{"evidence": "x"}]',
        b"1.5",
    ],
)
def test_foreign_files_are_left_alone(data: bytes) -> None:
    assert read(data) is None


@pytest.mark.parametrize(
    "data",
    [
        json.dumps([entry(evidence="@@@@")]).encode(),
        json.dumps([entry(evidence=b64(REPORT[:-1]))]).encode(),
        json.dumps([entry(evidence=b64(REPORT + b"\0\0"))]).encode(),
        json.dumps([entry(certificate="-_-_")]).encode(),
        json.dumps([entry(certificate="A" * 100_000)]).encode(),
        json.dumps([entry(evidence="A" * 100_000)]).encode(),
        json.dumps([entry()] * (MOST_DEVICES + 1)).encode(),
        REPORT[:100],
        REPORT.hex().encode() + b"0",
        b"11e0" + b"zz",
        b" " * (MAX_FILE + 1),
    ],
    ids=["base64", "cut", "two-more", "url-safe", "chain-long", "long", "many", "raw-cut", "odd", "hex", "large"],
)
def test_broken_files_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read(data)


def test_only_the_file_may_have_one_byte_too_many() -> None:
    with pytest.raises(MalformedError):
        Report.parse(REPORT + b"\0")
