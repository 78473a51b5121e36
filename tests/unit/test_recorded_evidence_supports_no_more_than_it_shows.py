"""Files of evidence: read in one way only, judged one statement at a time, worth no more than the weakest."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from simulators import nvidia_chain as nvidia
from simulators.attester import NOW, attester, binding
from simulators.sev_snp_chain import Machine
from strongroom.attestation import recorded
from strongroom.attestation.containers.contained import MAX_FILE, Contained
from strongroom.attestation.evidence import EvidenceItem
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.platform_record import PLATFORM_TYPE
from strongroom.attestation.recorded import MAX_STATEMENTS, isolation_of, read_file
from strongroom.attestation.results import Status, SubmoduleResult
from strongroom.core.clock import format_instant
from strongroom.core.envelope import sign
from strongroom.core.errors import MalformedError
from strongroom.core.signature import Ed25519Signer
from support.attestation_cli import attestation, policy_file
from support.attestation_results import statement

Reader = Callable[[bytes], Contained | None]


def found(form: str, count: int = 1) -> Reader:
    items = (EvidenceItem(EvidenceKind.SEV_SNP, Machine().body()),) * count
    return lambda _data: Contained(form=form, items=items)


def nothing(_data: bytes) -> Contained | None:
    return None


def broken(_data: bytes) -> Contained | None:
    raise MalformedError("it is cut")


def with_readers(monkeypatch: pytest.MonkeyPatch, *readers: Reader) -> None:
    monkeypatch.setattr(recorded, "_READERS", readers)


def test_a_file_that_two_readers_claim_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with_readers(monkeypatch, found("one"), nothing, found("other"))
    with pytest.raises(MalformedError, match="`one` and as `other`"):
        read_file(b"x")


def test_what_one_reader_knows_another_may_not_understand(monkeypatch: pytest.MonkeyPatch) -> None:
    with_readers(monkeypatch, broken, found("one"))
    assert read_file(b"x").form == "one"
    with_readers(monkeypatch, nothing, broken)
    with pytest.raises(MalformedError, match="it is cut"):
        read_file(b"x")


def test_files_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MalformedError):
        read_file(bytes(MAX_FILE + 1))
    for count in (0, MAX_STATEMENTS + 1):
        with_readers(monkeypatch, found("one", count))
        with pytest.raises(MalformedError):
            read_file(b"x")


def of(kind: EvidenceKind, isolation: IsolationClass, status: Status = Status.GENUINE) -> SubmoduleResult:
    return replace(statement(kind=kind), isolation=isolation, status=status)


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([of(EvidenceKind.SEV_SNP, IsolationClass.CVM)], IsolationClass.CVM),
        # That the devices are this machine's is what only a live challenge shows.
        (
            [of(EvidenceKind.TDX, IsolationClass.CVM), of(EvidenceKind.NVIDIA_GPU, IsolationClass.CVM_GPU)],
            IsolationClass.CVM,
        ),
        (
            [of(EvidenceKind.TDX, IsolationClass.CVM), of(EvidenceKind.NVIDIA_GPU, IsolationClass.VM_SIMULATED)],
            IsolationClass.VM_SIMULATED,
        ),
        ([of(EvidenceKind.NVIDIA_GPU, IsolationClass.CVM_GPU)] * 8, IsolationClass.NONE),
        # Worse than no evidence, and never lifted to it by what stands beside it or is missing.
        ([of(EvidenceKind.NVIDIA_GPU, IsolationClass.VM_SIMULATED)], IsolationClass.VM_SIMULATED),
        (
            [of(EvidenceKind.TDX, IsolationClass.NONE), of(EvidenceKind.NVIDIA_GPU, IsolationClass.VM_SIMULATED)],
            IsolationClass.VM_SIMULATED,
        ),
        (
            [of(EvidenceKind.TDX, IsolationClass.CVM), of(EvidenceKind.TDX, IsolationClass.CVM, Status.ERROR)],
            IsolationClass.NONE,
        ),
        ([], IsolationClass.NONE),
    ],
)
def test_statements_support_what_the_weakest_does(results: list[SubmoduleResult], expected: IsolationClass) -> None:
    assert isolation_of(results) is expected


def test_a_tpm_is_known_by_its_record(tmp_path: Path) -> None:
    (tmp_path / "evidence.json").write_bytes(attester().evidence(binding()).to_bytes())
    signed = sign(PLATFORM_TYPE, attester().record().to_bytes(), Ed25519Signer.from_seed(bytes(32)))
    (tmp_path / "platform.json").write_bytes(signed.to_bytes())
    policy = policy_file(tmp_path, EvidenceKind.TPM2, revocation="when-present")
    told: list[str | Path] = ["verify", tmp_path / "evidence.json", "--policy", policy, "--at", format_instant(NOW)]
    challenge = ("--qualifying-data", binding().tpm2_qualifying_data.hex())
    code, output = attestation(*told, *challenge, "--platform", tmp_path / "platform.json")
    assert code == 0, output
    assert "vm-simulated: SIMULATED, for tests" in output
    assert attestation(*told, *challenge)[0] == 3
    other = tmp_path / "other.json"
    other.write_bytes(attester("b").record().to_bytes())
    assert attestation(*told, *challenge, "--platform", other)[0] == 3


def devices_file(folder: Path, *devices: nvidia.Device) -> Path:
    told = [
        {
            "arch": "HOPPER",
            "evidence": base64.b64encode(nvidia.report(one)).decode(),
            "certificate": base64.b64encode(one.bundle).decode(),
        }
        for one in devices
    ]
    path = folder / "devices.json"
    path.write_text(json.dumps(told))
    return path


@pytest.mark.parametrize("challenge", [["--nonce", nvidia.NONCE.hex()], ["--unbound"]], ids=["bound", "unbound"])
def test_a_device_that_stands_there_twice_is_refused(tmp_path: Path, challenge: list[str]) -> None:
    (tmp_path / "root.der").write_bytes(nvidia.maker().root.der)
    policy = policy_file(
        tmp_path, EvidenceKind.NVIDIA_GPU, rim="when-present", revocation="when-present", driver_floors="any"
    )
    told: list[str | Path] = ["--policy", policy, "--at", format_instant(nvidia.NOW), *challenge]
    told += ["--anchor", "nvidia-device", tmp_path / "root.der"]
    one, other = nvidia.device(), nvidia.device(pdi=bytes(range(8)))
    code, output = attestation("verify", devices_file(tmp_path, one, other), *told)
    assert code == (0 if challenge != ["--unbound"] else 4), output
    assert "each is judged by itself; the policy's rules for devices together" in " ".join(output.split())
    code, output = attestation("verify", devices_file(tmp_path, one, other, one), *told)
    assert code == 3
    assert output.count("device-once: seen 2 statements of one device; wanted one") == 2
