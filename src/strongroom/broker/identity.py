"""Who is at the other end of a connection: a URI in the certificate, checked against the time on every request.

This is a session gate and no more. The keeper trusts none of it: what grants access is signed, by keys in the roster.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography import x509

from strongroom.broker.errors import NoIdentityError
from strongroom.core.clock import Instant

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_AGAIN: Final = "get a new certificate from the deployment's certificate authority"


class Party(StrEnum):
    """The two kinds of caller. The values are path segments of their URIs."""

    PERSON = "person"
    ENCLAVE = "enclave"


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller: ``spiffe://<trust domain>/<party>/<name>``."""

    party: Party
    name: str

    def __str__(self) -> str:
        return f"{self.party.value}/{self.name}"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What matters of a certificate that TLS has verified."""

    uri: str
    not_before: Instant
    not_after: Instant


def trust_domain(deployment: str) -> str:
    """Return the SPIFFE trust domain of a deployment: its name, with what a trust domain can't hold replaced."""
    return re.sub(r"[^a-z0-9._-]", "-", deployment.lower()) or "strongroom"


def party_uri(domain: str, identity: Identity) -> str:
    """Return the URI that a certificate must carry."""
    return f"spiffe://{domain}/{identity.party.value}/{identity.name}"


def identify(der: bytes | None, domain: str, now: Instant) -> Identity:
    """Return who a certificate names. The common name and every other field count for nothing.

    TLS checks validity once, at the handshake; a connection may outlive its certificate, so it is checked here too.

    :raises NoIdentityError: no certificate, not exactly one URI of this deployment's form, or not valid now.
    """
    if der is None:
        raise NoIdentityError("the connection carries no client certificate")
    certificate = _read(der)
    if not certificate.not_before <= now < certificate.not_after:
        raise NoIdentityError("the client certificate isn't valid now", reason="certificate-expired", remedy=_AGAIN)
    prefix = f"spiffe://{domain}/"
    party, _, name = certificate.uri.removeprefix(prefix).partition("/")
    if not certificate.uri.startswith(prefix) or party not in set(Party) or not _NAME.fullmatch(name):
        raise NoIdentityError("the client certificate names nobody of this deployment", remedy=_AGAIN)
    return Identity(Party(party), name)


@functools.lru_cache(maxsize=1024)
def _read(der: bytes) -> Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        raise NoIdentityError("the client certificate carries no name that can be read", remedy=_AGAIN) from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        # Two names would let two readers see two people.
        raise NoIdentityError("the client certificate carries not exactly one URI", remedy=_AGAIN)
    return Certificate(
        uris[0],
        int(certificate.not_valid_before_utc.timestamp()),
        int(certificate.not_valid_after_utc.timestamp()),
    )
