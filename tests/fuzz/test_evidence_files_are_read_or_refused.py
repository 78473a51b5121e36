"""Any file at all: it is read as evidence in one form, or refused with one of our errors."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.sev_snp_chain import Machine
from strongroom.attestation.evidence import RECIPIENT_KEY_BYTES, Evidence, EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.platform_record import platform_of_chip
from strongroom.attestation.recorded import manifests_wanted, read_file
from strongroom.core.errors import StrongroomError

OURS = Evidence(
    platform=platform_of_chip(EvidenceKind.SEV_SNP, b"chip"),
    main=EvidenceItem(EvidenceKind.SEV_SNP, Machine().body()),
    recipient_key=bytes(RECIPIENT_KEY_BYTES),
).to_bytes()
STARTS = (
    b"",
    b"{",
    b"[{",
    b"\x84\x44\xa1\x01\x38\x22",
    b"\x00\x02",
    b"\x00\x03",
    b"\x04\x00",
    b"\x11\xe0",
    b"HCLA",
    b"\n",
)
NAMES = st.sampled_from(
    ["evidence", "nonce", "quote", "report", "version", "hcl_report", "outblob", "provider", "arch"]
)
LEAVES = st.none() | st.booleans() | st.integers(0, 300) | st.text(max_size=30) | st.binary(max_size=30).map(bytes.hex)
JSON = st.recursive(
    LEAVES, lambda one: st.lists(one, max_size=4) | st.dictionaries(NAMES, one, max_size=4), max_leaves=12
)


def total(data: bytes) -> None:
    try:
        contained = read_file(data)
    except StrongroomError:
        return
    assert contained.items
    manifests_wanted(contained)


@given(st.sampled_from(STARTS), st.binary(max_size=2048))
def test_any_bytes(start: bytes, data: bytes) -> None:
    total(start + data)


@given(JSON)
def test_any_json(value: object) -> None:
    total(json.dumps(value).encode())


@given(st.data())
def test_any_change_of_our_own(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(OURS) - 1))
    total(OURS[:at] + data.draw(st.binary(max_size=3)) + OURS[at + 1 :])


@given(st.integers(0, len(OURS) - 1))
def test_no_cut_is_read(end: int) -> None:
    with pytest.raises(StrongroomError):
        read_file(OURS[:end])
