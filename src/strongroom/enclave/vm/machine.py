"""The command line of a machine under QEMU. Pure: an image and places in, words out.

No network device, one serial port, two read-only disks, a TPM, and nothing that QEMU would add by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from strongroom.enclave.vm.definition import VmImage
from strongroom.enclave.vm.layout import PORT_NAME

QEMU: Final = "qemu-system-x86_64"
_NOTHING_ELSE: Final = (
    "-no-user-config",
    "-nodefaults",
    "-no-reboot",
    "-nic",
    "none",
    "-display",
    "none",
    "-vga",
    "none",
    "-serial",
    "none",
    "-parallel",
    "none",
    "-monitor",
    "none",
)
_SANDBOX: Final = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
_SNP_POLICY: Final = 0x30000
"""No debugging, no migration, SMT allowed; the bit that must be one (SEV-SNP ABI, section 4.3)."""


class Accelerator(StrEnum):
    """What runs the guest's instructions. A KVM device that is there may still not boot anything: try it."""

    KVM = "kvm"
    TCG = "tcg"
    """Emulation: slow, and on any host."""
    SEV_SNP = "sev-snp"
    """KVM, and a chip of AMD's that keeps the machine's memory from the host. Never run here."""
    TDX = "tdx"
    """The same of Intel's. Never run here."""

    @property
    def confidential(self) -> bool:
        """Whether a chip speaks for the machine; then it has no TPM, and firmware of its own."""
        return self in {Accelerator.SEV_SNP, Accelerator.TDX}


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the files and sockets of one start lie."""

    firmware: PurePath
    variables: PurePath
    """A copy for this start alone: the firmware writes to it."""
    kernel: PurePath
    initramfs: PurePath
    root: PurePath
    sealed: PurePath
    tpm: PurePath
    """swtpm's control socket; confidential machines have none."""
    port: int
    """A connected socket, as QEMU inherits it."""


def arguments(image: VmImage, places: Places, accelerator: Accelerator) -> tuple[str, ...]:
    """Return the words that start ``image``, QEMU's own name first."""
    match accelerator:
        case Accelerator.SEV_SNP:
            return _sev_snp(image, places)
        case Accelerator.TDX:
            return _tdx(image, places)
        case Accelerator.KVM | Accelerator.TCG:
            return _with_tpm(image, places, accelerator)


def _with_tpm(image: VmImage, places: Places, accelerator: Accelerator) -> tuple[str, ...]:
    return (
        QEMU,
        *_NOTHING_ELSE,
        "-sandbox",
        _SANDBOX,
        "-machine",
        f"q35,accel={accelerator.value},dump-guest-core=off,mem-merge=off,vmport=off",
        "-cpu",
        "host" if accelerator is Accelerator.KVM else "max",
        *_size_and_code(image, places),
        "-drive",
        f"if=pflash,unit=0,format=raw,readonly=on,file={_escaped(places.firmware)}",
        "-drive",
        f"if=pflash,unit=1,format=raw,file={_escaped(places.variables)}",
        *_disks_and_port(places),
        "-chardev",
        f"socket,id=tpm,path={_escaped(places.tpm)}",
        "-tpmdev",
        "emulator,id=tpm0,chardev=tpm",
        "-device",
        "tpm-tis,tpmdev=tpm0",
    )


def _sev_snp(image: VmImage, places: Places) -> tuple[str, ...]:
    """Return the words for an AMD SEV-SNP host (QEMU 9.1 or newer, firmware of the ``AmdSev`` platform).

    ``kernel-hashes`` puts kernel, initial file system and command line into the launch digest. Never run here.
    """
    return (
        QEMU,
        *_NOTHING_ELSE,
        "-sandbox",
        _SANDBOX,
        "-machine",
        "q35,accel=kvm,dump-guest-core=off,confidential-guest-support=sev0,memory-backend=ram0,vmport=off",
        "-object",
        f"memory-backend-memfd,id=ram0,size={image.memory_mib}M,share=true,prealloc=false",
        "-object",
        f"sev-snp-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,policy={_SNP_POLICY:#x},kernel-hashes=on",
        "-cpu",
        "EPYC-v4",
        *_size_and_code(image, places),
        "-bios",
        str(places.firmware),
        *_disks_and_port(places),
    )


def _tdx(image: VmImage, places: Places) -> tuple[str, ...]:
    """Return the words for an Intel TDX host (QEMU 10.1 or newer, firmware of the ``IntelTdx`` platform).

    The firmware measures kernel, command line and initial file system into RTMR1 and RTMR2. Never run here.
    """
    return (
        QEMU,
        *_NOTHING_ELSE,
        "-sandbox",
        _SANDBOX,
        "-machine",
        "q35,accel=kvm,dump-guest-core=off,kernel-irqchip=split,confidential-guest-support=tdx0,vmport=off",
        "-object",
        "tdx-guest,id=tdx0",
        "-cpu",
        "host",
        *_size_and_code(image, places),
        "-bios",
        str(places.firmware),
        *_disks_and_port(places),
    )


def _size_and_code(image: VmImage, places: Places) -> tuple[str, ...]:
    return (
        "-m",
        f"{image.memory_mib}M",
        "-smp",
        str(image.cpus),
        "-kernel",
        str(places.kernel),
        "-initrd",
        str(places.initramfs),
        "-append",
        image.command_line,
    )


def _disks_and_port(places: Places) -> tuple[str, ...]:
    words: list[str] = []
    # In this order: the first disk that the guest finds is its root.
    for name, path in (("root", places.root), ("sealed", places.sealed)):
        words += ["-drive", f"if=none,id={name},format=raw,readonly=on,file={_escaped(path)}"]
        words += ["-device", f"virtio-blk-pci,drive={name},serial={name}"]
    words += ["-chardev", f"socket,id=port,fd={places.port}"]
    words += ["-device", "virtio-serial-pci,max_ports=2"]
    words += ["-device", f"virtserialport,chardev=port,name={PORT_NAME}"]
    return tuple(words)


def _escaped(path: PurePath) -> str:
    # A comma ends a value in QEMU's options, and what follows would be further options.
    return str(path).replace(",", ",,")
