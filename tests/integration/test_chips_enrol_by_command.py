"""`strongroom enclave enrol --chip` on a machine that plays a confidential guest: enrolled by its own evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from simulators.attester import NOW
from simulators.deployment_in_memory import InMemoryDeployment
from simulators.evidence_devices import FakeReports
from simulators.sev_snp_chain import MEASUREMENT, Machine, anchors
from strongroom.attestation.adapters.configfs_tsm import TsmSource
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.policies.revocation_rule import RevocationRule
from strongroom.attestation.reference_values import REFERENCE_VALUES_TYPE, ReferenceImage
from strongroom.cli import attestation_collect, enclave
from strongroom.core.clock import Instant
from strongroom.core.envelope import sign
from support.deployment import signer
from support.place import Place
from support.room import IMAGE
from support.snp_room import APPRAISAL, RULES

pytestmark = pytest.mark.integration


class _Clock:
    """Stands still, within what the made-up maker's certificates last."""

    def now(self) -> Instant:
        return NOW


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A deployment whose reference values take SEV-SNP chips of a made-up maker."""
    deployment = InMemoryDeployment(_Clock())
    monkeypatch.setattr(enclave, "connect", lambda _wallet: deployment)
    deployment.adopt_first()
    rules = replace(RULES, revocation=RevocationRule.WHEN_PRESENT)
    before = deployment.reference_values()
    values = replace(
        before,
        epoch=2,
        predecessor=before.digest,
        images=(ReferenceImage(image=IMAGE, measured={EvidenceKind.SEV_SNP: ({"measurement": MEASUREMENT.hex()},)}),),
        anchors=anchors().anchors,
        appraisal=replace(APPRAISAL, kinds={EvidenceKind.SEV_SNP: rules}),
    )
    signed = sign(REFERENCE_VALUES_TYPE, values.to_bytes(), signer("root-0"), signer("root-1"))
    deployment.adopt("reference-values", signed)
    yield Place(tmp_path, deployment)
    deployment.close()


def machine(monkeypatch: pytest.MonkeyPatch, chip: Machine) -> None:
    """Play this machine: the chip that its kernel's interface answers for."""
    monkeypatch.setattr(attestation_collect, "TsmSource", lambda names: TsmSource(names, FakeReports(machine=chip)))


def test_a_chip_is_enrolled_by_its_own_evidence(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, Machine())
    told = place.json("enclave", "enrol", "--chip", "configfs-tsm", by="dana")
    assert told["platform"].startswith("sev-snp-")
    assert told["isolation"] == "vm-simulated"
    # The answer to the first was lost on its way, say: the same chip gets its record again.
    assert place.json("enclave", "enrol", "--chip", "configfs-tsm", by="dana") == told
    other = Machine(chip_id=b"\x07" * 64, certified_chip=b"\x07" * 64)
    machine(monkeypatch, other)
    assert place.json("enclave", "enrol", "--chip", "configfs-tsm", by="dana")["platform"] != told["platform"]


@pytest.mark.parametrize(
    ("chip", "reason"),
    [
        (Machine(chip_id=bytes(64)), "chip-masked"),
        (Machine(policy=Machine().policy | 1 << 19), "unwanted-debug"),
        (Machine(vmpl=2), "unwanted-vmpl"),
    ],
    ids=["masked", "debug", "below a paravisor"],
)
def test_a_chip_that_isn_t_wanted_is_not_enrolled(
    chip: Machine, reason: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, chip)
    refused = place.json("enclave", "enrol", "--chip", "configfs-tsm", by="dana", code=3)
    assert refused["code"] == reason


def test_a_machine_is_enrolled_by_one_of_both(place: Place) -> None:
    for arguments in ((), ("--chip", "configfs-tsm", "--tpm", "device:/dev/tpmrm0")):
        assert place.json("enclave", "enrol", *arguments, by="dana", code=2)["code"] == "usage"


def test_a_machine_without_a_chip_says_so(place: Place) -> None:
    refused = place.json("enclave", "enrol", "--chip", "nsm", by="dana", code=7)
    assert refused["code"] == "evidence-not-collected"
