"""Walking a certificate chain to a pinned root. Own walker: the web-PKI verifier of the library refuses the chains of
AMD, AWS and TPM makers for reasons that don't apply to them (missing key identifiers, serial number 0).

1. depth; 2. each certificate is issued and signed by the next, with SHA-256 or longer and a key that isn't weak;
3. issuers are CAs with keyCertSign and room in their path length; 4. the last issuer is pinned; 5. every certificate
is valid at the instant and has no unknown critical extension; 6. none is on a revocation list of its issuer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.x509.oid import ExtensionOID

from strongroom.attestation.errors import CertificateRevokedError, ChainRefusedError
from strongroom.attestation.revocation import NO_LISTS, RevocationLists
from strongroom.attestation.trust_anchors import TrustAnchor, load_certificate
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest

MAX_DEPTH: Final = 6
_HASHES: Final = (SHA256, SHA384, SHA512)
_LEAST_RSA_BITS: Final = 2048
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
UNDERSTOOD: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A chain that was walked: its certificates, leaf first, then the pinned root."""

    certificates: tuple[x509.Certificate, ...]
    anchor: TrustAnchor
    endorsed_until: Instant
    """The earliest end: of a certificate, or of a revocation list that was relied on."""
    looked_up: tuple[bool, ...]
    """For each certificate below the root: a current list of its issuer was there, and doesn't name it."""

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate of whoever signed the evidence."""
        return self.certificates[0]


def walk(
    chain: Sequence[bytes], anchors: Sequence[TrustAnchor], at: Instant, *, lists: RevocationLists = NO_LISTS
) -> Path:
    """Walk ``chain`` (DER, leaf first, root left out or last) to one of ``anchors``.

    :raises MalformedError: a certificate can't be parsed.
    :raises ChainRefusedError: any step fails; ``reason`` stays ``chain-refused``.
    :raises CertificateRevokedError: a current list of its issuer names a certificate.
    """
    pinned = {anchor.digest: anchor for anchor in anchors}
    ders = list(chain)
    if len(ders) > 1 and Digest.of(ders[-1]) in pinned:
        ders.pop()
    if ders and Digest.of(ders[0]) in pinned:
        raise ChainRefusedError("a pinned root can't stand for what it vouches for")
    # 1. Depth, the root included.
    if not 1 <= len(ders) < MAX_DEPTH:
        raise ChainRefusedError(f"a chain has 1 to {MAX_DEPTH - 1} certificates below its root, not {len(ders)}")
    path = [load_certificate(der) for der in ders]
    # 2. and 3.
    for below, (certificate, issuer) in enumerate(pairwise(path)):
        if not signed_by(certificate, issuer):
            raise ChainRefusedError("a certificate in the chain isn't signed by the next one with SHA-256 or longer")
        _may_issue(issuer, below)
    # 4. By name and signature, so that of several pinned roots only the true issuer is asked for the rest.
    for anchor in pinned.values():
        issuer = load_certificate(anchor.certificate)
        if issuer.subject == path[-1].issuer and signed_by(path[-1], issuer):
            _may_issue(issuer, len(path) - 1)
            return _judged((*path, issuer), anchor, at, lists)
    raise ChainRefusedError(
        "the certificate doesn't lead to a pinned root",
        remedy="add the maker's root to the reference values, or hand in the missing intermediate certificates",
    )


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether ``issuer`` issued and signed ``certificate``, with a hash and a key that aren't weak."""
    try:
        # SHA-1 collisions forge certificates.
        if not isinstance(certificate.signature_hash_algorithm, _HASHES) or not _strong(issuer):
            return False
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def is_ca(certificate: x509.Certificate) -> bool:
    """Tell whether the certificate says that it is a CA's."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _strong(certificate: x509.Certificate) -> bool:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= _LEAST_RSA_BITS
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES)


def _may_issue(issuer: x509.Certificate, cas_below: int) -> None:
    if not is_ca(issuer):
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


def _judged(path: tuple[x509.Certificate, ...], anchor: TrustAnchor, at: Instant, lists: RevocationLists) -> Path:
    # 5.
    for certificate in path:
        _valid(certificate, at)
    # 6.
    until = min(int(certificate.not_valid_after_utc.timestamp()) for certificate in path)
    looked_up = []
    for certificate, issuer in pairwise(path):
        found = lists.look_up(certificate, issuer, at)
        if found is not None and found.revoked_at is not None:
            raise CertificateRevokedError(
                "a certificate in the chain was revoked by its issuer",
                seen=f"revoked {format_instant(found.revoked_at)}",
                wanted="a certificate that its issuer's list doesn't name",
            )
        looked_up.append(found is not None)
        until = min(until, found.until) if found is not None else until
    return Path(certificates=path, anchor=anchor, endorsed_until=until, looked_up=tuple(looked_up))


def _valid(certificate: x509.Certificate, at: Instant) -> None:
    now = datetime.fromtimestamp(at, UTC)
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not since <= now <= until:
        raise ChainRefusedError(
            "a certificate in the chain isn't valid at this time",
            seen=format_instant(at),
            wanted=f"from {since:%Y-%m-%dT%H:%M:%SZ} to {until:%Y-%m-%dT%H:%M:%SZ}",
        )
    if any(e.critical and e.oid not in UNDERSTOOD for e in certificate.extensions):
        raise ChainRefusedError("a certificate in the chain has a critical extension that isn't understood")
