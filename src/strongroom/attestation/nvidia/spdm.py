"""The attestation report: an SPDM 1.1 GET_MEASUREMENTS request and the MEASUREMENTS answer to it (DSP0274, 10.11).

    request     11 e0 01 ff, nonce (32), slot (1)
    answer      11 60 p1 p2, blocks (1), length of the record (3), record, device nonce (32), opaque length (2), opaque,
                signature (96: P-384, r then s, big-endian)
    record      block: index (1), specification (1, DMTF), size (2), kind (1), size of value (2), value

Integers are little-endian. The signature is over all bytes before it, the request included: the nonce that a relying
party chose stands in the request alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from strongroom.attestation.errors import BadSignatureError
from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader

NONCE_BYTES: Final = 32
SIGNATURE_BYTES: Final = 96
MAX_REPORT: Final = 16 * 1024
"""Twice the buffer that NVIDIA's management library has for it."""
_VERSION: Final = 0x11
_GET_MEASUREMENTS: Final = 0xE0
_MEASUREMENTS: Final = 0x60
_SIGNED: Final = 0x01
_ALL: Final = 0xFF
_DMTF: Final = 0x01
_MAX_OPAQUE: Final = 8 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report, taken apart and not believed."""

    signed: bytes
    """The request and the answer up to its signature."""
    signature: bytes
    nonce: bytes
    """The relying party's 32 bytes, from the request."""
    measurements: Mapping[int, bytes]
    """By the block's index, from 1."""
    opaque: bytes
    """NVIDIA's own data; see :mod:`~strongroom.attestation.nvidia.opaque`."""

    @classmethod
    def parse(cls, data: bytes) -> Report:
        """Read a report and nothing after it.

        :raises MalformedError: cut, too long, bytes left over, another version or message, measurements that weren't
            all asked for and signed, a measurement that stands there twice.
        """
        reader = Reader(data, "report", max_bytes=MAX_REPORT, order="little")
        nonce = _request(reader)
        if reader.integer(1) != _VERSION or reader.integer(1) != _MEASUREMENTS:
            raise MalformedError("the report's answer isn't an SPDM 1.1 MEASUREMENTS message")
        reader.take(2)
        blocks = reader.integer(1)
        record = Reader(reader.counted(3, MAX_REPORT), "report.record", max_bytes=MAX_REPORT, order="little")
        measurements = _record(record, blocks)
        reader.take(NONCE_BYTES)
        opaque = reader.counted(2, _MAX_OPAQUE)
        signed = data[: reader.at]
        signature = reader.take(SIGNATURE_BYTES)
        reader.end()
        return cls(signed=signed, signature=signature, nonce=nonce, measurements=measurements, opaque=opaque)

    @property
    def raw(self) -> bytes:
        """The report as it was read."""
        return self.signed + self.signature

    def signed_by(self, key: object) -> bool:
        """Tell whether this public key signed the report; only a P-384 key can have."""
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
            return False
        half = SIGNATURE_BYTES // 2
        signature = encode_dss_signature(
            int.from_bytes(self.signature[:half], "big"), int.from_bytes(self.signature[half:], "big")
        )
        try:
            key.verify(signature, self.signed, ec.ECDSA(SHA384()))
        except InvalidSignature:
            return False
        return True

    def verify(self, key: object) -> None:
        """Check the signature over the raw bytes.

        :raises BadSignatureError: another key, or other bytes.
        """
        if not self.signed_by(key):
            raise BadSignatureError("the report isn't signed by the key in the device's certificate")


def whole_report(data: bytes) -> bytes:
    """Return ``data`` without the one byte that some tools leave after the signature.

    NVIDIA's library hands out a fixed buffer, and copies of it with one byte too many are about. That byte isn't signed
    and means nothing; it is dropped here, where foreign files are taken apart, so that the verifier itself can go on
    refusing whatever follows a signature.
    """
    try:
        Report.parse(data[:-1])
    except MalformedError:
        return data
    return data[:-1]


def _request(reader: Reader) -> bytes:
    if reader.integer(1) != _VERSION or reader.integer(1) != _GET_MEASUREMENTS:
        raise MalformedError("the report doesn't begin with an SPDM 1.1 GET_MEASUREMENTS request")
    # An answer to a narrower question is signed too, and would leave out the measurements that don't match.
    if not reader.integer(1) & _SIGNED or reader.integer(1) != _ALL:
        raise MalformedError("the report's request doesn't ask for all measurements and a signature")
    nonce = reader.take(NONCE_BYTES)
    reader.take(1)
    return nonce


def _record(record: Reader, blocks: int) -> Mapping[int, bytes]:
    found: dict[int, bytes] = {}
    for _ in range(blocks):
        index, specification = record.integer(1), record.integer(1)
        block = Reader(record.counted(2, MAX_REPORT), "report.block", max_bytes=MAX_REPORT, order="little")
        block.take(1)
        value = block.counted(2, MAX_REPORT)
        block.end()
        if specification != _DMTF or not 1 <= index <= 0xEF or index in found:
            raise MalformedError("a measurement block of the report isn't in DMTF's form, or stands there twice")
        found[index] = value
    record.end()
    if not found:
        raise MalformedError("the report has no measurements")
    return MappingProxyType(found)
