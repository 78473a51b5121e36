"""MRTD: what a TDX machine is measured as before its first instruction, computed from its firmware's file. Pure.

The firmware's TDVF metadata says which pages are added and which of them are measured (edk2,
OvmfPkg/ResetVector/X64/IntelTdxMetadata.asm). The TDX module hashes one record for each page that is added, and one for
each 256 bytes that are measured, with these (Intel TDX Module Base Specification, TDH.MEM.PAGE.ADD and TDH.MR.EXTEND).
QEMU and KVM add and measure page by page, section by section.

MRTD covers the firmware alone. Kernel, command line and root are in the RTMRs, which the firmware extends; they aren't
computed here, and so no entry for the reference values is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader
from strongroom.enclave.vm.firmware_table import MAX_FIRMWARE, guid, table_of

PAGE: Final = 4096
CHUNK: Final = 256
_METADATA: Final = guid("e47a6535-984a-4798-865e-4685a7bf8ec2")
_MEASURED: Final = 0x1
_ADDED_LATER: Final = 0x2
_MAX_SECTIONS: Final = 64
_MAX_MEMORY: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    offset: int
    address: int
    size: int
    attributes: int


def mrtd(firmware: bytes) -> bytes:
    """Return the 48 bytes.

    :raises MalformedError: the firmware isn't one for TDX, or its metadata is broken.
    """
    running = hashlib.sha384()
    for section in _sections(firmware):
        for at in range(0, section.size, PAGE):
            if not section.attributes & _ADDED_LATER:
                running.update(_record(b"MEM.PAGE.ADD", section.address + at))
            if section.attributes & _MEASURED:
                for chunk in range(at, at + PAGE, CHUNK):
                    running.update(_record(b"MR.EXTEND", section.address + chunk))
                    running.update(firmware[section.offset + chunk :][:CHUNK])
    return running.digest()


def _record(name: bytes, address: int) -> bytes:
    return (name.ljust(16, b"\0") + address.to_bytes(8, "little")).ljust(128, b"\0")


def _sections(firmware: bytes) -> Iterator[_Section]:
    entry = table_of(firmware).get(_METADATA, b"")
    back = int.from_bytes(entry, "little")
    if len(entry) != 4 or not 0 < back <= len(firmware):
        raise MalformedError("the firmware has no TDX metadata", remedy="take edk2 that was built for TDX")
    data = firmware[len(firmware) - back :]
    reader = Reader(data, "TDX metadata", max_bytes=MAX_FIRMWARE, order="little")
    magic, _length, version, count = reader.take(4), reader.integer(4), reader.integer(4), reader.integer(4)
    if magic != b"TDVF" or version != 1 or count > _MAX_SECTIONS:
        raise MalformedError("the firmware's TDX metadata is of another version")
    left = _MAX_MEMORY
    for _ in range(count):
        offset, stored, address, size = reader.integer(4), reader.integer(4), reader.integer(8), reader.integer(8)
        _kind, attributes = reader.integer(4), reader.integer(4)
        left -= size
        if size % PAGE or address % PAGE or left < 0 or address + size >= 1 << 64:
            raise MalformedError("the firmware's TDX metadata has a section that no machine has")
        # Of what is measured every byte must be in the file.
        if attributes & _MEASURED and (stored != size or offset + size > len(firmware)):
            raise MalformedError("the firmware's TDX metadata measures what isn't in the file")
        yield _Section(offset=offset, address=address, size=size, attributes=attributes)
