"""Whatever bytes come, NVIDIA's parsers return or raise an error of our own."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from simulators.nvidia_chain import (
    GPU_FIELDS,
    MEASUREMENTS,
    NONCE,
    NOW,
    SWITCH_FIELDS,
    VBIOS_GOLDEN,
    answer,
    device,
    endorsements,
    entries,
    item,
    maker,
    manifest,
    report,
    versioned_entries,
)
from strongroom.attestation.bindings import RecordedBinding
from strongroom.attestation.containers.nvidia import read
from strongroom.attestation.nvidia.dice import Architecture, certified_fwid
from strongroom.attestation.nvidia.manifest import read_manifest
from strongroom.attestation.nvidia.opaque import Field, OpaqueData
from strongroom.attestation.nvidia.spdm import Report
from strongroom.attestation.nvidia.statement import DeviceStatement
from strongroom.attestation.ocsp import OcspAnswers
from strongroom.attestation.revocation import NO_LISTS
from strongroom.attestation.trust_anchors import Vendor
from strongroom.attestation.verifiers.nvidia import NvidiaGpuVerifier, NvidiaSwitchVerifier
from strongroom.core.errors import StrongroomError

GPU = device()
REPORT = report(GPU)
BODY = item(GPU, REPORT).body
MANIFEST = manifest("96.00.A5.00.01", VBIOS_GOLDEN)
ANSWER = answer(GPU.factory, maker().provisioner)
FILE = json.dumps([{"evidence": base64.b64encode(REPORT).decode(), "certificate": GPU.bundle.decode()}]).encode()
GPU_VERIFIER = NvidiaGpuVerifier()
SWITCH_VERIFIER = NvidiaSwitchVerifier()
PROPERTIES = (
    "driver_version",
    "gpu_vbios_version",
    "switch_bios_version",
    "fwid",
    "video_decoder_is_off",
    "mode",
    "switches_of_gpu",
    "own_pdi_of_switch",
    "gpus_of_switch",
    "switch_is_locked",
)


def opaque(data: bytes) -> None:
    found = OpaqueData.parse(data)
    for name in PROPERTIES:
        with suppress(StrongroomError):
            getattr(found, name)


def manifests(data: bytes) -> None:
    anchors = maker().anchors.of(Vendor.NVIDIA_RIM)
    read_manifest(data, anchors, NOW, lists=NO_LISTS, answers=OcspAnswers(()))


def answers(data: bytes) -> None:
    OcspAnswers.load([data]).look_up(GPU.factory.certificate, maker().provisioner.certificate, NOW)


PARSERS: tuple[tuple[Callable[[bytes], object], bytes], ...] = (
    (Report.parse, REPORT),
    (opaque, entries({**GPU_FIELDS, **SWITCH_FIELDS})),
    (opaque, versioned_entries(GPU_FIELDS)),
    (DeviceStatement.parse, BODY),
    (manifests, MANIFEST),
    (answers, ANSWER),
    (read, FILE),
    (read, GPU.bundle),
)


@given(st.sampled_from(PARSERS), st.binary(max_size=600))
def test_any_bytes(parser: tuple[Callable[[bytes], object], bytes], data: bytes) -> None:
    with suppress(StrongroomError):
        parser[0](data)


@given(st.sampled_from(PARSERS), st.data())
def test_good_bytes_with_a_part_replaced(parser: tuple[Callable[[bytes], object], bytes], data: st.DataObject) -> None:
    parse, good = parser
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 40)))
    with suppress(StrongroomError):
        parse(good[:start] + data.draw(st.binary(max_size=40)) + good[end:])


@given(st.dictionaries(st.integers(0, 0xFFFF), st.binary(max_size=200), max_size=40))
def test_opaque_data_is_read_back_in_both_layouts(fields: dict[int, bytes]) -> None:
    old = {kind: value for kind, value in fields.items() if kind != Field.LAYOUT_VERSION}
    assert OpaqueData.parse(versioned_entries(fields)).fields == fields
    if not entries(old).startswith(b"NVDAOD"):
        assert OpaqueData.parse(entries(old)).fields == old


@given(st.dictionaries(st.integers(1, 0xEF), st.binary(max_size=64), min_size=1, max_size=80), st.binary(max_size=900))
def test_reports_are_read_back(measurements: dict[int, bytes], tail: bytes) -> None:
    raw = report(GPU, measurements=measurements, opaque=tail)
    found = Report.parse(raw)
    assert (found.measurements, found.opaque, found.nonce, found.raw) == (measurements, tail, NONCE, raw)
    assert found.signed_by(GPU.attestation.certificate.public_key())


@given(st.binary(max_size=300))
def test_any_dice_extension(value: bytes) -> None:
    for architecture, oid in ((Architecture.HOPPER, "2.23.133.5.4.1"), (Architecture.BLACKWELL, "2.23.133.5.4.1.1")):
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        made = device(leaf={"extensions": (extension,)})
        with suppress(StrongroomError):
            certified_fwid(made.attestation.certificate, made.factory.certificate, architecture)


@given(st.dictionaries(st.sampled_from([field.value for field in Field]), st.binary(max_size=160), max_size=14))
def test_whatever_a_genuine_device_states_is_judged_or_refused(fields: dict[int, bytes]) -> None:
    statement = GPU_VERIFIER.parse(BODY)
    raw = report(GPU, measurements=dict(list(MEASUREMENTS.items())[:2]), opaque=entries(fields))
    with suppress(StrongroomError):
        told = replace(statement, report=Report.parse(raw), opaque=OpaqueData.parse(entries(fields)))
        found = GPU_VERIFIER.genuine(told, RecordedBinding(), endorsements(), NOW)
        GPU_VERIFIER.judge(found, GPU_VERIFIER.policy.strictest())
        SWITCH_VERIFIER.genuine(told, RecordedBinding(), endorsements(), NOW)
