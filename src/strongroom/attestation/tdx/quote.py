"""Quotes: SGX in version 3, TDX in versions 4 and 5. All integers are little-endian.

header 48 | (5: body type 2, body size 4) | body | size 4 | signature 64 | attestation key 64 | certification data
version 3:       quoting enclave's report 384, signature 64, 2+n authentication data, type 5, 4+n certificates
versions 4, 5:   type 6, 4+n: the same nested
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from strongroom.attestation.tdx.bodies import BodyType, EnclaveReport, TdReport
from strongroom.core.encoding import from_base64
from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader

MAX_QUOTE: Final = 128 * 1024
"""The buffer in which current Linux asks for a quote; what the quote leaves of it is zeros."""
HEADER_BYTES: Final = 48
INTEL_QE_VENDOR: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
TEE_SGX: Final = 0
TEE_TDX: Final = 0x81
_KEY_TYPE_P256: Final = 2
_KEY_TYPES: Final = {0: "EPID", 1: "EPID, linkable", 3: "ECDSA P-384"}
_CERTIFICATION_PCK_CHAIN: Final = 5
_CERTIFICATION_QE_REPORT: Final = 6
_CERTIFICATION_TYPES: Final = {
    1: "plain PPID",
    2: "PPID under RSA-2048",
    3: "PPID under RSA-3072",
    4: "PCK certificate alone",
    5: "PCK certificate chain",
    6: "quoting enclave's report",
    7: "platform manifest",
}
_MAX_AUTHENTICATION: Final = 1024
_MAX_CERTIFICATES: Final = 5
_MAX_CHAIN: Final = 32 * 1024
# No other blanks: a changed byte must not read as the same certificate.
_PEM: Final = re.compile(
    "-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END CERTIFICATE-----(?:\r?\n)?", re.ASCII
)

Body = TypeVar("Body", TdReport, EnclaveReport)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first 48 bytes."""

    version: int
    tee_type: int
    reserved: bytes
    """Bytes 8 to 12: the SVNs of the quoting and the certification enclave in version 3, reserved since."""
    user_data: bytes
    """20 bytes; the first 16 identify the quoting enclave's platform."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote(Generic[Body]):
    """A quote that was read and isn't believed. Byte fields are as they stand in the quote."""

    header: Header
    body: Body
    raw: bytes
    """The quote without padding."""
    signed: bytes
    """What ``signature`` covers: header, body descriptor and body."""
    signature: bytes
    """ECDSA P-256: r, then s, 32 bytes each."""
    attestation_key: bytes
    """P-256 point: x, then y."""
    qe_report_raw: bytes
    qe_report: EnclaveReport
    qe_report_signature: bytes
    qe_authentication: bytes
    pck_chain: tuple[bytes, ...]
    """DER certificates, the platform's PCK certificate first."""


def parse_td_quote(data: bytes) -> Quote[TdReport]:
    """Read a quote of a trust domain.

    :raises MalformedError: cut, too long, contradictory, something other than zeros after its end, or a quote of
        another kind, version, key type or certification than those above.
    """
    header, reader = _header(data)
    if header.tee_type != TEE_TDX or header.version not in {4, 5}:
        raise MalformedError(
            f"the quote isn't of a trust domain: version {header.version}, TEE type 0x{header.tee_type:x}",
            remedy="TDX quotes have version 4 or 5 and TEE type 0x81",
        )
    kind = BodyType.TD_1_0 if header.version == 4 else _body_type(reader)
    body = TdReport.parse(reader.take(kind.size), "td-report", kind)
    return _signed(header, body, reader, data)


def parse_sgx_quote(data: bytes) -> Quote[EnclaveReport]:
    """Read a quote of an enclave.

    :raises MalformedError: as in :func:`parse_td_quote`.
    """
    header, reader = _header(data)
    if header.tee_type != TEE_SGX or header.version != 3:
        raise MalformedError(
            f"the quote isn't of an enclave: version {header.version}, TEE type 0x{header.tee_type:x}",
            remedy="SGX quotes are read in version 3, with TEE type 0",
        )
    body = EnclaveReport.parse(reader.take(BodyType.ENCLAVE.size), "enclave-report")
    return _signed(header, body, reader, data)


