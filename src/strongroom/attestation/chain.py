"""Walking an endorsement certificate's chain to a pinned root, and reading what the certificate says of its TPM.

Own walker: the web-PKI verifier of the library refuses TPM certificates for reasons that don't apply to them. Steps:
1. depth; 2. each certificate is issued and signed by the next; 3. every one is valid at the instant; 4. issuers are
CAs with keyCertSign and room in their path length; 5. no unknown critical extension; 6. the last issuer is pinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID

from strongroom.attestation.errors import ChainRefusedError
from strongroom.attestation.isolation import IsolationClass
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError

MAX_DEPTH: Final = 5
MAX_CERTIFICATE: Final = 8192
EK_USAGE: Final = x509.ObjectIdentifier("2.23.133.8.1")
_MANUFACTURER: Final = x509.ObjectIdentifier("2.23.133.2.1")
_MODEL: Final = x509.ObjectIdentifier("2.23.133.2.2")
_VERSION: Final = x509.ObjectIdentifier("2.23.133.2.3")
_HASHES: Final = (SHA256, SHA384, SHA512)
_UNDERSTOOD: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)
# What swtpm writes into the certificates that it makes: a PCI vendor number where hardware has a TCG vendor id.
_SIMULATED_MANUFACTURER: Final = "id:00001014"
_SIMULATED_MODEL: Final = "swtpm"


@dataclass(frozen=True, slots=True)
class EkRoot:
    """A pinned root and the class that what it vouches for may have."""

    certificate: bytes
    """DER."""
    isolation: IsolationClass

    @property
    def digest(self) -> Digest:
        """SHA-256 of the certificate: how the root is pinned."""
        return Digest.of(self.certificate)

    @property
    def public_key(self) -> bytes:
        """DER SubjectPublicKeyInfo: one key in two certificates is one root.

        :raises MalformedError: not a certificate.
        """
        return _public_bytes(load_certificate(self.certificate))


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmIdentity:
    """What the endorsement certificate's subject alternative name says (TCG EK Credential Profile, 3.2.9)."""

    manufacturer: str
    model: str
    version: str

    @property
    def simulated(self) -> bool:
        """True when the certificate itself says that a program plays the TPM."""
        return self.manufacturer.casefold() == _SIMULATED_MANUFACTURER or _SIMULATED_MODEL in self.model.casefold()


def load_certificate(data: bytes) -> x509.Certificate:
    """Parse one DER certificate.

    :raises MalformedError: too long or not a certificate.
    """
    if len(data) > MAX_CERTIFICATE:
        raise MalformedError(f"a certificate has {len(data)} bytes; at most {MAX_CERTIFICATE} are read")
    try:
        certificate = x509.load_der_x509_certificate(data)
        _ = certificate.extensions  # parsed lazily: a broken extension must fail here, not in the middle of a decision
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion):
        raise MalformedError("the bytes aren't an X.509 certificate in DER") from None
    return certificate


def walk(chain: Sequence[bytes], roots: Sequence[EkRoot], at: Instant) -> EkRoot:
    """Return the pinned root that ``chain`` (DER, leaf first, root left out or last) leads to.

    :raises MalformedError: a certificate can't be parsed.
    :raises ChainRefusedError: any step fails; ``reason`` stays ``chain-refused``.
    """
    pinned = {root.digest: root for root in roots}
    ders = list(chain)
    if len(ders) > 1 and Digest.of(ders[-1]) in pinned:
        ders.pop()
    # 1. Depth, the root included.
    if not 1 <= len(ders) < MAX_DEPTH:
        raise ChainRefusedError(f"a chain has 1 to {MAX_DEPTH - 1} certificates below its root, not {len(ders)}")
    path = [load_certificate(der) for der in ders]
    for below, (certificate, issuer) in enumerate(pairwise(path)):
        _issued(certificate, issuer)
        _may_issue(issuer, below)
    # 6. First by name and signature, so that of several pinned roots only the true issuer is asked for the rest.
    for root in pinned.values():
        issuer = load_certificate(root.certificate)
        if issuer.subject == path[-1].issuer and _signed(path[-1], issuer):
            _may_issue(issuer, len(path) - 1)
            for certificate in (*path, issuer):
                _valid(certificate, at)
            return root
    raise ChainRefusedError(
        "the endorsement certificate doesn't lead to a pinned root",
        remedy="add the TPM vendor's root to the reference values, or hand in the missing intermediate certificates",
    )


def tpm_identity(certificate: x509.Certificate) -> TpmIdentity:
    """Read the TPM's attributes from an endorsement certificate, which must say that it is one.

    :raises ChainRefusedError: not for an endorsement key (EKU 2.23.133.8.1), a CA, or without TPM attributes.
    """
    try:
        extensions = certificate.extensions
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        attributes = {a.oid: a.value for name in names.get_values_for_type(x509.DirectoryName) for a in name}
        found = [attributes[oid] for oid in (_MANUFACTURER, _MODEL, _VERSION)]
    except (x509.ExtensionNotFound, KeyError, ValueError):
        raise ChainRefusedError("the certificate doesn't describe a TPM's endorsement key") from None
    if EK_USAGE not in usage:
        # A CA that also certifies ordinary keys would otherwise vouch for a key that lies in a file.
        raise ChainRefusedError("the certificate isn't for an endorsement key (extended key usage 2.23.133.8.1)")
    if _is_ca(certificate):
        raise ChainRefusedError("a CA certificate can't stand for an endorsement key")
    manufacturer, model, version = (str(value) for value in found)
    return TpmIdentity(manufacturer=manufacturer, model=model, version=version)


def public_key_bytes(certificate: x509.Certificate) -> bytes:
    """Return the certificate's key as DER SubjectPublicKeyInfo."""
    return _public_bytes(certificate)


def _public_bytes(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedError("the certificate's key is of a kind that isn't read") from None


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        if not isinstance(certificate.signature_hash_algorithm, _HASHES):
            return False  # SHA-1 collisions forge certificates
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    if not _signed(certificate, issuer):
        raise ChainRefusedError("a certificate in the chain isn't signed by the next one with SHA-256 or longer")


def _may_issue(issuer: x509.Certificate, cas_below: int) -> None:
    if not _is_ca(issuer):
        raise ChainRefusedError("an issuer in the chain isn't a CA")
    length = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    if length is not None and cas_below > length:
        raise ChainRefusedError("the chain is longer than one of its CAs allows")
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise ChainRefusedError("an issuer in the chain has no key usage") from None
    if not usage.key_cert_sign:
        raise ChainRefusedError("an issuer in the chain may not sign certificates")


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _valid(certificate: x509.Certificate, at: Instant) -> None:
    now = datetime.fromtimestamp(at, UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise ChainRefusedError("a certificate in the chain isn't valid at this time")
    if any(e.critical and e.oid not in _UNDERSTOOD for e in certificate.extensions):
        raise ChainRefusedError("a certificate in the chain has a critical extension that isn't understood")
