"""Walking a security key's attestation chain to a root that the roster pins for its model.

The library that reads attestations checks the signatures along a chain and nothing else. Steps: 1. depth; 2. each
certificate is issued and signed by the next, with SHA-256 or longer; 3. issuers are CAs with room in their path length
and, where they have a key usage, leave to sign certificates; 4. every one is valid at the instant; 5. no critical
extension that isn't understood; 6. the last issuer is pinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from strongroom.core.clock import Instant
from strongroom.core.errors import TamperedError
from strongroom.personnel.authenticators import load_certificate

MAX_CHAIN: Final = 4
"""Certificates that a key hands over, its own first."""
_HASHES: Final = (SHA256, SHA384, SHA512)
_UNDERSTOOD: Final = frozenset({ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE})


class KeyNotAttestedError(TamperedError):
    """A public key isn't proven to be held by an allowed security key; ``reason`` names what failed."""

    code = "key-not-attested"


def walk(chain: Sequence[bytes], roots: Sequence[bytes], at: Instant) -> None:
    """Check that ``chain`` (DER, the key's own certificate first, root left out or last) leads to one of ``roots``.

    :raises MalformedError: a certificate can't be parsed.
    :raises KeyNotAttestedError: any step fails.
    """
    ders = list(chain)
    if len(ders) > 1 and ders[-1] in roots:
        ders.pop()
    # 1.
    if not 1 <= len(ders) <= MAX_CHAIN:
        raise _refused(f"an attestation chain has 1 to {MAX_CHAIN} certificates below its root, not {len(ders)}")
    path = [load_certificate(der) for der in ders]
    for below, (certificate, issuer) in enumerate(pairwise(path)):
        # 2. and 3.
        if not _issued(certificate, issuer):
            raise _refused("a certificate in the attestation chain isn't signed by the next one")
        _may_issue(issuer, below)
    # 6. First by name and signature, so that of several pinned roots only the true issuer is asked for the rest.
    for root in map(load_certificate, roots):
        if _issued(path[-1], root) and root.public_bytes(Encoding.DER) not in ders:
            _may_issue(root, len(path) - 1)
            for certificate in (*path, root):
                _valid(certificate, at)
            return
    raise _refused("the attestation chain doesn't lead to a root that the roster pins for this model")


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        if not isinstance(certificate.signature_hash_algorithm, _HASHES):
            return False  # SHA-1 collisions forge certificates
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _may_issue(issuer: x509.Certificate, cas_below: int) -> None:
    extensions = issuer.extensions
    try:
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise _refused("an issuer in the attestation chain isn't a CA") from None
    if not constraints.ca:
        raise _refused("an issuer in the attestation chain isn't a CA")
    if constraints.path_length is not None and cas_below > constraints.path_length:
        raise _refused("the attestation chain is longer than one of its CAs allows")
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return  # makers' old roots have none; that they are pinned says as much
    if not usage.key_cert_sign:
        raise _refused("an issuer in the attestation chain may not sign certificates")


def _valid(certificate: x509.Certificate, at: Instant) -> None:
    now = datetime.fromtimestamp(at, UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise _refused("a certificate in the attestation chain isn't valid at this time")
    if any(e.critical and e.oid not in _UNDERSTOOD for e in certificate.extensions):
        raise _refused("a certificate in the attestation chain has a critical extension that isn't understood")


def _refused(message: str) -> KeyNotAttestedError:
    return KeyNotAttestedError(
        message, reason="attestation-chain", remedy="have the root quorum pin the maker's root, or use another model"
    )
