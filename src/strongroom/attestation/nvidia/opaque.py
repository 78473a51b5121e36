"""The opaque part of a report: what NVIDIA's firmware says of itself, in two layouts.

    old         entries of type (2), size (2), value
    versioned   "NVDAOD", profile 0 (2), major, minor, patch, 0; entries of type (2), kind of value (2), size (2), value

Drivers since CUDA 13.5 write the versioned one. Types of a later minor version may be unknown and are kept unread; a
later major version may mean other things by the types that are known, and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader

PDI_BYTES: Final = 8
MAX_OPAQUE: Final = 8 * 1024
_MAGIC: Final = b"NVDAOD"
_LAST_MAJOR: Final = 2
_MAX_TEXT: Final = 64
_SWITCH_GPUS: Final = 8
"""A switch has room for this many GPUs, and its ports after them."""
_NOBODY: Final = frozenset({bytes(PDI_BYTES), b"\xff" * PDI_BYTES})
"""What stands where no device is connected."""


class Field(IntEnum):
    """The entries that are read."""

    DRIVER_VERSION = 3
    VBIOS_VERSION = 6
    NVDEC0_STATUS = 11
    CHIP_SKU = 15
    PROJECT = 17
    PROJECT_SKU = 18
    FWID = 20
    PROTECTED_PCIE = 21
    PDIS = 22
    """A GPU's switches, one for each link; of a switch, its own."""
    SWITCH_LOCK = 25
    SWITCH_GPUS = 26
    LAYOUT_VERSION = 34
    CHIP = 35
    FEATURE = 36


class Mode(StrEnum):
    """How GPUs are handed to the virtual machine."""

    SPT = "spt"
    """Single-GPU passthrough."""
    MPT = "mpt"
    """Multi-GPU passthrough with encrypted NVLink."""
    PPCIE = "ppcie"
    """Protected PCIe: eight GPUs and their switches for one machine, NVLink in the clear."""
    UNSTATED = "unstated"
    """Older firmware doesn't say."""


_MODES: Final = {0: Mode.MPT, 1: Mode.SPT, 2: Mode.PPCIE}
PASSTHROUGH: Final = frozenset({Mode.SPT, Mode.MPT})
"""The flag's 0 and 1. NVIDIA's attestation-sdk reads them as above and its nvtrust the other way round, and no report
with either is at hand. So which of the two it is can't be believed, and a policy takes both or neither."""
_ON: Final = b"\xaa"
_OFF: Final = b"\x55"


