"""Who is at the other end of a connection: one SPIFFE id in the certificate, checked against the time at every request.

This is a session gate and no more. The keeper trusts none of it: what grants access is signed, by keys in the roster.

Rules of the X.509-SVID specification (SPIFFE, sections 2 to 5) hold for the deployment's own certificates too: a leaf,
for signing, for client authentication, with exactly one URI. The authority that TLS found at the end of the chain must
be one of the trust domain that the URI names: else an authority that is trusted for enclaves could name a person.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from strongroom.broker.errors import NoIdentityError
from strongroom.core.clock import Instant

OWN_LIFE: Final = 8 * 86400
"""The longest life, in seconds, of a certificate by the deployment's own authority."""
SLACK: Final = 600
"""Authorities let certificates begin a little early, in seconds; a life may be longer by that much."""
MAX_ID: Final = 2048
"""Bytes of a SPIFFE id (SPIFFE-ID section 2.3)."""
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_SPIFFE_ID: Final = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/[A-Za-z0-9._-]+)+)")
_AGAIN: Final = "get a new certificate from the deployment's certificate authority"
_UNREADABLE: Final = (
    ValueError,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


class Party(StrEnum):
    """The two kinds of caller. The values are path segments of their URIs."""

    PERSON = "person"
    ENCLAVE = "enclave"


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller: ``spiffe://<trust domain>/<party>/<name>``, or an enclave of another trust domain.

    The latter's name is its whole id without the scheme. It has slashes, so no name of ours equals it.
    """

    party: Party
    name: str

    def __str__(self) -> str:
        return f"{self.party.value}/{self.name}"


@dataclass(frozen=True, slots=True)
class Peer:
    """What TLS verified: the peer's certificate, and the authority at the end of its chain; both DER."""

    certificate: bytes
    authority: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustDomain:
    """Whose certificates are believed: a domain's authorities (DER), and which of its ids are callers.

    ``paths`` are segments of paths, one of them ``{name}``; None stands for this deployment's own two parties.
    """

    name: str
    authorities: frozenset[bytes]
    longest: int
    """The longest life of a certificate, in seconds."""
    paths: tuple[tuple[str, ...], ...] | None = None

    def caller(self, path: str) -> Identity:
        """Return whom a path names.

        :raises NoIdentityError: nobody.
        """
        segments = tuple(path.removeprefix("/").split("/"))
        if self.paths is None:
            party, *rest = segments
            if party in set(Party) and len(rest) == 1 and _NAME.fullmatch(rest[0]):
                return Identity(Party(party), rest[0])
        # An enclave, whatever the path says: people are known by this deployment's own authority alone.
        elif any(_fits(pattern, segments) for pattern in self.paths):
            return Identity(Party.ENCLAVE, f"{self.name}{path}")
        raise NoIdentityError("the client certificate names nobody of this deployment", remedy=_AGAIN)


Trust = Mapping[str, TrustDomain]
"""Trust domains by their names."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What matters of a certificate that TLS has verified."""

    domain: str
    path: str
    not_before: Instant
    not_after: Instant


def trust_domain(deployment: str) -> str:
    """Return the SPIFFE trust domain of a deployment: its name, with what a trust domain can't hold replaced."""
    return re.sub(r"[^a-z0-9._-]", "-", deployment.lower()) or "strongroom"


def own_domain(deployment: str, authority: bytes) -> TrustDomain:
    """Return the trust domain of a deployment whose authority's certificate is ``authority`` (DER)."""
    return TrustDomain(name=trust_domain(deployment), authorities=frozenset({authority}), longest=OWN_LIFE)


def party_uri(domain: str, identity: Identity) -> str:
    """Return the URI that a certificate must carry."""
    return f"spiffe://{domain}/{identity.party.value}/{identity.name}"


def spiffe_id(text: str) -> tuple[str, str]:
    """Return trust domain and path of a SPIFFE id (SPIFFE-ID section 2).

    :raises NoIdentityError: it isn't one: another scheme, a query, a port, an empty or dotted segment.
    """
    found = _SPIFFE_ID.fullmatch(text) if len(text) <= MAX_ID else None
    if found is None or {".", ".."} & set(found[2].split("/")):
        raise NoIdentityError("the client certificate's URI isn't a SPIFFE id", remedy=_AGAIN)
    return found[1], found[2]


def identify(peer: Peer | None, trust: Trust, now: Instant) -> Identity:
    """Return who a certificate names. The common name and every other field count for nothing.

    TLS checks validity once, at the handshake; a connection may outlive its certificate, or the trust in its
    authority, so both are checked here too.

    :raises NoIdentityError: no certificate; not the leaf of an X.509-SVID; not exactly one SPIFFE id of a trust domain
        that the deployment knows, by an authority of that very domain; not valid now, or for too long.
    """
    if peer is None:
        raise NoIdentityError("the connection carries no client certificate")
    certificate = _read(peer.certificate)
    if not certificate.not_before <= now < certificate.not_after:
        raise NoIdentityError("the client certificate isn't valid now", reason="certificate-expired", remedy=_AGAIN)
    domain = trust.get(certificate.domain)
    if domain is None:
        raise NoIdentityError("the client certificate names nobody of this deployment", remedy=_AGAIN)
    if peer.authority not in domain.authorities:
        raise NoIdentityError(
            "the client certificate's authority doesn't speak for its trust domain", reason="authority-not-of-domain"
        )
    if certificate.not_after - certificate.not_before > domain.longest + SLACK:
        raise NoIdentityError(
            f"the client certificate lives longer than {domain.longest} seconds", reason="certificate-life-too-long"
        )
    return domain.caller(certificate.path)


def _fits(pattern: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    return len(pattern) == len(segments) and all(p in {"{name}", s} for p, s in zip(pattern, segments, strict=True))


@functools.lru_cache(maxsize=1024)
def _read(der: bytes) -> Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        _check_leaf(certificate)
    except _UNREADABLE:
        raise NoIdentityError("the client certificate carries no name that can be read", remedy=_AGAIN) from None
    if len(uris) != 1:
        # Two names would let two readers see two people.
        raise NoIdentityError("the client certificate carries not exactly one URI", remedy=_AGAIN)
    return Certificate(
        *spiffe_id(uris[0]),
        int(certificate.not_valid_before_utc.timestamp()),
        int(certificate.not_valid_after_utc.timestamp()),
    )


def _check_leaf(certificate: x509.Certificate) -> None:
    """X509-SVID sections 4.1, 4.3 and 4.4: an authority's certificate, or a server's, is nobody's session."""
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            raise _unfit("is an authority's")
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    if not usage.critical or not usage.value.digital_signature:
        raise _unfit("isn't for signing")
    if usage.value.key_cert_sign or usage.value.crl_sign:
        raise _unfit("may sign certificates")
    purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    if ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise _unfit("isn't for client authentication")


def _unfit(why: str) -> NoIdentityError:
    return NoIdentityError(f"the client certificate {why}", reason="certificate-unfit", remedy=_AGAIN)
