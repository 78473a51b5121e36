"""Whatever is changed in a recorded report, its chain or a manifest is refused, in bounded time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from strongroom.attestation.bindings import RecordedBinding
from strongroom.attestation.nvidia.manifest import Manifest, read_manifest
from strongroom.attestation.nvidia.spdm import Report
from strongroom.attestation.nvidia.statement import DeviceStatement
from strongroom.attestation.ocsp import OcspAnswers
from strongroom.attestation.revocation import NO_LISTS
from strongroom.attestation.trust_anchors import Vendor, load_certificate, vendor_anchors
from strongroom.core.errors import MalformedError, StrongroomError
from support.hostile import flipped
from support.nvidia_vectors import GPU, PIN, contained, raw, vendor

FILES = ("h100-8gpu-evidence.json", "nvswitch-4-evidence.json", "hopper-evidence.json")
REQUEST_BYTES = 37
MANIFEST = "rim-vbios-1010_0200_882_96005E0001_PROD.swidtag"


def statements() -> Iterator[DeviceStatement]:
    for name in FILES:
        for item in contained(name).items:
            yield DeviceStatement.parse(item.body)


def refuses_flips(statement: DeviceStatement, stride: int) -> None:
    key = load_certificate(statement.certificates[0]).public_key()
    whole = statement.report.raw
    assert statement.report.signed_by(key)
    for bit in range(0, len(whole) * 8, stride):
        try:
            changed = Report.parse(flipped(whole, bit))
        except MalformedError:
            continue
        assert not changed.signed_by(key), f"bit {bit}"


def test_flipped_bits_of_reports_are_refused() -> None:
    for number, statement in enumerate(statements()):
        refuses_flips(statement, 97 + 2 * number)


@pytest.mark.heavy
def test_every_flipped_bit_of_a_gpu_and_of_a_switch_is_refused() -> None:
    for name in FILES[:2]:
        refuses_flips(DeviceStatement.parse(contained(name).items[0].body), 1)


def test_every_truncation_and_every_added_byte_is_refused() -> None:
    for name in FILES[:2]:
        whole = DeviceStatement.parse(contained(name).items[0].body).report.raw
        for size in range(len(whole)):
            with pytest.raises(MalformedError):
                Report.parse(whole[:size])
        for byte in range(256):
            with pytest.raises(MalformedError):
                Report.parse(whole + bytes([byte]))


def test_lengths_at_their_maximum_are_refused() -> None:
    whole = DeviceStatement.parse(contained(FILES[0]).items[0].body).report.raw
    record = int.from_bytes(whole[REQUEST_BYTES + 5 : REQUEST_BYTES + 8], "little")
    places = {
        "blocks": (REQUEST_BYTES + 4, 1),
        "record": (REQUEST_BYTES + 5, 3),
        "block": (REQUEST_BYTES + 10, 2),
        "value": (REQUEST_BYTES + 13, 2),
        "opaque": (REQUEST_BYTES + 8 + record + 32, 2),
    }
    for at, size in places.values():
        changed = whole[:at] + b"\xff" * size + whole[at + size :]
        with pytest.raises(MalformedError):
            Report.parse(changed)


def test_flipped_bits_of_the_chain_are_refused() -> None:
    statement = DeviceStatement.parse(contained("hopper-evidence.json").items[0].body)
    endorsed = vendor()
    for place, whole in enumerate(statement.certificates):
        for bit in range(0, len(whole) * 8, 89):
            chain = list(statement.certificates)
            chain[place] = flipped(whole, bit)
            with pytest.raises(StrongroomError):
                GPU.genuine(replace(statement, certificates=tuple(chain)), RecordedBinding(), endorsed, PIN)


def test_swapped_chains_are_refused() -> None:
    first, second = (DeviceStatement.parse(item.body) for item in contained(FILES[0]).items[:2])
    with pytest.raises(StrongroomError):
        GPU.genuine(replace(first, certificates=second.certificates), RecordedBinding(), vendor(), PIN)
    for missing in range(4):
        chain = [one for place, one in enumerate(first.certificates) if place != missing]
        with pytest.raises(StrongroomError):
            GPU.genuine(replace(first, certificates=tuple(chain)), RecordedBinding(), vendor(), PIN)


def read_it(data: bytes) -> Manifest:
    anchors = vendor_anchors().of(Vendor.NVIDIA_RIM)
    return read_manifest(data, anchors, PIN, lists=NO_LISTS, answers=OcspAnswers(()))


def test_no_flipped_bit_of_a_manifest_changes_what_is_read() -> None:
    whole = raw(MANIFEST)
    told = read_it(whole)
    for bit in range(0, len(whole) * 8, 307):
        try:
            changed = read_it(flipped(whole, bit))
        except StrongroomError:
            continue
        # Spaces between the parts of a signature aren't signed and mean nothing.
        assert changed == told, f"bit {bit}"
