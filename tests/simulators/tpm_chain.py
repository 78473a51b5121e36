"""Virtual TPMs under a made-up Google: certified attestation keys of every kind, firmware logs, quotes, files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.tpm.event_log import EventLog, replay
from strongroom.attestation.tpm.public_area import AK_ATTRIBUTES
from strongroom.attestation.tpm.statement import TpmStatement
from strongroom.attestation.trust_anchors import TrustAnchor, Vendor
from strongroom.tpm import wire
from strongroom.tpm.wire import tpm2b, u16, u32
from support.certificates import usage

MADE = 1_795_000_000
NONCE = b"the bytes that were asked for"
HASHES: Mapping[int, HashAlgorithm] = {
    wire.ALG_SHA256: SHA256(),
    wire.ALG_SHA384: SHA384(),
    wire.ALG_SHA512: SHA512(),
}
INSTANCE_OID = "1.3.6.1.4.1.11129.2.1.21"
AK_OID = "2.23.133.8.3"
EK_OID = "2.23.133.8.1"
SEPARATOR = bytes(4)
_GLOBAL = bytes.fromhex("61dfe48bca93d211aa0d00e098032b8c")

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Authority:
    """A CA, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @classmethod
    def make(cls, name: str, parent: Authority | None = None, *, days: int = 3650, room: int | None = None) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer, signer = (parent.certificate.subject, parent.key) if parent else (subject, key)
        builder = (
            _builder(subject, issuer, key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=room), critical=True)
            .add_extension(usage(sign=False, certificates=True, lists=True), critical=True)
        )
        return cls(builder.sign(signer, SHA256()), key)

    def certify(
        self,
        key: Private,
        *,
        purpose: str | None = AK_OID,
        instance: bytes | None = None,
        authority: bool = False,
        key_usage: x509.KeyUsage | None = None,
        tpm: tuple[str, str, str] | None = None,
        days: int = 3650,
    ) -> bytes:
        """Certify an attestation key (DER), or whatever a test wants it to look like."""
        builder = _builder(x509.Name([]), self.certificate.subject, key.public_key(), days)
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        builder = builder.add_extension(key_usage or usage(), critical=True)
        if purpose:
            builder = builder.add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(purpose)]), critical=False)
        if instance is not None:
            extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(INSTANCE_OID), instance)
            builder = builder.add_extension(extension, critical=False)
        if tpm:
            pairs = zip(("2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3"), tpm, strict=True)
            name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(oid), value) for oid, value in pairs])
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DirectoryName(name)]), critical=True)
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.DER)

    def revokes(self, *ders: bytes, days: int = 30) -> bytes:
        """Return this authority's list (DER), current around ``MADE``."""
        begins = datetime.fromtimestamp(MADE, UTC) - timedelta(days=1)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
        builder = builder.last_update(begins).next_update(begins + timedelta(days=days))
        for der in ders:
            serial = x509.load_der_x509_certificate(der).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(begins).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.DER)


@dataclass(frozen=True)
class VirtualTpm:
    """An attestation key in memory, its certificate, and the CAs above."""

    root: Authority
    between: Authority
    key: Private
    scheme: int = wire.ALG_ECDSA
    hash: int = wire.ALG_SHA256
    shape: Mapping[str, Any] = field(default_factory=dict)

    @property
    def anchor(self) -> TrustAnchor:
        """The root, fit for simulated evidence only."""
        return TrustAnchor(Vendor.GOOGLE_VTPM, self.root.der, IsolationClass.VM_SIMULATED)

    @property
    def certificate(self) -> bytes:
        return self.between.certify(self.key, **self.shape)

    @property
    def public(self) -> bytes:
        """TPMT_PUBLIC of the attestation key."""
        return area(self.key, self.scheme, self.hash)

    def quote(
        self,
        pcrs: Mapping[int, bytes],
        *,
        bank: int = wire.ALG_SHA256,
        nonce: bytes = NONCE,
        selection: bytes | None = None,
        safe: int = 1,
    ) -> bytes:
        """Return a TPMS_ATTEST over these values."""
        bits = sum(1 << number for number in pcrs).to_bytes(3, "little")
        head = u32(0xFF544347) + u16(0x8018) + tpm2b(u16(wire.ALG_SHA256) + bytes(32)) + tpm2b(nonce)
        clock = (12_345).to_bytes(8, "big") + u32(3) + u32(0) + bytes([safe]) + (7).to_bytes(8, "big")
        digest = wire.hashed(self.hash, b"".join(value for _, value in sorted(pcrs.items())))
        return head + clock + (selection or u32(1) + u16(bank) + b"\x03" + bits) + tpm2b(digest)

    def sign(self, message: bytes) -> bytes:
        """Return a TPMT_SIGNATURE."""
        hashed = HASHES[self.hash]
        head = u16(self.scheme) + u16(self.hash)
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            size = (self.key.curve.key_size + 7) // 8
            r, s = decode_dss_signature(self.key.sign(message, ec.ECDSA(hashed)))
            return head + tpm2b(r.to_bytes(size, "big")) + tpm2b(s.to_bytes(size, "big"))
        pss = padding.PSS(padding.MGF1(hashed), padding.PSS.DIGEST_LENGTH)
        return head + tpm2b(
            self.key.sign(message, padding.PKCS1v15() if self.scheme == wire.ALG_RSASSA else pss, hashed)
        )

    def statement(self, pcrs: Mapping[int, bytes], *, quote: bytes | None = None, **changed: Any) -> TpmStatement:
        """Return an honest statement of a certified key; ``changed`` replaces fields."""
        message = quote or self.quote(pcrs)
        honest: dict[str, Any] = {
            "quote": message,
            "signature": self.sign(message),
            "pcrs": pcrs,
            "ak_public": self.public,
            "ak_certificates": (self.certificate, self.between.der),
        }
        return TpmStatement(**(honest | changed))


