"""Trust in other SPIFFE trust domains, for enclaves: what ``HOME/broker/spiffe.toml`` says.

    [[trust]]
    domain = "prod.example"
    bundle = "prod.pem"                     # the domain's authorities; a relative path begins at the file's folder
    paths = ["/ns/inference/sa/{name}"]     # which of its ids are enclaves; `{name}` is one whole segment
    longest = 86400                         # seconds: certificates that live longer are refused

Nothing here is about people: those are known by this deployment's own authority alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.broker.identity import MAX_ID, TrustDomain
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.fields import Fields, reading

LONGEST: Final = 86400
"""Seconds that an enclave's certificate may live at most."""
MAX_DOMAINS: Final = 16
MAX_PATHS: Final = 16
MAX_AUTHORITIES: Final = 64
MAX_BUNDLE: Final = 1 << 20
_DOMAIN: Final = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustSetting:
    """One ``[[trust]]``: a domain, the file of its bundle, which paths are enclaves, and how long certificates live."""

    domain: str
    bundle: str
    paths: tuple[tuple[str, ...], ...]
    longest: int

    @classmethod
    def read(cls, fields: Fields) -> TrustSetting:
        """Read one table.

        :raises MalformedError: a member is missing, unknown or out of bounds.
        """
        paths = tuple(_pattern(text) for text in fields.texts("paths", most=MAX_PATHS, max_length=MAX_ID))
        if not paths:
            raise MalformedError(f"`{fields.where}.paths` must name at least one path")
        return cls(
            domain=fields.parsed("domain", _domain),
            bundle=fields.text("bundle", max_length=4096),
            paths=paths,
            longest=fields.integer("longest", least=60, most=LONGEST) if fields.optional("longest") else LONGEST,
        )


def read_settings(value: Json, *, own: str) -> tuple[TrustSetting, ...]:
    """Read what ``spiffe.toml`` holds. ``own`` is this deployment's trust domain.

    :raises MalformedError: another form, or a member that this version doesn't know.
    :raises UsageError: a domain stands there twice, or is this deployment's own.
    """
    with reading(value, "spiffe.toml") as fields:
        settings = fields.objects("trust", TrustSetting.read, most=MAX_DOMAINS)
    domains = [own, *(setting.domain for setting in settings)]
    if len(set(domains)) != len(domains):
        # An outside authority for our own domain could name its people.
        raise UsageError("`spiffe.toml` names this deployment's own trust domain, or one domain twice")
    return settings


def read_bundle(data: bytes) -> frozenset[bytes]:
    """Return the authorities (DER) of a bundle in PEM.

    :raises MalformedError: no certificates, too many, or one that is no authority's (X509-SVID section 4.1).
    """
    if len(data) > MAX_BUNDLE:
        raise MalformedError(f"a bundle has at most {MAX_BUNDLE} bytes")
    try:
        certificates = x509.load_pem_x509_certificates(data)
        authorities = [certificate for certificate in certificates if _may_sign(certificate)]
    except (ValueError, x509.DuplicateExtension, x509.ExtensionNotFound, x509.InvalidVersion):
        raise MalformedError("the bundle doesn't hold authorities' certificates in PEM") from None
    if len(authorities) != len(certificates) or not 0 < len(authorities) <= MAX_AUTHORITIES:
        raise MalformedError(f"a bundle holds 1 to {MAX_AUTHORITIES} certificates, all of them authorities'")
    return frozenset(certificate.public_bytes(Encoding.DER) for certificate in authorities)


def make_trust(own: TrustDomain, others: Sequence[tuple[TrustSetting, frozenset[bytes]]]) -> dict[str, TrustDomain]:
    """Return whom the broker believes: its own authority, and other domains by their bundles.

    :raises UsageError: one authority stands for two domains; it could then speak for either.
    """
    trust = {own.name: own}
    for setting, authorities in others:
        if any(authorities & domain.authorities for domain in trust.values()):
            raise UsageError(f"an authority in the bundle of `{setting.domain}` stands for another domain already")
        trust[setting.domain] = TrustDomain(
            name=setting.domain, authorities=authorities, longest=setting.longest, paths=setting.paths
        )
    return trust


def _may_sign(certificate: x509.Certificate) -> bool:
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    return constraints.ca and usage.key_cert_sign


def _domain(text: str) -> str:
    if not _DOMAIN.fullmatch(text):
        raise MalformedError("a trust domain is 1 to 255 characters of a-z, 0-9, `.`, `_` and `-`")
    return text


def _pattern(text: str) -> tuple[str, ...]:
    segments = tuple(text.removeprefix("/").split("/"))
    literal = [segment for segment in segments if segment != "{name}"]
    whole = all(_SEGMENT.fullmatch(segment) and segment not in {".", ".."} for segment in literal)
    if not text.startswith("/") or not whole or len(segments) - len(literal) != 1:
        raise MalformedError("a path is `/` and segments, exactly one of them `{name}`")
    return segments
