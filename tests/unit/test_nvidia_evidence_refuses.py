"""Each step of judging a report refuses what it is there for. The maker is simulated; its roots say so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp

from simulators.nvidia_chain import (
    BEGIN,
    DAY,
    DRIVER_GOLDEN,
    DRIVER_ID,
    FWID,
    GPU_FIELDS,
    MEASUREMENTS,
    NONCE,
    NOW,
    SWITCH_FIELDS,
    VBIOS_GOLDEN,
    VBIOS_ID,
    Device,
    Shape,
    answer,
    answers_for,
    device,
    endorsements,
    entries,
    issued,
    item,
    maker,
    manifest,
    report,
    rim_signer,
    versioned_entries,
)
from strongroom.attestation.bindings import ExpectedBinding, RecordedBinding, Slot
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import (
    BadSignatureError,
    CertificateRevokedError,
    ChainRefusedError,
    EvidenceReplayedError,
    ManifestRefusedError,
    OtherFirmwareError,
    WrongStructureError,
)
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.nvidia.spdm import Report
from strongroom.attestation.nvidia.statement import DeviceStatement, to_body
from strongroom.attestation.trust_anchors import vendor_anchors
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.nvidia import NvidiaGpuVerifier, NvidiaSwitchVerifier
from strongroom.core.errors import MalformedError, UsageError

GPU = NvidiaGpuVerifier()
SWITCH = NvidiaSwitchVerifier()
WANTED = ExpectedBinding({Slot.NONCE: NONCE})


def judged(raw: bytes, made_by: Device, endorsed: Endorsements | None = None) -> Genuine[DeviceStatement]:
    statement = GPU.parse(item(made_by, raw).body)
    return GPU.genuine(statement, WANTED, endorsed or endorsements(), NOW)


@pytest.mark.parametrize("model", ["GH100", "GB100", "GB202"])
def test_a_whole_report_is_genuine_and_simulated(model: str) -> None:
    made = device(model)
    found = judged(report(made), made)
    assert found.bound.fresh
    assert found.hardware_id == made.serial
    assert found.isolation is IsolationClass.VM_SIMULATED
    assert found.measurements == {"driver_version": "590.12", "vbios_version": "96.00.A5.00.01"}
    assert found.details["model"] == model


def test_a_report_with_versioned_opaque_data_is_genuine() -> None:
    made = device()
    fields = {kind: value for kind, value in GPU_FIELDS.items() if kind != 34}
    assert judged(report(made, opaque=versioned_entries(fields)), made).measurements["driver_version"] == "590.12"
    # An entry that a later minor version brings is left unread; a later major version isn't guessed at.
    later = versioned_entries({**fields, 200: b"new"})
    assert judged(report(made, opaque=later), made).statement.opaque.fields[200] == b"new"
    with pytest.raises(MalformedError):
        judged(report(made, opaque=versioned_entries(fields, major=3)), made)


def test_the_makers_own_roots_refuse_every_simulated_report() -> None:
    made = device()
    with pytest.raises(ChainRefusedError):
        judged(report(made), made, Endorsements(anchors=vendor_anchors()))


def test_check_1_refuses_another_devices_signature() -> None:
    with pytest.raises(BadSignatureError):
        judged(report(device()), device())


def test_check_1_refuses_a_key_of_another_curve() -> None:
    made = device(leaf={"curve": ec.SECP256R1()})
    with pytest.raises(BadSignatureError):
        judged(report(device()), made)


def test_check_2_refuses_a_chain_to_another_root() -> None:
    stranger = issued(Shape(name="NVIDIA Device Identity CA"))
    family = issued(Shape(name="NVIDIA GH100 Identity"), stranger)
    made = device(issuer=issued(Shape(name="NVIDIA GH100 Provisioner ICA 1"), family))
    with pytest.raises(ChainRefusedError):
        judged(report(made), made)


@pytest.mark.parametrize("window", [{"begin": NOW + DAY}, {"end": NOW - DAY}])
def test_check_2_refuses_a_certificate_outside_its_time(window: dict[str, int]) -> None:
    made = device(leaf={"begin": BEGIN, **window})
    with pytest.raises(ChainRefusedError):
        judged(report(made), made)


def test_check_3_refuses_a_ca_and_a_key_that_may_not_sign() -> None:
    for fault in ({"ca": True, "signs_certificates": True}, {"signs": False}):
        made = device(leaf=fault)
        with pytest.raises(ChainRefusedError):
            judged(report(made), made)


def test_check_3_refuses_a_device_of_another_kind_or_of_no_known_one() -> None:
    switch = device("LS_10")
    with pytest.raises(WrongStructureError):
        judged(report(switch), switch)
    for model in ("CX700", "TU102", "GH100X", "a toaster"):
        other = device(model)
        with pytest.raises(ChainRefusedError):
            judged(report(other), other)


def test_check_3_refuses_an_attestation_key_of_another_model_than_the_device() -> None:
    made = device("GH100", leaf_model="GB100")
    with pytest.raises(ChainRefusedError):
        judged(report(made), made)


def test_check_3_refuses_a_key_that_the_root_certified_directly() -> None:
    leaf = issued(Shape(name="GH100 A01 GSP FMC LF", ca=None, signs_certificates=False, signs=True), maker().root)
    made = Device(maker().root, leaf)
    statement = GPU.parse(to_body(report(made), leaf.pem))
    with pytest.raises(ChainRefusedError):
        GPU.genuine(statement, WANTED, endorsements(), NOW)


@pytest.mark.parametrize("model", ["GH100", "GB100"])
def test_check_4_refuses_other_firmware_than_the_key_was_certified_for(model: str) -> None:
    made = device(model, fwid=FWID[::-1])
    with pytest.raises(OtherFirmwareError):
        judged(report(made), made)


def test_check_4_refuses_a_certificate_for_another_devices_key() -> None:
    made = device(extension_for=device().factory)
    with pytest.raises(ChainRefusedError):
        judged(report(made), made)


def test_check_4_refuses_a_certificate_that_says_nothing_of_its_firmware() -> None:
    made = device(leaf={"extensions": ()})
    with pytest.raises(MalformedError):
        judged(report(made), made)


@pytest.mark.parametrize("nonce", [bytes(32), NONCE[:31] + b"\xff"])
def test_check_5_refuses_a_report_for_another_challenge(nonce: bytes) -> None:
    made = device()
    with pytest.raises(EvidenceReplayedError):
        judged(report(made, nonce=nonce), made)


def test_check_5_refuses_a_binding_without_a_nonce() -> None:
    made = device()
    statement = GPU.parse(item(made, report(made)).body)
    with pytest.raises(UsageError):
        GPU.genuine(statement, ExpectedBinding({Slot.USER_DATA: NONCE}), endorsements(), NOW)
    assert not GPU.genuine(statement, RecordedBinding(), endorsements(), NOW).bound.fresh


def test_check_6_compares_both_manifests() -> None:
    made = device()
    endorsed = endorsements(
        manifests=[
            (DRIVER_ID, manifest("590.12", DRIVER_GOLDEN)),
            (VBIOS_ID, manifest("96.00.a5.00.01", VBIOS_GOLDEN)),
        ]
    )
    found = judged(report(made), made, endorsed)
    assert found.details["rim.driver"] == f"{DRIVER_ID}: 2 of 2"
    assert found.details["rim.vbios"] == f"{VBIOS_ID}: 4 of 4"
    wrong = {**MEASUREMENTS, 10: bytes(47) + b"\1"}
    assert judged(report(made, measurements=wrong), made, endorsed).details["rim.vbios"].endswith(": 3 of 4, not 9")
    absent = {index: value for index, value in MEASUREMENTS.items() if index != 17}
    assert judged(report(made, measurements=absent), made, endorsed).details["rim.driver"].endswith(": 1 of 2, not 16")


def test_check_6_leaves_the_video_decoder_out_only_where_it_is_off() -> None:
    made = device()
    endorsed = endorsements(manifests=[(DRIVER_ID, manifest("590.12", DRIVER_GOLDEN))])
    wrong = {**MEASUREMENTS, 36: bytes(48)}
    for status, told in ((b"\xaa", "1 of 2, not 35"), (b"\x55", "1 of 1")):
        raw = report(made, measurements=wrong, opaque=entries({**GPU_FIELDS, 11: status}))
        assert judged(raw, made, endorsed).details["rim.driver"] == f"{DRIVER_ID}: {told}"
    silent = {kind: value for kind, value in GPU_FIELDS.items() if kind != 11}
    raw = report(made, measurements=wrong, opaque=entries(silent))
    assert judged(raw, made, endorsed).details["rim.driver"].endswith("1 of 2, not 35")
    with pytest.raises(MalformedError):
        judged(report(made, opaque=entries({**GPU_FIELDS, 11: b"\0"})), made, endorsed)


def test_check_6_refuses_two_manifests_for_one_measurement() -> None:
    made = device()
    endorsed = endorsements(
        manifests=[
            (DRIVER_ID, manifest("590.12", {9: (bytes(48),)})),
            (VBIOS_ID, manifest("96.00.A5.00.01", VBIOS_GOLDEN)),
        ]
    )
    with pytest.raises(ManifestRefusedError):
        judged(report(made), made, endorsed)


def test_check_6_refuses_a_manifest_of_another_version_under_this_name() -> None:
    made = device()
    with pytest.raises(ManifestRefusedError):
        judged(report(made), made, endorsements(manifests=[(DRIVER_ID, manifest("590.11", DRIVER_GOLDEN))]))


def test_check_6_takes_a_manifest_that_holds_where_another_of_its_name_does_not() -> None:
    made = device()
    good = manifest("590.12", DRIVER_GOLDEN)
    bad = good.replace(MEASUREMENTS[17].hex().encode(), bytes(48).hex().encode())
    found = judged(report(made), made, endorsements(manifests=[(DRIVER_ID, bad), (DRIVER_ID, good)]))
    assert found.details["rim.driver"].endswith(": 2 of 2")
    with pytest.raises(ManifestRefusedError):
        judged(report(made), made, endorsements(manifests=[(DRIVER_ID, bad)]))


def test_every_certificate_that_can_be_revoked_must_be_looked_up() -> None:
    made, signer = device(), rim_signer()
    manifests = [(DRIVER_ID, manifest("590.12", DRIVER_GOLDEN, signer=signer))]
    answers = answers_for(made, signer)
    whole = judged(report(made), made, endorsements(manifests=manifests, answers=answers))
    assert whole.revocation_checked
    assert whole.endorsed_until == NOW + DAY
    for missing in range(len(answers)):
        fewer = [one for place, one in enumerate(answers) if place != missing]
        found = judged(report(made), made, endorsements(manifests=manifests, answers=fewer))
        assert not found.revocation_checked


def test_a_switch_is_genuine_with_its_bios_and_its_neighbours() -> None:
    made = device("LS_10")
    raw = report(made, opaque=entries(SWITCH_FIELDS))
    statement = SWITCH.parse(item(made, raw, EvidenceKind.NVIDIA_SWITCH).body)
    found = SWITCH.genuine(statement, WANTED, endorsements(), NOW)
    assert found.kind is EvidenceKind.NVIDIA_SWITCH
    assert found.measurements == {"vbios_version": "96.10.73.00.01"}
    gpu = device()
    with pytest.raises(WrongStructureError):
        SWITCH.genuine(GPU.parse(item(gpu, report(gpu)).body), WANTED, endorsements(), NOW)


def test_a_chain_may_come_from_the_collateral_and_is_walked_all_the_same() -> None:
    made = device()
    bare = GPU.parse(to_body(report(made), b""))
    chain = [made.attestation.der, made.factory.der, maker().provisioner.der, maker().family.der]
    found = GPU.genuine(bare, WANTED, endorsements(certificates=[device().attestation.der, *chain]), NOW)
    assert found.hardware_id == made.serial
    with pytest.raises(BadSignatureError):
        GPU.genuine(bare, WANTED, endorsements(certificates=[device().attestation.der]), NOW)
    with pytest.raises(ChainRefusedError):
        GPU.genuine(bare, WANTED, endorsements(certificates=chain[:3]), NOW)
    with pytest.raises(ChainRefusedError):
        GPU.genuine(bare, WANTED, endorsements(), NOW)


def test_a_narrower_question_or_an_unsigned_one_is_refused() -> None:
    made = device()
    for request in (b"\x11\xe0\x01\x05", b"\x11\xe0\x00\xff", b"\x12\xe0\x01\xff", b"\x11\xe1\x01\xff"):
        with pytest.raises(MalformedError):
            GPU.parse(item(made, report(made, request=request)).body)


def test_what_stands_twice_is_refused() -> None:
    made = device()
    twice = entries({3: b"590.12\0"}) + entries(GPU_FIELDS)
    with pytest.raises(MalformedError):
        GPU.parse(item(made, report(made, opaque=twice)).body)
    whole = report(made)
    # The second block's index becomes the first's.
    second = 37 + 8 + 55
    assert whole[second] == 2
    with pytest.raises(MalformedError):
        Report.parse(whole[:second] + b"\1" + whole[second + 1 :])


@pytest.mark.parametrize(
    "fields",
    [
        {34: b"\x03\0"},
        {36: b"\x07"},
        {6: b"\1\2\3"},
        {3: b"590.12\n"},
        {3: b"5" * 65},
        {22: bytes(7)},
    ],
    ids=["version", "mode", "vbios", "driver", "driver-length", "switches"],
)
def test_opaque_data_that_makes_no_sense_is_refused(fields: dict[int, bytes]) -> None:
    made = device()
    with pytest.raises(MalformedError):
        judged(report(made, opaque=entries({**GPU_FIELDS, **fields})), made)


def test_a_statement_is_judged_only_once_it_is_genuine() -> None:
    made = device()
    found = judged(report(made), made)
    with pytest.raises(UsageError):
        GPU.judge(replace(found, statement=replace(found.statement, proven=None)), GPU.policy.strictest())


def test_a_revoked_device_is_refused() -> None:
    made = device()
    revoked = answer(made.factory, maker().provisioner, status=ocsp.OCSPCertStatus.REVOKED)
    with pytest.raises(CertificateRevokedError):
        judged(report(made), made, endorsements(answers=[revoked]))
