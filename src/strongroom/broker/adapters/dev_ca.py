"""The development certificate authority: sessions of an embedded deployment. ECDSA P-256, short lives, one deployment.

A certificate opens a session and nothing else; whoever steals this authority's key can talk to the broker, and still
can't approve, release or forge. It is kept under ``<home>/broker/ca``. Larger deployments bring an authority of their
own.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from strongroom.broker.identity import Identity, Party, party_uri, trust_domain
from strongroom.core.adapters.durable import write_durably
from strongroom.core.clock import Instant
from strongroom.core.errors import ConflictError, MalformedError, UsageError
from strongroom.core.ids import person_id

AUTHORITY_LIFE: Final = timedelta(days=365)
SERVER_LIFE: Final = timedelta(days=7)
PERSON_LIFE: Final = timedelta(days=7)
SESSION_LIFE: Final = timedelta(hours=12)
"""The longest life of a certificate that a login gives."""
ENCLAVE_LIFE: Final = timedelta(days=1)
SKEW: Final = timedelta(minutes=5)
"""Certificates begin this much earlier: two machines' clocks differ a little."""
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate (PEM) and its private key (PKCS#8 PEM, not encrypted: it lives as briefly as the certificate)."""

    certificate: bytes
    private_key: bytes

    def __repr__(self) -> str:
        return "<IssuedCertificate>"

    def save(self, certificate: Path, private_key: Path) -> None:
        """Write both, the key for this user alone."""
        write_durably(private_key, self.private_key)
        write_durably(certificate, self.certificate)


class DevCa:
    """An opened authority."""

    def __init__(self, deployment: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._deployment = deployment
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, folder: Path, deployment: str, *, at: Instant) -> Self:
        """Make the authority of a deployment in ``folder``.

        :raises ConflictError: there is one; replacing it would end every session.
        """
        place = folder / "ca.pem"
        if place.exists():
            raise ConflictError("this deployment has a certificate authority already")
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Strongroom development CA {deployment}"[:64])])
        usage = _usage(certificates=True)
        certificate = (
            _builder(name, name, key.public_key(), at, AUTHORITY_LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The key first: a crash in between leaves no certificate, and the next start makes both anew.
        write_durably(folder / "ca.key", _private(key))
        write_durably(place, certificate.public_bytes(Encoding.PEM))
        return cls(deployment, certificate, key)

    @classmethod
    def open(cls, folder: Path, deployment: str, *, at: Instant) -> Self:
        """Open the authority in ``folder``.

        :raises UsageError: there is none, it has run out, or others can read its key.
        :raises MalformedError: its files don't hold a certificate and its key.
        """
        try:
            certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
            key = load_pem_private_key(_own(folder / "ca.key"), password=None)
        except FileNotFoundError:
            raise UsageError("this deployment has no certificate authority") from None
        except ValueError:
            raise MalformedError("the certificate authority's files can't be read") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
            raise MalformedError("the certificate authority's key isn't that of its certificate")
        if not certificate.not_valid_before_utc <= _time(at) < certificate.not_valid_after_utc:
            raise UsageError(
                "the development certificate authority isn't valid now",
                remedy=f"move `{folder.name}` away: a new one is made at the next start, and certificates anew",
            )
        return cls(deployment, certificate, key)

    @classmethod
    def open_or_create(cls, folder: Path, deployment: str, *, at: Instant) -> Self:
        """Open the authority in ``folder``, or make it at the first start."""
        if (folder / "ca.pem").exists():
            return cls.open(folder, deployment, at=at)
        return cls.create(folder, deployment, at=at)

    @property
    def certificate(self) -> bytes:
        """The authority's certificate (PEM): what clients and the server pin."""
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The authority's certificate (DER)."""
        return self._certificate.public_bytes(Encoding.DER)

    def issue_server(
        self, names: Sequence[str] = LOOPBACK, *, at: Instant, life: timedelta = SERVER_LIFE
    ) -> IssuedCertificate:
        """Issue the broker's own certificate for host names and addresses."""
        alternatives = [_general_name(name) for name in names]
        return self._issue("strongroom broker", alternatives, ExtendedKeyUsageOID.SERVER_AUTH, at, life)

    def issue_person(self, name: str, *, at: Instant, life: timedelta = PERSON_LIFE) -> IssuedCertificate:
        """Issue a person's certificate."""
        return self._issue_party(Identity(Party.PERSON, person_id(name)), at, life)

    def issue_enclave(self, name: str, *, at: Instant, life: timedelta = ENCLAVE_LIFE) -> IssuedCertificate:
        """Issue an enclave's certificate; ``name`` is any name of the form of a person's id."""
        return self._issue_party(Identity(Party.ENCLAVE, person_id(name)), at, life)

    def certify_person(self, name: str, key: ec.EllipticCurvePublicKey, *, at: Instant, life: timedelta) -> bytes:
        """Sign a key that a person's client made and keeps; returns the certificate (PEM).

        Nothing but the key comes from outside: the one name in it is ``name``, whatever was asked for.

        :raises UsageError: a life of more than :data:`SESSION_LIFE`.
        """
        if life > SESSION_LIFE:
            raise UsageError(f"a session lasts at most {SESSION_LIFE.total_seconds() / 3600:.0f} hours")
        identity = Identity(Party.PERSON, person_id(name))
        return self._sign(str(identity), self._uri(identity), ExtendedKeyUsageOID.CLIENT_AUTH, key, at, life)

    def _issue_party(self, identity: Identity, at: Instant, life: timedelta) -> IssuedCertificate:
        return self._issue(str(identity), self._uri(identity), ExtendedKeyUsageOID.CLIENT_AUTH, at, life)

    def _uri(self, identity: Identity) -> list[x509.GeneralName]:
        return [x509.UniformResourceIdentifier(party_uri(trust_domain(self._deployment), identity))]

    def _issue(
        self,
        name: str,
        alternatives: Sequence[x509.GeneralName],
        purpose: x509.ObjectIdentifier,
        at: Instant,
        life: timedelta,
    ) -> IssuedCertificate:
        key = ec.generate_private_key(ec.SECP256R1())
        return IssuedCertificate(self._sign(name, alternatives, purpose, key.public_key(), at, life), _private(key))

    def _sign(
        self,
        name: str,
        alternatives: Sequence[x509.GeneralName],
        purpose: x509.ObjectIdentifier,
        key: ec.EllipticCurvePublicKey,
        at: Instant,
        life: timedelta,
    ) -> bytes:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
        authority = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        certificate = (
            _builder(subject, self._certificate.subject, key, at, life)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, at: Instant, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(at) - SKEW)
        .not_valid_after(_time(at) + life)
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _time(at: Instant) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _own(path: Path) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_mode & 0o077 or found.st_uid != os.geteuid():
            raise UsageError(f"`{path.name}` must belong to the broker's user alone", remedy=f"chmod 600 {path.name}")
        return file.read()