def tee_type(data: bytes) -> int | None:
    """Return the TEE type of what begins like a quote by an Intel quoting enclave, else None."""
    begins = len(data) >= HEADER_BYTES and data[12:28] == INTEL_QE_VENDOR and data[0] in {3, 4, 5} and data[1] == 0
    return int.from_bytes(data[4:8], "little") if begins else None


def _header(data: bytes) -> tuple[Header, Reader]:
    reader = Reader(data, "quote", max_bytes=MAX_QUOTE, order="little")
    version, key_type, tee = reader.integer(2), reader.integer(2), reader.integer(4)
    reserved, vendor, user_data = reader.take(4), reader.take(16), reader.take(20)
    if vendor != INTEL_QE_VENDOR:
        raise MalformedError("the quote's quoting enclave isn't from Intel", remedy="only Intel's quotes are read")
    if key_type != _KEY_TYPE_P256:
        raise MalformedError(
            f"the quote's attestation key is of type {key_type} ({_KEY_TYPES.get(key_type, 'unknown')})",
            remedy="only ECDSA P-256 keys (type 2) are read",
        )
    return Header(version=version, tee_type=tee, reserved=reserved, user_data=user_data), reader


def _body_type(reader: Reader) -> BodyType:
    number, size = reader.integer(2), reader.integer(4)
    found = next((kind for kind in BodyType if kind.number == number and kind is not BodyType.ENCLAVE), None)
    if found is None or found.size != size:
        raise MalformedError(f"the quote's body has type {number} and {size} bytes, which no TD report has")
    return found


def _signed(header: Header, body: Body, reader: Reader, data: bytes) -> Quote[Body]:
    signed = data[: reader.at]
    block = Reader(reader.counted(4, MAX_QUOTE), "quote.signature", max_bytes=MAX_QUOTE, order="little")
    raw = data[: reader.at]
    # Drivers hand over their whole buffer. Zeros say nothing; anything else could be a second quote.
    if any(reader.rest()):
        raise MalformedError(f"the quote ends at offset {len(raw)} and is followed by something other than zeros")
    signature, attestation_key = block.take(64), block.take(64)
    inner = block if header.version == 3 else _nested(block)
    report, report_signature = inner.take(BodyType.ENCLAVE.size), inner.take(64)
    authentication = inner.counted(2, _MAX_AUTHENTICATION)
    _certification(inner, _CERTIFICATION_PCK_CHAIN)
    chain = inner.counted(4, _MAX_CHAIN)
    inner.end()
    block.end()
    return Quote(
        header=header,
        body=body,
        raw=raw,
        signed=signed,
        signature=signature,
        attestation_key=attestation_key,
        qe_report_raw=report,
        qe_report=EnclaveReport.parse(report, "quote.qe-report"),
        qe_report_signature=report_signature,
        qe_authentication=authentication,
        pck_chain=_certificates(chain),
    )


def _nested(block: Reader) -> Reader:
    _certification(block, _CERTIFICATION_QE_REPORT)
    return Reader(block.counted(4, MAX_QUOTE), "quote.certification", max_bytes=MAX_QUOTE, order="little")


def _certification(reader: Reader, wanted: int) -> None:
    number = reader.integer(2)
    if number != wanted:
        raise MalformedError(
            f"the quote's certification data is of type {number} ({_CERTIFICATION_TYPES.get(number, 'unknown')}), "
            f"not {wanted} ({_CERTIFICATION_TYPES[wanted]})",
            remedy="configure the platform's quote provider so that quotes carry the PCK certificate chain",
        )


def _certificates(chain: bytes) -> tuple[bytes, ...]:
    """Read PEM certificates with nothing else between them; Intel's quoting library ends them with a NUL."""
    try:
        text = chain.removesuffix(b"\0").decode("ascii")
    except UnicodeDecodeError:
        raise MalformedError("the quote's certificates aren't PEM text") from None
    found: list[bytes] = []
    at = 0
    while at < len(text) and len(found) < _MAX_CERTIFICATES:
        block = _PEM.match(text, at)
        if block is None:
            break
        found.append(from_base64(block[1].replace("\r", "").replace("\n", "")))
        at = block.end()
    if not found or at < len(text):
        raise MalformedError(f"the quote's certificates aren't 1 to {_MAX_CERTIFICATES} in PEM, one after another")
    return tuple(found)
