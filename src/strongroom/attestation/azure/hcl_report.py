"""The report of Azure's paravisor, as it stands in NV index 0x01400001 of the virtual TPM.

Header, the hardware's report, then the runtime data that the hardware's report commits to. The layout is OpenHCL's
``IgvmAttestRequestBase`` (microsoft/openvmm, ``openhcl_attestation_protocol``); integers are little-endian. Header and
sizes aren't signed by anyone, so nothing is left open in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader

MAX_HCL_REPORT: Final = 8192
"""Azure's NV index has 2,600 bytes."""
HARDWARE_BYTES: Final = 1184
"""Room for an SEV-SNP report; a TD report (1,024 bytes) leaves zeros behind."""
TD_REPORT_BYTES: Final = 1024
REPORT_DATA_BYTES: Final = 64
_SIGNATURE: Final = b"HCLA"
_HEADER_VERSIONS: Final = (1, 2)
_AK_CERT_REQUEST: Final = 2
_HEADER_BYTES: Final = 32
_RUNTIME_VERSION: Final = 1
_RUNTIME_HEADER_BYTES: Final = 20


class HardwareKind(IntEnum):
    """Whose report is inside (``IgvmAttestReportType``)."""

    SEV_SNP = 2
    TDX = 4


_HASHES: Final[dict[int, Callable[[bytes], Any]]] = {1: hashlib.sha256, 2: hashlib.sha384, 3: hashlib.sha512}


@dataclass(frozen=True, slots=True, kw_only=True)
class HclReport:
    """A parsed report. Parsing proves nothing: the hardware's report must be genuine and commit to the rest."""

    hardware_kind: HardwareKind
    hardware: bytes
    """An SEV-SNP report, or a TDX TDREPORT, which only the machine that made it can check."""
    runtime_data: bytes
    """JSON; see :class:`~strongroom.attestation.azure.runtime_data.RuntimeData`."""
    hash_type: int
    """1, 2, 3: SHA-256, SHA-384, SHA-512."""

    @classmethod
    def parse(cls, data: bytes) -> HclReport:
        """Read a report and the zeros that fill its NV index.

        :raises MalformedError: cut, too long, sizes that contradict each other, a kind or version that isn't known,
            or anything but zeros where nothing belongs.
        """
        reader = Reader(data, "HCL report", max_bytes=MAX_HCL_REPORT, order="little")
        size = _header(reader)
        hardware = reader.take(HARDWARE_BYTES)
        data_size, version, kind, hash_type, length = (reader.integer(4) for _ in range(5))
        if version != _RUNTIME_VERSION:
            raise MalformedError(f"`HCL report` holds runtime data of version {version}; {_RUNTIME_VERSION} is read")
        # Three sizes for one thing: whoever reads another one than the paravisor wrote hashes other bytes.
        if data_size != _RUNTIME_HEADER_BYTES + length or size != _HEADER_BYTES + HARDWARE_BYTES + data_size:
            raise MalformedError("`HCL report` has sizes that contradict each other")
        if kind not in list(HardwareKind):
            raise MalformedError(
                f"`HCL report` holds a hardware report of kind {kind}; SEV-SNP (2) and TDX (4) are read"
            )
        if hash_type not in _HASHES:
            raise MalformedError(f"`HCL report` names hash {hash_type}; 1, 2 and 3 are known")
        runtime_data = reader.take(length)
        _zeros(reader.rest(), "after its runtime data")
        if kind == HardwareKind.TDX:
            _zeros(hardware[TD_REPORT_BYTES:], "after its TD report")
            hardware = hardware[:TD_REPORT_BYTES]
        return cls(hardware_kind=HardwareKind(kind), hardware=hardware, runtime_data=runtime_data, hash_type=hash_type)

    @property
    def report_data(self) -> bytes:
        """What the hardware's report must commit to: the runtime data's digest, then zeros up to 64 bytes."""
        digest: bytes = _HASHES[self.hash_type](self.runtime_data).digest()
        return digest.ljust(REPORT_DATA_BYTES, b"\0")


def _header(reader: Reader) -> int:
    """Read the header; return the size that it states."""
    if reader.take(4) != _SIGNATURE:
        raise MalformedError("`HCL report` doesn't begin with `HCLA`")
    version, size, request, status = (reader.integer(4) for _ in range(4))
    if version not in _HEADER_VERSIONS:
        raise MalformedError(f"`HCL report` has version {version}; 1 and 2 are read")
    if request != _AK_CERT_REQUEST or status:
        raise MalformedError("`HCL report` isn't one that was made for the virtual TPM's attestation key")
    _zeros(reader.take(12), "in its header")
    return size


def _zeros(data: bytes, where: str) -> None:
    if any(data):
        raise MalformedError(f"`HCL report` has bytes {where} that aren't zero")
