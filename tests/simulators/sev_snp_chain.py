"""A security processor played by keys in memory: AMD-shaped roots, intermediates, chips' keys and reports.

The names are AMD's and the keys aren't: only a trust anchor made here, of class ``vm-simulated``, accepts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha512
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.sev_snp import certificate_table as table
from strongroom.attestation.sev_snp.body import write_body
from strongroom.attestation.sev_snp.products import Product
from strongroom.attestation.sev_snp.report import SigningKey
from strongroom.attestation.trust_anchors import TrustAnchor, TrustAnchors, Vendor
from strongroom.core.clock import Instant

NOW: Final[Instant] = 1_795_000_000
_PSS: Final = padding.PSS(mgf=padding.MGF1(SHA384()), salt_length=48)
_YEARS: Final = timedelta(days=3650)
_ARC: Final = "1.3.6.1.4.1.3704.1."
CPUS: Final = {Product.MILAN: (0x19, 0x01, 1), Product.GENOA: (0x19, 0x11, 1), Product.TURIN: (0x1A, 0x02, 1)}
TCBS: Final = {
    Product.MILAN: bytes((4, 0, 0, 0, 0, 0, 0x1D, 0xDE)),
    Product.GENOA: bytes((10, 0, 0, 0, 0, 0, 0x1B, 0x56)),
    Product.TURIN: bytes((1, 1, 1, 4, 0, 0, 0, 0x51)),
}
"""Each at or above the strictest policy's floor; Milan has none there."""
_LEGACY: Final = ("3.1", "3.2", "3.4", "3.5", "3.6", "3.7", "3.3", "3.8")
_TURIN: Final = ("3.9", "3.1", "3.2", "3.3", "3.5", "3.6", "3.7", "3.8")
MEASUREMENT: Final = bytes(range(48))
MUST_BE_ONE: Final = 1 << 17
STRICT_POLICY: Final = MUST_BE_ONE | 1 << 23 | 1 << 24 | 1 << 25 | 58 | 1 << 8
"""RAPL off, ciphertext hidden, no page swapping, no neighbour thread."""
STRICT_PLATFORM: Final = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5


def chip(product: Product = Product.GENOA, name: str = "chip") -> bytes:
    """Return a chip identifier as reports write it."""
    return sha512(name.encode()).digest()[: 8 if product.has_fmc else 64].ljust(64, b"\0")


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA: its key and its certificate."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Authorities:
    """One product's root, chips' intermediate and providers' intermediate."""

    ark: Authority
    ask: Authority
    asvk: Authority


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Engineering"),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Advanced Micro Devices"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _authority(common: str, issuer: Authority | None) -> Authority:
    key = rsa.generate_private_key(65537, 2048)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=issuer is None,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(common))
        .issuer_name(issuer.certificate.subject if issuer else _name(common))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(NOW, UTC) - _YEARS)
        .not_valid_after(datetime.fromtimestamp(NOW, UTC) + _YEARS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0 if issuer else None), critical=True)
        .add_extension(usage, critical=True)
        .sign(issuer.key if issuer else key, SHA384(), rsa_padding=_PSS)
    )
    return Authority(key, certificate)


def authorities(product: Product = Product.GENOA) -> Authorities:
    """Return a product's authorities, made once."""
    return _authorities(product)


@cache
def _authorities(product: Product) -> Authorities:
    line = product.value.title()
    ark = _authority(f"ARK-{line}", None)
    return Authorities(ark, _authority(f"SEV-{line}", ark), _authority(f"SEV-VLEK-{line}", ark))


