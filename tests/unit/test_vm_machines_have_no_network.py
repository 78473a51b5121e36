"""Whatever an image is started on: no network, nothing that QEMU adds by itself, read-only disks, one port."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath

import pytest

from strongroom.enclave.vm.machine import Accelerator, Places, arguments
from support.vm_images import files_of, image_of

IMAGE = image_of(files_of())
PLACES = Places(
    firmware=PurePath("/i/firmware.fd"),
    variables=PurePath("/w/variables.fd"),
    kernel=PurePath("/i/kernel"),
    initramfs=PurePath("/i/initramfs"),
    root=PurePath("/i/root.disk"),
    sealed=PurePath("/w/sealed.disk"),
    tpm=PurePath("/t/control.sock"),
    port=7,
)


def values(words: tuple[str, ...], option: str) -> list[str]:
    return [words[at + 1] for at, word in enumerate(words) if word == option]


@pytest.mark.parametrize("host", Accelerator)
def test_nothing_is_attached_but_what_is_meant(host: Accelerator) -> None:
    words = arguments(IMAGE, PLACES, host)
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(words)
    for option in ("-nic", "-display", "-vga", "-serial", "-parallel", "-monitor"):
        assert values(words, option) == ["none"]
    kinds = {device.partition(",")[0] for device in values(words, "-device")}
    assert kinds - {"tpm-tis"} == {"virtio-blk-pci", "virtio-serial-pci", "virtserialport"}
    assert not {"-netdev", "-net", "-qmp", "-mon", "-usb", "-virtfs", "-incoming", "-loadvm", "-gdb", "-s"} & set(words)
    (sandbox,) = values(words, "-sandbox")
    assert sandbox == "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
    assert values(words, "-append") == [IMAGE.command_line]


@pytest.mark.parametrize("host", Accelerator)
def test_disks_are_read_only_and_the_root_comes_first(host: Accelerator) -> None:
    drives = values(arguments(IMAGE, PLACES, host), "-drive")
    disks = [drive for drive in drives if drive.startswith("if=none")]
    assert [disk.partition("file=")[2] for disk in disks] == ["/i/root.disk", "/w/sealed.disk"]
    writable = [drive for drive in drives if "readonly=on" not in drive]
    assert all(drive == "if=pflash,unit=1,format=raw,file=/w/variables.fd" for drive in writable)


def test_a_comma_in_a_path_adds_no_option() -> None:
    words = arguments(IMAGE, replace(PLACES, sealed=PurePath("/w/a,readonly=off")), Accelerator.TCG)
    assert any(drive.endswith("file=/w/a,,readonly=off") for drive in values(words, "-drive"))


def test_confidential_starts_measure_the_kernel() -> None:
    objects = values(arguments(IMAGE, PLACES, Accelerator.SEV_SNP), "-object")
    assert any("sev-snp-guest" in one and "kernel-hashes=on" in one for one in objects)
    assert "tdx-guest,id=tdx0" in values(arguments(IMAGE, PLACES, Accelerator.TDX), "-object")