def instance_of(properties: bytes = bytes.fromhex("a003020100a1030101ffa203010100")) -> bytes:
    """Write what Google's certificates say of a Compute Engine machine; ``properties`` are those of its security."""
    texts = [b"\x0c\x03us1", b"\x02\x01\x07", b"\x0c\x07project", b"\x02\x02\x12\x34", b"\x0c\x07machine"]
    security = b"\x30" + bytes([len(properties)]) + properties
    body = b"".join(texts) + b"\xa0" + bytes([len(security)]) + security
    return b"\x30" + bytes([len(body)]) + body


@cache
def virtual_tpm(name: str = "a") -> VirtualTpm:
    """The machine of this name, with a P-256 key; the same in one test run."""
    root = Authority.make(f"simulated vTPM root {name}")
    between = Authority.make(f"simulated vTPM intermediate {name}", root, room=0)
    return VirtualTpm(root, between, ec.generate_private_key(ec.SECP256R1()))


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """One RSA-2048 key: slow to make, so made once."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def area(key: Private, scheme: int, hashed: int, attributes: int = AK_ATTRIBUTES) -> bytes:
    """Write the TPMT_PUBLIC of an attestation key."""
    if isinstance(key, rsa.RSAPrivateKey):
        head = u16(wire.ALG_RSA) + u16(wire.ALG_SHA256) + u32(attributes) + tpm2b(b"") + u16(wire.ALG_NULL)
        modulus = key.public_key().public_numbers().n.to_bytes(key.key_size // 8, "big")
        return head + u16(scheme) + u16(hashed) + u16(key.key_size) + u32(0) + tpm2b(modulus)
    size = (key.curve.key_size + 7) // 8
    curve, name = (3, wire.ALG_SHA256) if size == 32 else (4, wire.ALG_SHA384)
    numbers = key.public_key().public_numbers()
    head = u16(wire.ALG_ECC) + u16(name) + u32(attributes) + tpm2b(b"") + u16(wire.ALG_NULL)
    points = tpm2b(numbers.x.to_bytes(size, "big")) + tpm2b(numbers.y.to_bytes(size, "big"))
    return head + u16(scheme) + u16(hashed) + u16(curve) + u16(wire.ALG_NULL) + points


@dataclass(frozen=True)
class Logged:
    """One event to be written: by default its digests are those of its data."""

    register: int
    kind: int
    data: bytes
    hashed: bytes | None = None
    digests: Mapping[int, bytes] | None = None

    def digest(self, algorithm: int) -> bytes:
        if self.digests is not None and algorithm in self.digests:
            return self.digests[algorithm]
        if self.kind == 3:
            return bytes(wire.hash_bytes(algorithm))
        return wire.hashed(algorithm, self.data if self.hashed is None else self.hashed)


def l32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def l16(value: int) -> bytes:
    return value.to_bytes(2, "little")


def spec_id(
    banks: Sequence[int], *, sizes: Mapping[int, int] | None = None, signature: bytes = b"Spec ID Event03\0"
) -> bytes:
    """Write the event that a crypto-agile log begins with."""
    lengths = sizes or {bank: wire.hash_bytes(bank) for bank in banks}
    listed = b"".join(l16(bank) + l16(lengths[bank]) for bank in banks)
    body = signature + l32(0) + bytes([0, 2, 0, 2]) + l32(len(banks)) + listed + b"\0"
    return l32(0) + l32(3) + bytes(20) + l32(len(body)) + body


def agile_log(events: Sequence[Logged], banks: Sequence[int] = (wire.ALG_SHA1, wire.ALG_SHA256)) -> bytes:
    """Write a TCG2 log."""
    return spec_id(banks) + b"".join(agile_event(event, banks) for event in events)


def agile_event(event: Logged, banks: Sequence[int]) -> bytes:
    digests = b"".join(l16(bank) + event.digest(bank) for bank in banks)
    return l32(event.register) + l32(event.kind) + l32(len(banks)) + digests + l32(len(event.data)) + event.data


def old_log(events: Sequence[Logged]) -> bytes:
    """Write a log of the form before TPM 2.0."""
    return b"".join(l32(e.register) + l32(e.kind) + e.digest(wire.ALG_SHA1) + l32(len(e.data)) + e.data for e in events)


def locality(number: int) -> Logged:
    return Logged(0, 3, b"StartupLocality\0" + bytes([number]))


def variable(name: str, value: bytes, vendor: bytes = _GLOBAL) -> bytes:
    """Write UEFI_VARIABLE_DATA."""
    return (
        vendor + len(name).to_bytes(8, "little") + len(value).to_bytes(8, "little") + name.encode("utf-16-le") + value
    )


def boot(*, secure: bytes = b"\1", register_7: Sequence[Logged] | None = None) -> tuple[Logged, ...]:
    """A short, whole boot: version, Secure Boot, separators, a loader's code, and what GRUB ran."""
    checked = (
        Logged(7, 0x80000001, variable("SecureBoot", secure)),
        Logged(7, 0x80000001, variable("PK", b"a key")),
        Logged(7, 4, SEPARATOR),
        Logged(7, 0x800000E0, variable("db", b"an authority")),
    )
    return (
        Logged(0, 8, "version 1\0".encode("utf-16-le")),
        *(checked if register_7 is None else register_7),
        *(Logged(register, 4, SEPARATOR) for register in range(7)),
        Logged(4, 0x80000003, b"where the loader lay", hashed=b"the loader's code"),
        Logged(8, 0xD, b"grub_cmd: linux /vmlinuz root=/dev/dm-0\0", hashed=b"linux /vmlinuz root=/dev/dm-0"),
        Logged(8, 0xD, b"kernel_cmdline: /vmlinuz root=/dev/dm-0\0", hashed=b"/vmlinuz root=/dev/dm-0"),
        Logged(9, 0xD, b"/vmlinuz\0", hashed=b"the kernel's code"),
    )


