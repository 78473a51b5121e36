"""What QEMU changes in a kernel that it hands to the firmware (hw/i386/x86.c, x86_load_linux; version 7.2). Pure.

QEMU fills in the boot loader's fields of the setup header (Documentation/arch/x86/boot.rst) before the firmware reads,
and measures, the kernel. What it writes depends on the machine's memory and the initial file system's size: each
machine size is another measurement.
"""

from __future__ import annotations

from typing import Final

from strongroom.core.errors import MalformedError

MIB: Final = 1 << 20
_HEADER_MAGIC_AT: Final = 0x202
_PROTOCOL_AT: Final = 0x206
_LEAST_PROTOCOL: Final = 0x20C
_EXTENDED_FLAGS_AT: Final = 0x236
_ABOVE_4G: Final = 0x02
_SETUP_SECTORS_AT: Final = 0x1F1
_TYPE_OF_LOADER: Final = 0xB0
_CAN_USE_HEAP: Final = 0x80
_HEAP_END: Final = 0xFE00
_COMMAND_LINE_AT: Final = 0x20000
_ACPI_RESERVED: Final = 0x28000
_LOW_MEMORY: Final = 0xB0000000
_SPLIT_MEMORY: Final = 0x80000000
_PAGE: Final = 4096


def as_loaded(kernel: bytes, *, memory_mib: int, initramfs_bytes: int) -> bytes:
    """Return the kernel as the firmware of a `q35` machine sees it.

    :raises MalformedError: not a Linux kernel of boot protocol 2.12 or newer, or the machine is too small for it.
    """
    if len(kernel) < 0x268 or kernel[_HEADER_MAGIC_AT : _HEADER_MAGIC_AT + 4] != b"HdrS":
        raise MalformedError("the kernel isn't a bzImage")
    protocol = int.from_bytes(kernel[_PROTOCOL_AT : _PROTOCOL_AT + 2], "little")
    above = int.from_bytes(kernel[_EXTENDED_FLAGS_AT : _EXTENDED_FLAGS_AT + 2], "little") & _ABOVE_4G
    if protocol < _LEAST_PROTOCOL or not above or not kernel[_SETUP_SECTORS_AT]:
        raise MalformedError("the kernel's boot protocol is older than 2.12, or it isn't a 64-bit one")
    top = low_memory(memory_mib) - _ACPI_RESERVED - 1
    place = (top - initramfs_bytes) & ~(_PAGE - 1)
    if place <= len(kernel) + 16 * MIB:
        raise MalformedError("the machine has too little memory for this kernel and initial file system")
    patched = bytearray(kernel)
    patched[0x210] = _TYPE_OF_LOADER
    patched[0x211] |= _CAN_USE_HEAP
    patched[0x218:0x21C] = place.to_bytes(4, "little")
    patched[0x21C:0x220] = initramfs_bytes.to_bytes(4, "little")
    patched[0x224:0x226] = _HEAP_END.to_bytes(2, "little")
    patched[0x228:0x22C] = _COMMAND_LINE_AT.to_bytes(4, "little")
    return bytes(patched)


def low_memory(memory_mib: int) -> int:
    """Return how many bytes of a `q35` machine's memory lie below 4 GiB."""
    whole = memory_mib * MIB
    return _SPLIT_MEMORY if whole >= _LOW_MEMORY else whole
