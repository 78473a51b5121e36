"""The launch digest of a SEV-SNP machine, computed from its files (SEV-SNP ABI, section 8.17.2; QEMU's order). Pure.

Firmware pages, then what the firmware's metadata lists (edk2, OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm), with the
table of kernel hashes in its place, then one page of registers for each processor, as KVM sets them up for QEMU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader
from strongroom.enclave.vm.firmware_table import ENTRY, MAX_FIRMWARE, guid, table_of

PAGE: Final = 4096
SNP_ACTIVE: Final = 0x1
"""The feature that every such machine has. A host that adds another (debug swap, 0x20) measures differently."""
EPYC_V4: Final = 0x800F12
"""CPUID signature of QEMU's ``EPYC-v4``: it stands in a register when a processor starts."""


_FOUR_GIB: Final = 1 << 32
_NOTHING: Final = bytes(48)
_REGISTERS_AT: Final = 0xFFFFFFFFF000
_RESET: Final = 0xFFFFFFF0
_METADATA: Final = guid("dc886566-984a-4798-a75e-5585a7bf67cc")
_HASHES: Final = guid("7255371f-3a3b-4b04-927b-1da6efa8d454")
_AP_RESET: Final = guid("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
_TABLE: Final = guid("9438d606-4f22-4cc9-b479-a793d411fd21")
_COMMAND_LINE: Final = guid("97d02dd8-bd20-4c94-aa78-e7714d36ab2a")
_INITRD: Final = guid("44baf731-3a2f-4bd7-9af1-41e29169781d")
_KERNEL: Final = guid("4de79437-abd2-427f-b835-d5b172d2045b")
_MAX_SECTIONS: Final = 64
_MAX_SECTION: Final = 16 << 20


class PageType(IntEnum):
    """How a page is measured (SEV-SNP ABI, table 65)."""

    NORMAL = 1
    REGISTERS = 2
    ZERO = 3
    SECRETS = 5
    CPUID = 6


class SectionKind(IntEnum):
    """What a section of the firmware's metadata is for."""

    MEMORY = 1
    SECRETS = 2
    CPUID = 3
    SVSM_AREA = 4
    KERNEL_HASHES = 0x10


@dataclass(frozen=True, slots=True)
class Section:
    """One section: where, how long, what for."""

    address: int
    size: int
    kind: SectionKind


@dataclass(frozen=True, slots=True)
class SnpFirmware:
    """A firmware image and what its footer says."""

    data: bytes
    sections: tuple[Section, ...]
    hashes_at: int
    other_processors_start_at: int

    @classmethod
    def parse(cls, data: bytes) -> SnpFirmware:
        """Read a firmware image built for measured direct boot (edk2's ``AmdSev`` platform).

        :raises MalformedError: not whole pages, no such footer, or no place for kernel hashes: then the kernel would be
            measured nowhere.
        """
        if len(data) > MAX_FIRMWARE or len(data) < PAGE or len(data) % PAGE:
            raise MalformedError("a firmware image has whole pages, 64 MiB at most")
        table = table_of(data)
        try:
            back, hashes, reset = (
                int.from_bytes(table[name][:4], "little") for name in (_METADATA, _HASHES, _AP_RESET)
            )
        except KeyError:
            raise MalformedError("the firmware isn't one for SEV-SNP and measured direct boot") from None
        if not 0 < back <= len(data):
            raise MalformedError("the firmware's metadata lies outside it")
        sections = tuple(_sections(data[len(data) - back :]))
        if not hashes or not any(one.kind is SectionKind.KERNEL_HASHES for one in sections):
            raise MalformedError("the firmware has no place for kernel hashes: nothing would measure the kernel")
        return cls(data, sections, hashes, reset)


def launch_digest(
    firmware: SnpFirmware,
    *,
    kernel: bytes,
    initramfs: bytes,
    command_line: str,
    cpus: int,
    signature: int = EPYC_V4,
    features: int = SNP_ACTIVE,
) -> bytes:
    """Return the 48 bytes that a report has as its measurement."""
    running = _Running()
    running.pages(PageType.NORMAL, _FOUR_GIB - len(firmware.data), firmware.data)
    for section in firmware.sections:
        match section.kind:
            case SectionKind.MEMORY | SectionKind.SVSM_AREA:
                for at in range(0, section.size, PAGE):
                    running.page(PageType.ZERO, section.address + at, _NOTHING)
            case SectionKind.SECRETS:
                running.page(PageType.SECRETS, section.address, _NOTHING)
            case SectionKind.CPUID:
                running.page(PageType.CPUID, section.address, _NOTHING)
            case SectionKind.KERNEL_HASHES:
                table = _hashes(kernel, initramfs, command_line)
                page = (bytes(firmware.hashes_at % PAGE) + table).ljust(PAGE, b"\0")
                running.pages(PageType.NORMAL, section.address, page)
    for number in range(cpus):
        start = firmware.other_processors_start_at if number else _RESET
        page = _registers(start, signature=signature, features=features)
        running.page(PageType.REGISTERS, _REGISTERS_AT, hashlib.sha384(page).digest())
    return running.digest


class _Running:
    """The digest as it grows, page by page."""

    def __init__(self) -> None:
        self.digest = _NOTHING

    def page(self, kind: PageType, address: int, contents: bytes) -> None:
        head = self.digest + contents + (0x70).to_bytes(2, "little") + bytes([kind]) + bytes(5)
        self.digest = hashlib.sha384(head + address.to_bytes(8, "little")).digest()

    def pages(self, kind: PageType, address: int, data: bytes) -> None:
        for at in range(0, len(data), PAGE):
            self.page(kind, address + at, hashlib.sha384(data[at : at + PAGE]).digest())


def _sections(data: bytes) -> Iterator[Section]:
    reader = Reader(data, "SEV metadata", max_bytes=MAX_FIRMWARE, order="little")
    magic, _, version, count = reader.take(4), reader.integer(4), reader.integer(4), reader.integer(4)
    if magic != b"ASEV" or version != 1 or count > _MAX_SECTIONS:
        raise MalformedError("the firmware's SEV metadata is of another version")
    for _ in range(count):
        address, size, kind = (reader.integer(4) for _ in range(3))
        if size % PAGE or size > _MAX_SECTION or kind not in set(SectionKind):
            raise MalformedError("the firmware's SEV metadata has a section that isn't known")
        if kind == SectionKind.KERNEL_HASHES and size != PAGE:
            raise MalformedError("the firmware's table of kernel hashes has one page")
        yield Section(address, size, SectionKind(kind))


def _hashes(kernel: bytes, initramfs: bytes, command_line: str) -> bytes:
    """Return the table as QEMU writes it (target/i386/sev.c), padded to 16 bytes."""
    entries = (_COMMAND_LINE, command_line.encode() + b"\0"), (_INITRD, initramfs), (_KERNEL, kernel)
    body = b"".join(_entry(name, hashlib.sha256(data).digest()) for name, data in entries)
    table = _entry(_TABLE, body)
    return table.ljust(-(-len(table) // 16) * 16, b"\0")


def _entry(name: bytes, data: bytes) -> bytes:
    return name + (ENTRY + len(data)).to_bytes(2, "little") + data


def _registers(start: int, *, signature: int, features: int) -> bytes:
    """Return a processor's first state, one page (AMD64 APM volume 2, table B-4): offset, size, value."""
    page = bytearray(PAGE)

    def put(at: int, size: int, value: int) -> None:
        page[at : at + size] = value.to_bytes(size, "little")

    def segment(at: int, attributes: int, *, selector: int = 0, base: int = 0) -> None:
        put(at, 2, selector)
        put(at + 2, 2, attributes)
        put(at + 4, 4, 0xFFFF)
        put(at + 8, 8, base)

    # es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr
    for number, attributes in enumerate((0x93, 0x9B, 0x93, 0x93, 0x93, 0x93, 0, 0x82, 0, 0x8B)):
        segment(16 * number, attributes)
    segment(0x10, 0x9B, selector=0xF000, base=start & 0xFFFF0000)
    put(0xD0, 8, 0x1000)  # efer: SVME, set by KVM
    put(0x148, 8, 0x40)  # cr4: MCE, set by KVM
    put(0x158, 8, 0x10)  # cr0
    put(0x160, 8, 0x400)  # dr7
    put(0x168, 8, 0xFFFF0FF0)  # dr6
    put(0x170, 8, 0x2)  # rflags
    put(0x178, 8, start & 0xFFFF)  # rip
    put(0x268, 8, 0x7040600070406)  # g_pat
    put(0x310, 8, signature)  # rdx
    put(0x3B0, 8, features)  # sev_features
    put(0x3E8, 8, 1)  # xcr0
    put(0x408, 4, 0x1F80)  # mxcsr
    put(0x410, 2, 0x37F)  # x87_fcw
    return bytes(page)