@dataclass(frozen=True, slots=True)
class OpaqueData:
    """Entries by type. Properties are empty or None where the firmware doesn't say."""

    fields: Mapping[int, bytes]

    @classmethod
    def parse(cls, data: bytes) -> OpaqueData:
        """Read either layout.

        :raises MalformedError: cut, a later version, or an entry that stands there twice.
        """
        reader = Reader(data, "report.opaque", max_bytes=MAX_OPAQUE, order="little")
        versioned = data.startswith(_MAGIC)
        if versioned:
            reader.take(len(_MAGIC))
            if reader.integer(2) != 0 or reader.integer(1) > _LAST_MAJOR:
                raise MalformedError("the report's opaque data is of a later version")
            reader.take(3)
        fields: dict[int, bytes] = {}
        while reader.left:
            kind = reader.integer(2)
            if versioned:
                reader.take(2)
            value = reader.counted(2, MAX_OPAQUE)
            if kind in fields:
                # Readers that take the first and readers that take the last would see two devices.
                raise MalformedError("an entry stands twice in the report's opaque data")
            fields[kind] = value
        if not versioned and int.from_bytes(fields.get(Field.LAYOUT_VERSION, b""), "little") > _LAST_MAJOR:
            raise MalformedError("the report's opaque data is of a later version")
        return cls(MappingProxyType(fields))

    def text(self, field: Field) -> str:
        """Return an entry as text.

        :raises MalformedError: too long or not printable ASCII before the padding of zeros.
        """
        value = self.fields.get(field, b"").rstrip(b"\0")
        if len(value) > _MAX_TEXT or not all(0x21 <= byte < 0x7F for byte in value):
            raise MalformedError("a text in the report's opaque data isn't printable ASCII")
        return value.decode("ascii")

    @property
    def driver_version(self) -> str:
        """``590.12``."""
        return self.text(Field.DRIVER_VERSION)

    @property
    def gpu_vbios_version(self) -> str:
        """``96.00.5E.00.01``: the low 32 bits, then the byte above them.

        :raises MalformedError: not 8 bytes.
        """
        value = self.fields.get(Field.VBIOS_VERSION, b"")
        if not value:
            return ""
        if len(value) != PDI_BYTES:
            raise MalformedError("the VBIOS version in the report's opaque data isn't 8 bytes")
        return ".".join(f"{byte:02X}" for byte in (*value[3::-1], value[4]))

    @property
    def switch_bios_version(self) -> str:
        """``96.10.73.00.01``; switches write it as text."""
        return self.text(Field.VBIOS_VERSION).upper()

    @property
    def fwid(self) -> bytes:
        """Digest of the firmware that holds the attestation key."""
        return self.fields.get(Field.FWID, b"")

    @property
    def video_decoder_is_off(self) -> bool:
        """True where NVDEC0 is fused off, so that measurement 35, of its firmware, means nothing.

        :raises MalformedError: neither on nor off.
        """
        value = self.fields.get(Field.NVDEC0_STATUS, _ON)
        if value[:1] not in {_ON, _OFF}:
            raise MalformedError(
                "the report's opaque data says neither that the video decoder is on nor that it is off"
            )
        return value[:1] == _OFF

    @property
    def mode(self) -> Mode:
        """The mode that the firmware states.

        :raises MalformedError: a mode that doesn't exist.
        """
        value = self.fields.get(Field.FEATURE)
        if value is None:
            return Mode.PPCIE if self.fields.get(Field.PROTECTED_PCIE, b"")[:1] == _ON else Mode.UNSTATED
        mode = _MODES.get(int.from_bytes(value, "little"))
        if mode is None:
            raise MalformedError("the report's opaque data states a mode that doesn't exist")
        return mode

    @property
    def switches_of_gpu(self) -> frozenset[bytes]:
        """The identifiers of the switches that the GPU's links lead to, as the switches write them.

        :raises MalformedError: not a list of 8-byte identifiers.
        """
        # A GPU writes them in the other byte order.
        return frozenset(pdi[::-1] for pdi in _pdis(self.fields.get(Field.PDIS, b""))) - _NOBODY

    @property
    def own_pdi_of_switch(self) -> bytes:
        """What the switch says that its own identifier is."""
        return self.fields.get(Field.PDIS, b"")

    @property
    def gpus_of_switch(self) -> frozenset[bytes]:
        """The identifiers of the GPUs on the switch's ports.

        :raises MalformedError: too short for eight identifiers.
        """
        value = self.fields.get(Field.SWITCH_GPUS, b"")
        if value and len(value) < _SWITCH_GPUS * PDI_BYTES:
            raise MalformedError("the switch's list of GPUs in the report's opaque data is too short")
        return frozenset(_pdis(value[: _SWITCH_GPUS * PDI_BYTES])) - _NOBODY

    @property
    def switch_is_locked(self) -> bool:
        """True where the switch says that its configuration is locked."""
        return int.from_bytes(self.fields.get(Field.SWITCH_LOCK, b""), "little") == 1


def _pdis(value: bytes) -> list[bytes]:
    if len(value) % PDI_BYTES:
        raise MalformedError("a list of devices in the report's opaque data isn't one of 8-byte identifiers")
    return [value[at : at + PDI_BYTES] for at in range(0, len(value), PDI_BYTES)]