def registers(log: bytes, bank: int = wire.ALG_SHA256, *, more: Mapping[int, bytes] | None = None) -> dict[int, bytes]:
    """Return all 24 PCRs of a machine that booted like this."""
    size = wire.hash_bytes(bank)
    fresh = {number: (b"\xff" if 17 <= number <= 22 else b"\0") * size for number in range(24)}
    return {**fresh, **replay(EventLog.parse(log), bank), **(more or {})}


def protobuf(*fields: tuple[int, int | bytes]) -> bytes:
    """Write a protocol buffer of integers and byte strings."""
    return b"".join(
        _varint(number << 3 | 2) + _varint(len(value)) + value
        if isinstance(value, bytes)
        else _varint(number << 3) + _varint(value)
        for number, value in fields
    )


def quote_message(machine: VirtualTpm, pcrs: Mapping[int, bytes], bank: int = wire.ALG_SHA256) -> bytes:
    """Write go-tpm-tools' ``tpm.Quote``. Protocol buffers leave zero out: PCR 0 has no number."""
    message = machine.quote(pcrs, bank=bank)
    pairs = [(2, protobuf(*([(1, n)] if n else []), (2, value))) for n, value in pcrs.items()]
    return protobuf((1, message), (2, machine.sign(message)), (3, protobuf((1, bank), *pairs)))


def attestation_message(
    machine: VirtualTpm, quotes: Sequence[bytes], log: bytes, *more: tuple[int, int | bytes]
) -> bytes:
    """Write go-tpm-tools' ``attest.Attestation``."""
    return protobuf(
        (1, machine.public),
        *((2, quote) for quote in quotes),
        (3, log),
        (6, machine.certificate),
        (7, machine.between.der),
        *more,
    )


def flips(data: bytes, step: int = 1) -> Iterator[bytes]:
    """Yield ``data`` with one bit changed, for every ``step``-th bit."""
    for bit in range(0, len(data) * 8, step):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def _varint(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, days: int
) -> x509.CertificateBuilder:
    begun = datetime.fromtimestamp(MADE, UTC) - timedelta(days=100)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begun)
        .not_valid_after(begun + timedelta(days=days))
    )
