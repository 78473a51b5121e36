"""A real machine boots a built image: what was predicted is what is quoted, the keeper releases to it, and to no other.

Emulated, so slow; the software TPM and the machine's memory are the host's own: this proves plumbing and policy, and
its evidence has the class `vm-simulated`. How long each step took is printed, and not judged.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.measurement import MeasuredName
from strongroom.attestation.tpm.event_log import EventLog, replay
from strongroom.attestation.tpm.statement import TpmStatement
from strongroom.enclave.sandbox import SandboxError
from strongroom.enclave.vm.adapters.qemu import Outputs, VmRunner
from strongroom.tpm.wire import ALG_SHA256
from support.logs import GENESIS
from support.vm_lab import Ran, VmLab, open_to_others, require_tools, vm_lab, vm_tpm, with_word

pytestmark = [pytest.mark.integration, pytest.mark.heavy, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VmLab]:
    kernel = require_tools(boot=True)
    folder = tmp_path_factory.mktemp("vm")
    with SoftwareTPM(tmp_path_factory.mktemp("tpm")) as tpm, vm_lab(folder, tpm, kernel) as made:
        yield made


@pytest.fixture(scope="module")
def ran(lab: VmLab) -> Ran:
    return lab.run()


def test_the_keeper_releases_to_the_predicted_machine(ran: Ran) -> None:
    assert ran.error is None, f"{ran.error!r} {ran.error.remedy} {ran.err[-3000:]!r}"
    assert ran.status is not None
    assert ran.status.succeeded, ran.err[-3000:]
    assert json.loads(ran.out)["read"] == {"config.json": '{"answer": 42}'}
    steps = ("started", "asked", "attested", "released", "opened", "ended")
    seconds = [f"{name} {ran.times[name] - ran.times['started']:.2f} s" for name in steps]
    print("from the start:", ", ".join(seconds))  # noqa: T201 - a measurement, not judged


def test_nothing_gets_out_of_the_machine(ran: Ran) -> None:
    told = json.loads(ran.out)
    assert len(told["machine"]) == 13
    assert told["uid"] == 65534
    escaped = {name: how for name, how in told["results"].items() if how[0] != "blocked"}
    assert escaped == {}


def test_the_boot_log_replays_to_the_prediction(lab: VmLab) -> None:
    with vm_tpm(lab.attested.tpm) as tpm:
        launch = lab.launch(lab.image, lab.folder, tpm)
        with VmRunner().launch(launch, Outputs()) as running:
            booted = running.booted
    assert booted is not None
    print(f"first word after {booted.milliseconds} ms of the guest's own time")  # noqa: T201 - as above
    assert booted.pcrs[4] == lab.prediction.pcr4.hex()
    assert booted.pcrs[9] == lab.prediction.pcr9.hex()
    log = EventLog.parse(booted.event_log)
    values = replay(log, ALG_SHA256)
    assert {number: values[number].hex() for number in (4, 9)} == {number: booted.pcrs[number] for number in (4, 9)}
    kernel = next(iter(log.extended(4))).digests[ALG_SHA256]
    assert kernel == lab.prediction.kernel.value


def test_one_more_word_on_the_command_line_gets_no_key(lab: VmLab) -> None:
    ran = lab.run(with_word(lab.image, "lockdown=none"))
    assert ran.out == b""
    assert ran.error is not None
    assert ran.error.reason == "unwanted-pcr9"
    assert "opened" not in ran.times


def test_another_deployments_genesis_gets_no_key(lab: VmLab) -> None:
    # Its keeper would be believed inside: what it signs would be keys, leases and what may leave.
    ran = lab.run(genesis=GENESIS)
    assert ran.out == b""
    assert ran.error is not None
    # The quote is for another deployment than the keeper's; and the registers in it say so as well.
    assert ran.error.reason == "evidence-replayed"
    assert "opened" not in ran.times
    statement = TpmStatement.parse(Evidence.parse(ran.evidence).main.body)
    measured = {event.measurement.name: event.measurement.digest for event in statement.events}
    assert measured[MeasuredName.GENESIS] == GENESIS.digest
    wanted = {one.name: one.digest for one in lab.prediction.launch}
    assert {name for name in wanted if wanted[name] != measured[name]} == {MeasuredName.GENESIS}


def test_a_changed_root_does_not_run(lab: VmLab, tmp_path: Path) -> None:
    folder = tmp_path / "image"
    shutil.copytree(lab.folder, folder)
    open_to_others(folder)
    with (folder / "root.disk").open("r+b") as disk:
        # The file system's own time of making: nothing but the tree of hashes minds.
        disk.seek(8)
        disk.write(b"\1")
    with vm_tpm(lab.attested.tpm) as tpm:
        launch = lab.launch(lab.image, folder, tpm)
        with pytest.raises(SandboxError, match="ended before it said anything"):
            VmRunner().launch(launch, Outputs()).kill()