def anchors(*products: Product) -> TrustAnchors:
    """Return the products' simulated roots; every product's without one."""
    simulated = IsolationClass.VM_SIMULATED
    return TrustAnchors(
        tuple(TrustAnchor(Vendor.AMD_SEV, authorities(one).ark.der, simulated) for one in products or tuple(Product))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A chip and what it says. The defaults meet the strictest policy; tests replace what they want wrong."""

    product: Product = Product.GENOA
    version: int = 3
    report_data: bytes = bytes(64)
    policy: int = STRICT_POLICY
    platform: int = STRICT_PLATFORM
    vmpl: int = 0
    signing_key: SigningKey = SigningKey.VCEK
    measurement: bytes = MEASUREMENT
    host_data: bytes = bytes(32)
    family_id: bytes = bytes(16)
    image_id: bytes = bytes(16)
    id_key_digest: bytes = bytes(48)
    author_key_digest: bytes = bytes(48)
    author_key_enabled: bool = False
    guest_svn: int = 0
    cpu: tuple[int, int, int] | None = None
    """The product's own by default."""
    chip_id: bytes | None = None
    """What the report says; the chip by default, zeros under a VLEK."""
    tcb: bytes | None = None
    """The reported version; the product's by default."""
    committed_tcb: bytes | None = None
    current_tcb: bytes | None = None
    launch_tcb: bytes | None = None
    firmware: tuple[int, int, int] = (1, 58, 4)
    """Current and committed: major, minor, build."""
    committed_firmware: tuple[int, int, int] | None = None
    mitigations: tuple[int, int] = (0, 0)
    """At launch, current; written from version 5 on."""
    # What the key's certificate says, where it differs.
    certified_tcb: bytes | None = None
    certified_chip: bytes | None = None
    certified_product: str | None = None
    provider: str = "cloud.example.net"
    issuer: Authority | None = None
    valid_days: int = 2000
    wrapped_chip: bool = False
    without: frozenset[str] = field(default_factory=frozenset)
    """Extensions to leave out, by the end of their identifiers (``3.8``)."""
    extensions: Mapping[str, bytes] = field(default_factory=dict)
    """Extensions to write as they stand here."""

    @property
    def _tcb(self) -> bytes:
        return self.tcb or TCBS[self.product]

    def unsigned(self) -> bytes:
        """Return the report's 672 signed bytes."""
        keys = {SigningKey.VCEK: 0, SigningKey.VLEK: 1, SigningKey.NONE: 7}[self.signing_key]
        vlek = self.signing_key is SigningKey.VLEK
        chip_id = self.chip_id if self.chip_id is not None else bytes(64) if vlek else chip(self.product)
        said = (
            self.version.to_bytes(4, "little")
            + self.guest_svn.to_bytes(4, "little")
            + self.policy.to_bytes(8, "little")
            + self.family_id
            + self.image_id
            + self.vmpl.to_bytes(4, "little")
            + (1).to_bytes(4, "little")
            + (self.current_tcb or self._tcb)
            + self.platform.to_bytes(8, "little")
            + (keys << 2 | self.author_key_enabled).to_bytes(4, "little")
            + bytes(4)
            + self.report_data
            + self.measurement
            + self.host_data
            + self.id_key_digest
            + self.author_key_digest
            + bytes(32)
            + b"\xff" * 32
            + self._tcb
            + (bytes(self.cpu or CPUS[self.product]) if self.version >= 3 else bytes(3))
            + bytes(21)
            + chip_id
            + (self.committed_tcb or self._tcb)
            + _firmware(self.firmware)
            + _firmware(self.committed_firmware or self.firmware)
            + (self.launch_tcb or self._tcb)
        )
        if self.version >= 5:
            said += b"".join(vector.to_bytes(8, "little") for vector in self.mitigations)
        return said.ljust(0x2A0, b"\0")

    def report(self) -> bytes:
        """Return the signed report."""
        return signed(self.unsigned(), signer(self.product, self.signing_key))

    def certificate(self) -> bytes:
        """Return the signing key's certificate."""
        made = authorities(self.product)
        vlek = self.signing_key is SigningKey.VLEK
        issuer = self.issuer or (made.asvk if vlek else made.ask)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name("SEV-VLEK" if vlek else "SEV-VCEK"))
            .issuer_name(issuer.certificate.subject)
            .public_key(signer(self.product, self.signing_key).public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.fromtimestamp(NOW, UTC) - timedelta(days=100))
            .not_valid_after(datetime.fromtimestamp(NOW, UTC) + timedelta(days=self.valid_days))
        )
        for part, value in {**self._extensions(vlek=vlek), **self.extensions}.items():
            if part not in self.without:
                oid = x509.ObjectIdentifier(_ARC + part)
                builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
        return builder.sign(issuer.key, SHA384(), rsa_padding=_PSS).public_bytes(Encoding.DER)

    def _extensions(self, *, vlek: bool) -> dict[str, bytes]:
        name = self.certified_product or self.product.value.title()
        told = {"1": _integer(int(self.product.has_fmc)), "2": _ia5(name)}
        parts = _TURIN if self.product.has_fmc else _LEGACY
        told |= {part: _integer(byte) for part, byte in zip(parts, self.certified_tcb or self._tcb, strict=True)}
        if vlek:
            return told | {"5": _ia5(self.provider)}
        bare = self.certified_chip or chip(self.product)[: 8 if self.product.has_fmc else 64]
        return told | {"4": b"\x04" + bytes((len(bare),)) + bare if self.wrapped_chip else bare}

    def certificates(self) -> bytes:
        """Return the table that a host hands out: the key's certificate and AMD-shaped authorities."""
        made = authorities(self.product)
        vlek = self.signing_key is SigningKey.VLEK
        return table.table_of(
            (
                (table.ARK, made.ark.der),
                (table.ASK, made.asvk.der if vlek else made.ask.der),
                (table.VLEK if vlek else table.VCEK, self.certificate()),
            )
        )

    def body(self) -> bytes:
        """Return the evidence item's body: report and table."""
        return write_body(self.report(), self.certificates())


@cache
def signer(product: Product, kind: SigningKey) -> ec.EllipticCurvePrivateKey:
    """Return the key that a product's chip, or the provider, signs with."""
    del product, kind
    return ec.generate_private_key(ec.SECP384R1())


def signed(unsigned: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Sign 672 bytes as the security processor does."""
    r, s = decode_dss_signature(key.sign(unsigned, ec.ECDSA(SHA384())))
    return (unsigned + r.to_bytes(72, "little") + s.to_bytes(72, "little")).ljust(0x4A0, b"\0")


def revocation_list(product: Product = Product.GENOA, *, revoked: tuple[int, ...] = (), days: int = 30) -> bytes:
    """Return the root's list (DER), current from a day before NOW on, that names these serial numbers."""
    ark = authorities(product).ark
    since = datetime.fromtimestamp(NOW, UTC) - timedelta(days=1)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ark.certificate.subject)
        .last_update(since)
        .next_update(since + timedelta(days=days))
        .add_extension(x509.CRLNumber(4), critical=False)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(ark.key, SHA384(), rsa_padding=_PSS).public_bytes(Encoding.DER)


def _firmware(version: tuple[int, int, int]) -> bytes:
    major, minor, build = version
    return bytes((build, minor, major, 0))


def _integer(number: int) -> bytes:
    body = number.to_bytes(1 + (number > 0x7F), "big")
    return bytes((2, len(body))) + body


def _ia5(text: str) -> bytes:
    return bytes((0x16, len(text))) + text.encode("ascii")
