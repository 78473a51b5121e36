"""The PCK certificate: which platform signs, at which TCB, and whose certificate it is.

Intel's extension 1.2.840.113741.1.13.1 is a sequence of pairs (object identifier, value); "Intel SGX PCK Certificate
and Certificate Revocation List Profile Specification", section 1.3.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader

SGX_EXTENSION: Final = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
_PREFIX: Final = bytes.fromhex("2a864886f84d010d01")
_MAX_EXTENSION: Final = 2048
_SEQUENCE: Final = 0x30
_OID: Final = 0x06
_INTEGER: Final = 0x02
_OCTETS: Final = 0x04
_ENUMERATED: Final = 0x0A
_BOOLEAN: Final = 0x01
_PPID, _TCB, _PCE_ID, _FMSPC, _TYPE, _CONFIGURATION = (bytes((n,)) for n in (1, 2, 3, 4, 5, 7))
_PCE_SVN, _CPU_SVN = bytes((2, 17)), bytes((2, 18))
_DYNAMIC, _CACHED_KEYS, _SMT = (bytes((7, n)) for n in (1, 2, 3))


class PckCa(StrEnum):
    """Which of Intel's two CAs certifies the platform; collateral is published for each."""

    PROCESSOR = "processor"
    """Single-package platforms of the first generation."""
    PLATFORM = "platform"
    """Multi-package and scalable platforms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pck:
    """What the PCK certificate says of its platform. Flags are None where the certificate doesn't have them."""

    key: ec.EllipticCurvePublicKey
    ca: PckCa
    ppid: bytes
    """Which platform: 16 bytes."""
    fmspc: bytes
    """Family, model, stepping, platform type and custom SKU: 6 bytes that name the TCB information."""
    cpu_svn: bytes
    pce_svn: int
    pce_id: bytes
    sgx_type: int
    """0 standard, 1 scalable, 2 scalable with integrity."""
    dynamic_platform: bool | None
    """Packages can be added later, by whoever runs the platform."""
    cached_keys: bool | None
    """Intel keeps the platform's root keys."""
    smt: bool | None

    @property
    def identity(self) -> bytes:
        """The PPID; empty where it is zeros, which tell no platform from another."""
        return self.ppid if any(self.ppid) else b""

    @property
    def collateral_name(self) -> str:
        """What its collateral is called in a bundle: ``00806f050000/platform``."""
        return f"{self.fmspc.hex()}/{self.ca}"

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Pck:
        """Read a certificate.

        :raises MalformedError: no P-256 key, another CA than Intel's two, no extension, or a broken one.
        """
        try:
            key = certificate.public_key()
        except (ValueError, UnsupportedAlgorithm):
            raise MalformedError("the PCK certificate's key is of a kind that isn't read") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise MalformedError("the PCK certificate's key isn't on P-256")
        try:
            extension = certificate.extensions.get_extension_for_oid(SGX_EXTENSION).value
        except x509.ExtensionNotFound:
            raise MalformedError("the certificate isn't a PCK certificate: it lacks Intel's SGX extension") from None
        found = _entries(extension.public_bytes(), b"")
        tcb = _entries(_value(found, _TCB, _SEQUENCE), _TCB, bare=True)
        configuration = {}
        if _CONFIGURATION in found:
            configuration = _entries(_value(found, _CONFIGURATION, _SEQUENCE), _CONFIGURATION, bare=True)
        return cls(
            key=key,
            ca=ca_of(certificate.issuer),
            ppid=_value(found, _PPID, _OCTETS, 16),
            fmspc=_value(found, _FMSPC, _OCTETS, 6),
            cpu_svn=_value(tcb, _CPU_SVN, _OCTETS, 16),
            pce_svn=_number(_value(tcb, _PCE_SVN, _INTEGER)),
            pce_id=_value(found, _PCE_ID, _OCTETS, 2),
            sgx_type=_number(_value(found, _TYPE, _ENUMERATED)),
            dynamic_platform=_flag(configuration, _DYNAMIC),
            cached_keys=_flag(configuration, _CACHED_KEYS),
            smt=_flag(configuration, _SMT),
        )


def ca_of(name: x509.Name) -> PckCa:
    """Tell which of the two CAs a name is.

    :raises MalformedError: neither.
    """
    common = " ".join(str(part.value) for part in name.get_attributes_for_oid(NameOID.COMMON_NAME))
    found = [ca for ca in PckCa if f"PCK {ca.capitalize()} CA" in common]
    if len(found) != 1:
        raise MalformedError("the issuer of PCK certificates must be a `PCK Platform CA` or a `PCK Processor CA`")
    return found[0]


_Entries = dict[bytes, tuple[int, bytes]]


def _entries(data: bytes, under: bytes, *, bare: bool = False) -> _Entries:
    """Read a sequence of pairs, by the arcs that follow Intel's prefix; ``bare`` when its own header was taken off."""
    outer = Reader(data, "pck-extension", max_bytes=_MAX_EXTENSION)
    if not bare:
        tag, data = _element(outer)
        outer.end()
        if tag != _SEQUENCE:
            raise MalformedError("Intel's SGX extension isn't a sequence")
    reader = Reader(data, "pck-extension", max_bytes=_MAX_EXTENSION)
    found: _Entries = {}
    while reader.left:
        tag, pair = _element(reader)
        inner = Reader(pair, "pck-extension", max_bytes=_MAX_EXTENSION)
        name_tag, name = _element(inner)
        value = _element(inner)
        inner.end()
        arcs = name.removeprefix(_PREFIX)
        # Twice the same name would let two readers see two platforms.
        if tag != _SEQUENCE or name_tag != _OID or arcs == name or arcs[:-1] != under or arcs in found:
            raise MalformedError("Intel's SGX extension holds a pair that doesn't belong there, or one twice")
        found[arcs] = value
    return found


def _element(reader: Reader) -> tuple[int, bytes]:
    tag, length = reader.integer(1), reader.integer(1)
    if length in {0x81, 0x82}:
        long = length - 0x80
        length = reader.integer(long)
        if length < 0x80 or (long == 2 and length < 0x100):
            raise MalformedError("Intel's SGX extension isn't in DER")
    elif length > 0x80 or length == 0x80:
        raise MalformedError("Intel's SGX extension isn't in DER")
    return tag, reader.take(length)


def _value(found: _Entries, arcs: bytes, tag: int, size: int | None = None) -> bytes:
    seen, value = found.get(arcs, (0, b""))
    if seen != tag or (size is not None and len(value) != size):
        name = ".".join(map(str, arcs))
        raise MalformedError(f"Intel's SGX extension lacks `{name}`, or holds it in another form")
    return value


def _number(value: bytes) -> int:
    if not 1 <= len(value) <= 3 or value[0] & 0x80:
        raise MalformedError("Intel's SGX extension holds a number out of its range")
    return int.from_bytes(value, "big")


def _flag(found: _Entries, arcs: bytes) -> bool | None:
    if arcs not in found:
        return None
    value = _value(found, arcs, _BOOLEAN, 1)
    if value not in {b"\x00", b"\xff"}:
        raise MalformedError("Intel's SGX extension isn't in DER")
    return value == b"\xff"
