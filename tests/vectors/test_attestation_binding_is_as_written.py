"""The published vectors of docs/spec/attestation-binding.md: what others compute must be what we compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from strongroom.attestation.bindings import Slot
from strongroom.attestation.evidence import EvidenceItem, devices_digest
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.transcript import Binding
from strongroom.core.digest import Digest
from strongroom.core.ids import model_id

CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("attestation-binding.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_published_vectors_hold(case: dict[str, Any]) -> None:
    members = case["binding"]
    devices = tuple(
        EvidenceItem(EvidenceKind(device["kind"]), bytes.fromhex(device["body_hex"])) for device in case["devices"]
    )
    binding = Binding(
        genesis=Digest.parse(members["genesis"]),
        challenge=members["challenge"],
        nonce=bytes.fromhex(members["nonce_hex"]),
        request=Digest.parse(members["request"]),
        model=model_id(members["model"]),
        version=members["version"],
        manifest=Digest.parse(members["manifest"]),
        recipient_key=Digest.of(bytes.fromhex(members["recipient_key_hex"])),
        devices=devices_digest(devices),
    )
    assert binding.to_bytes().decode() == case["t"]
    for kind, slots in case["slots"].items():
        held = {slot.value: value.hex() for slot, value in binding.item(EvidenceKind(kind)).values.items()}
        assert held == slots


def test_every_kind_has_its_slots_in_the_vectors() -> None:
    for case in CASES:
        assert set(case["slots"]) == {kind.value for kind in EvidenceKind}
        assert {slot for slots in case["slots"].values() for slot in slots} == {slot.value for slot in Slot}
