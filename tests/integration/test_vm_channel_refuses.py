"""Both ends of a machine's one channel bound what comes, and a machine that can't start says why."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.core.errors import MalformedError, NotFoundError, StrongroomError, UnavailableError
from strongroom.enclave import frames
from strongroom.enclave.adapters.channel import Channel
from strongroom.enclave.sandbox import SandboxError
from strongroom.enclave.vm.adapters.build import FIRMWARE, INITRAMFS, KERNEL, ROOT, VARIABLES
from strongroom.enclave.vm.adapters.port import Port
from strongroom.enclave.vm.adapters.qemu import Outputs, VmLaunch, VmRunner
from strongroom.enclave.vm.machine import QEMU, Accelerator
from support.vm_images import files_of, image_of
from support.vm_lab import FIRMWARE as OVMF
from support.vm_lab import UID, open_to_others, vm_tpm
from support.vm_lab import VARIABLES as OVMF_VARIABLES

pytestmark = pytest.mark.integration


@pytest.fixture
def ends() -> Iterator[tuple[Port, Channel, socket.socket]]:
    inside, outside = socket.socketpair()
    inside.setblocking(False)  # noqa: FBT003 - the function takes it by position
    channel = Channel(outside)
    yield Port(inside.fileno()), channel, outside
    channel.close()
    inside.close()


def test_messages_pass_both_ways(ends: tuple[Port, Channel, socket.socket]) -> None:
    port, channel, _ = ends
    channel.send({"order": 1}, timeout=60)
    assert port.receive(timeout=60) == {"order": 1}
    long = {"text": "x" * 700_000}
    sender = threading.Thread(target=port.send, args=(long,))
    sender.start()
    assert channel.receive(timeout=60) == long
    sender.join()


@pytest.mark.parametrize("data", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x02{ ", b"\0\0\0\x03{ }"])
def test_the_machine_refuses_what_is_no_message(ends: tuple[Port, Channel, socket.socket], data: bytes) -> None:
    port, _, raw = ends
    raw.sendall(data)
    with pytest.raises(MalformedError):
        port.receive(timeout=60)


def test_a_silent_launcher_is_not_waited_for_for_ever(ends: tuple[Port, Channel, socket.socket]) -> None:
    port, _, raw = ends
    raw.sendall(frames.frame({"order": 1})[:6])
    with pytest.raises(UnavailableError, match="in time"):
        port.receive(timeout=0.2)


def test_only_the_named_port_is_opened(tmp_path: Path) -> None:
    (tmp_path / "ports" / "vport0p1").mkdir(parents=True)
    (tmp_path / "ports" / "vport0p1" / "name").write_text("another\n")
    with pytest.raises(NotFoundError):
        Port.named("strongroom", ports=tmp_path / "ports", devices=tmp_path)
    with pytest.raises(NotFoundError):
        Port.named("strongroom", ports=tmp_path / "none")
    (tmp_path / "ports" / "vport0p1" / "name").write_text("strongroom\n")
    (tmp_path / "vport0p1").write_bytes(b"")
    Port.named("strongroom", ports=tmp_path / "ports", devices=tmp_path)


def test_a_machine_that_cannot_start_says_why(tmp_path: Path) -> None:
    if shutil.which(QEMU) is None or not SoftwareTPM.available() or not OVMF.is_file():
        pytest.skip("no QEMU, OVMF or swtpm: tools/install-guest-packages")
    files = files_of()
    folder = tmp_path / "image"
    folder.mkdir()
    shutil.copyfile(OVMF, folder / FIRMWARE)
    shutil.copyfile(OVMF_VARIABLES, folder / VARIABLES)
    for name, data in ((KERNEL, b"no kernel"), (INITRAMFS, files.initramfs), (ROOT, files.root)):
        (folder / name).write_bytes(bytes(data))
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    (sealed / "manifest.json").write_text("{}")
    open_to_others(folder)
    before = set(Path("/tmp").glob("strongroom-vm-*"))  # noqa: S108 - looked at
    with SoftwareTPM(tmp_path / "tpm") as tpm, vm_tpm(tpm) as control:
        launch = VmLaunch(
            image=image_of(files), folder=folder, sealed=sealed, tpm=control, accelerator=Accelerator.TCG, uid=UID
        )
        with pytest.raises(SandboxError) as refused:
            VmRunner().launch(launch, Outputs())
    assert refused.value.reason == "vm.not-booted"
    assert "kernel" in refused.value.remedy
    assert set(Path("/tmp").glob("strongroom-vm-*")) == before  # noqa: S108 - looked at


def test_a_host_without_qemu_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    launch = VmLaunch(
        image=image_of(files_of()),
        folder=tmp_path,
        sealed=tmp_path,
        tpm=tmp_path / "socket",
        accelerator=Accelerator.TCG,
        uid=os.getuid() or UID,
    )
    with pytest.raises(StrongroomError, match="isn't on this host"):
        VmRunner().launch(launch, Outputs())
