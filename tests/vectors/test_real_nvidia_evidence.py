"""Reports that real GPUs and switches made: a Hopper machine of eight and four, and two single GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.attestation.bindings import ExpectedBinding, RecordedBinding, Slot
from strongroom.attestation.errors import (
    BadSignatureError,
    ChainRefusedError,
    EvidenceReplayedError,
    WrongStructureError,
)
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.nvidia.opaque import Mode
from strongroom.attestation.nvidia.statement import DeviceStatement
from strongroom.attestation.nvidia.topology import Topology, topology_claims
from strongroom.attestation.policies.nvidia import Demand, NvidiaGpuPolicy
from strongroom.attestation.policies.revocation_rule import RevocationRule
from strongroom.attestation.verifier import Genuine
from strongroom.core.clock import parse_instant
from support.nvidia_vectors import GPU, VBIOS_535, contained, proven, vendor

GOOD_MANIFEST = "rim-vbios-1010_0200_882_96005E0001_PROD.swidtag"
OTHER_MANIFEST = "rim-vbios-96005E0001-measurement-mismatch.xml"
CHAIN = "hopper-535-cert-chain.txt"
FILES = {"h100-8gpu-evidence.json": 8, "nvswitch-4-evidence.json": 4, "hopper-evidence.json": 1}


def strict(**manifests: object) -> NvidiaGpuPolicy:
    rules = replace(NvidiaGpuPolicy.strictest().manifests, revocation=RevocationRule.WHEN_PRESENT)
    return replace(
        NvidiaGpuPolicy.strictest(),
        driver_floors=("535.86.09",),
        vbios_floors=("96.00.5E.00.01",),
        modes=(Mode.UNSTATED,),
        manifests=replace(rules, **manifests),  # type: ignore[arg-type]  # names of its fields
    )


@pytest.mark.parametrize("name", FILES)
def test_every_device_of_the_file_is_genuine_and_bound_to_the_stated_nonce_and_no_other(name: str) -> None:
    found = contained(name)
    assert len(found.items) == FILES[name]
    for item in found.items:
        recorded = proven(item, RecordedBinding(), vendor())
        assert not recorded.bound.fresh
        assert recorded.isolation is IsolationClass.CVM_GPU
        assert recorded.endorsed_until == parse_instant("9999-12-31T23:59:59Z")
        assert not recorded.revocation_checked
        fresh = proven(item, ExpectedBinding(found.stated), vendor())
        assert fresh.bound.fresh
        assert fresh.bound.seen[Slot.NONCE] == found.stated[Slot.NONCE]
        with pytest.raises(EvidenceReplayedError):
            proven(item, ExpectedBinding({Slot.NONCE: bytes(32)}), vendor())


def test_eight_gpus_and_four_switches_of_one_machine_name_each_other() -> None:
    gpus = [one.statement for one in _all("h100-8gpu-evidence.json")]
    switches = [one.statement for one in _all("nvswitch-4-evidence.json")]
    claims = topology_claims(gpus, switches, Topology.EIGHT_BY_FOUR)
    assert claims
    assert all(claim.ok for claim in claims)
    assert not all(claim.ok for claim in topology_claims(gpus[:7], switches, Topology.EIGHT_BY_FOUR))
    assert not all(claim.ok for claim in topology_claims(gpus, switches[:3], Topology.EIGHT_BY_FOUR))
    # The same machine with one GPU shown twice.
    doubled = topology_claims([*gpus[:7], gpus[0]], switches, Topology.EIGHT_BY_FOUR)
    assert {claim.name for claim in doubled if not claim.ok} == {
        "topology.gpus",
        "topology.gpu-statements",
        "topology.gpus-of-switches",
    }


def test_devices_are_told_by_what_the_factory_certified() -> None:
    first = _all("h100-8gpu-evidence.json")[0]
    assert first.hardware_id == bytes.fromhex("412921ce551e4eeda3")
    assert first.measurements == {"driver_version": "590.12", "vbios_version": "96.00.A5.00.01"}
    assert first.statement.proven is not None
    assert first.statement.proven.mode is Mode.PPCIE
    switch = _all("nvswitch-4-evidence.json")[0]
    assert switch.hardware_id == bytes.fromhex("50666e93e19dec7d2d")
    assert switch.measurements == {"vbios_version": "96.10.73.00.01"}


def test_a_report_of_one_kind_of_device_is_refused_as_the_other() -> None:
    for name, kind in (
        ("hopper-evidence.json", EvidenceKind.NVIDIA_SWITCH),
        ("nvswitch-4-evidence.json", EvidenceKind.NVIDIA_GPU),
    ):
        item = EvidenceItem(kind, contained(name).items[0].body)
        with pytest.raises(WrongStructureError):
            proven(item, RecordedBinding(), vendor())


def test_the_535_report_is_genuine_with_its_chain_from_the_collateral_and_matches_12_of_12() -> None:
    item = contained("hopper-535-report.txt").items[0]
    found = proven(item, RecordedBinding(), vendor(manifest=GOOD_MANIFEST, chain=CHAIN))
    assert found.details["rim.vbios"] == f"{VBIOS_535}: 12 of 12"
    assert found.details["rim.driver"] == "NV_GPU_DRIVER_GH100_535.86.09: not in collateral"
    # Its driver's manifest isn't among the vectors, so only a policy that does without it takes the report.
    lenient = strict(rim=Demand.WHEN_PRESENT, rim_signer_must_be_current=False)
    assert all(claim.ok for claim in GPU.judge(found, lenient))
    refused = {claim.name for claim in GPU.judge(found, strict()) if not claim.ok}
    assert refused == {"rim.driver", "rim.vbios.signer-current", "debug"}


def test_the_signer_of_the_manifest_was_current_in_2024_and_is_not_now() -> None:
    item = contained("hopper-535-report.txt").items[0]
    endorsed = vendor(manifest=GOOD_MANIFEST, chain=CHAIN)
    then = proven(item, RecordedBinding(), endorsed, parse_instant("2024-06-01T00:00:00Z"))
    assert then.endorsed_until == parse_instant("2025-06-22T09:30:33Z")
    told = {claim.name: claim.seen for claim in GPU.judge(then, strict())}
    assert told["rim.vbios.signer-current"] == "yes"
    with pytest.raises(ChainRefusedError):
        proven(item, RecordedBinding(), endorsed, parse_instant("2023-06-22T00:00:00Z"))


def test_a_manifest_with_other_golden_values_is_refused_whatever_the_policy_says() -> None:
    item = contained("hopper-535-report.txt").items[0]
    found = proven(item, RecordedBinding(), vendor(manifest=OTHER_MANIFEST, chain=CHAIN))
    assert found.details["rim.vbios"] == f"{VBIOS_535}: 11 of 12, not 9"
    claims = GPU.judge(found, strict(rim=Demand.WHEN_PRESENT, rim_signer_must_be_current=False))
    assert {claim.name for claim in claims if not claim.ok} == {"rim.vbios", "debug"}


def test_a_corrupted_signature_is_refused() -> None:
    item = contained("hopper-535-report-invalid-signature.txt").items[0]
    with pytest.raises(BadSignatureError):
        proven(item, RecordedBinding(), vendor(chain=CHAIN))


def test_a_report_without_a_chain_is_refused() -> None:
    with pytest.raises(ChainRefusedError):
        proven(contained("hopper-535-report.txt").items[0], RecordedBinding(), vendor())


def _all(name: str) -> list[Genuine[DeviceStatement]]:
    return [proven(item, RecordedBinding(), vendor()) for item in contained(name).items]
