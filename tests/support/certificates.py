"""Certificates of every kind that a peer might show, good and wrong; TLS has checked the signatures before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def usage(*, sign: bool = True, certificates: bool = False, lists: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=not sign,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=lists,
        encipher_only=False,
        decipher_only=False,
    )


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a leaf certificate says; the defaults are those of a good one."""

    names: Sequence[x509.GeneralName] = ()
    at: int
    seconds: int = 3600
    common_name: str = "person/mallory"
    authority: bool | None = False
    usage: x509.KeyUsage | None = field(default_factory=usage)
    critical: bool = True
    purposes: Sequence[x509.ObjectIdentifier] | None = CLIENT


@dataclass(frozen=True)
class Authority:
    """A certificate authority of a trust domain."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, name: str, at: int, *, seconds: int = 86400, parent: Authority | None = None) -> Self:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer, signer = (parent.certificate.subject, parent.key) if parent else (subject, key)
        begins = datetime.fromtimestamp(at, UTC) - timedelta(minutes=5)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + timedelta(seconds=seconds))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage(sign=False, certificates=True, lists=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        return cls(builder.sign(signer, hashes.SHA256()), key)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def leaf(self, shape: Shape) -> tuple[x509.Certificate, bytes]:
        """Return a certificate, and its key (PEM)."""
        key = ec.generate_private_key(ec.SECP256R1())
        begins = datetime.fromtimestamp(shape.at, UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, shape.common_name)]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + timedelta(seconds=shape.seconds))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if shape.authority is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca=shape.authority, path_length=None), critical=True)
        if shape.usage is not None:
            builder = builder.add_extension(shape.usage, critical=shape.critical)
        if shape.purposes is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(shape.purposes), critical=True)
        if shape.names:
            builder = builder.add_extension(x509.SubjectAlternativeName(shape.names), critical=False)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return builder.sign(self.key, hashes.SHA256()), private
