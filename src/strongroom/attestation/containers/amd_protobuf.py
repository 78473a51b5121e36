"""go-sev-guest's ``sevsnp.Attestation`` as a protocol buffer: a report taken apart, put together again byte by byte.

The signature covers the bytes that the processor wrote, so a field that was lost or changed on the way shows.
"""

from __future__ import annotations

from typing import Final

from strongroom.attestation.containers.protobuf import Message
from strongroom.attestation.sev_snp.certificate_table import ARK, ASK, VCEK, VLEK, table_of
from strongroom.attestation.sev_snp.report import REPORT_BYTES, SIGNED_BYTES
from strongroom.core.errors import MalformedError

_SIGNATURE_BYTES: Final = REPORT_BYTES - SIGNED_BYTES
_CERTIFICATES: Final = ((1, VCEK), (6, VLEK), (2, ASK), (3, ARK))
# Number and size of the fields, in the order of the report's bytes.
_HEAD: Final = ((1, 4), (2, 4), (3, 8))
_FAMILY_AND_IMAGE: Final = ((4, 16), (5, 16))
_KEYS: Final = ((6, 4), (7, 4), (8, 8), (9, 8), (10, 4))
_DIGESTS: Final = ((11, 64), (12, 48), (13, 32), (14, 48), (15, 48), (16, 32), (17, 32))
_CURRENT: Final = ((21, 1), (22, 1), (23, 1))
_COMMITTED: Final = ((24, 1), (25, 1), (26, 1))


def read_attestation(message: Message) -> tuple[bytes, bytes]:
    """Return the report and its certificate table, empty where the message has none.

    :raises MalformedError: a field is missing, too long, or not of its kind.
    """
    report = _report(Message(message.single(1), "sevsnp.Report"))
    chain = Message(message.single(2), "sevsnp.CertificateChain")
    rows = [(guid, chain.single(number)) for number, guid in _CERTIFICATES if chain.single(number)]
    return report, table_of(rows) if rows else b""


def is_attestation(message: Message) -> bool:
    """Tell whether this is such a message: a report with 64 bytes of report data and a signature of 512."""
    try:
        report = Message(message.single(1), "sevsnp.Report")
        return len(report.single(11)) == 64 and len(report.single(28)) == _SIGNATURE_BYTES
    except MalformedError:
        return False


def _report(told: Message) -> bytes:
    family, model, stepping = _cpu(told.integer(29))
    report = (
        _integers(told, *_HEAD)
        + _texts(told, *_FAMILY_AND_IMAGE)
        + _integers(told, *_KEYS)
        + bytes(4)
        + _texts(told, *_DIGESTS)
        + _integers(told, (18, 8))
        + bytes((family, model, stepping))
        + bytes(21)
        + _texts(told, (19, 64))
        + _integers(told, (20, 8), *_CURRENT)
        + bytes(1)
        + _integers(told, *_COMMITTED)
        + bytes(1)
        + _integers(told, (27, 8), (30, 8), (31, 8))
    )
    return report.ljust(SIGNED_BYTES, b"\0") + _texts(told, (28, _SIGNATURE_BYTES))


def _cpu(eax: int) -> tuple[int, int, int]:
    """Take CPUID(1).EAX apart into family and model, each with its extension, and stepping."""
    family = (eax >> 8 & 0xF) + (eax >> 20 & 0xFF)
    return family & 0xFF, eax >> 12 & 0xF0 | eax >> 4 & 0xF, eax & 0xF


def _integers(told: Message, *fields: tuple[int, int]) -> bytes:
    written = b""
    for number, size in fields:
        value = told.integer(number)
        if value >> 8 * size:
            raise MalformedError(f"field {number} of `{told.where}` has more than {size} bytes")
        written += value.to_bytes(size, "little")
    return written


def _texts(told: Message, *fields: tuple[int, int]) -> bytes:
    written = b""
    for number, size in fields:
        value = told.single(number)
        if len(value) != size:
            raise MalformedError(f"field {number} of `{told.where}` has {len(value)} bytes, not {size}")
        written += value
    return written
