"""Opening a session from the person's side: log in at the provider, sign with one's own key, get a certificate.

The private key of the session never leaves this machine; what goes out is a request that it signed. What comes back is
checked before it is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from strongroom.client.api import Transport
from strongroom.client.trust import StateMismatchError
from strongroom.client.wallet import Wallet
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import DeniedError, MalformedError, TamperedError
from strongroom.core.fields import Fields, reading
from strongroom.core.ids import PersonId
from strongroom.personnel.login import LOGIN_TYPE, MAX_CHALLENGE, Login, nonce_of

LONGEST: Final = 12 * 3600
"""Seconds: no session is longer, whatever a server says."""
MAX_CERTIFICATE: Final = 16384


class LoginFailedError(DeniedError):
    """The identity provider, or the person, refused; or its answer isn't one to this login."""

    code = "login-failed"


class IssuedOtherwiseError(TamperedError):
    """The certificate isn't for the key that asked, not for this person, or not by the wallet's authority."""

    code = "certificate-not-as-asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderTold:
    """The identity provider that the deployment names."""

    issuer: str
    client_id: str
    scopes: tuple[str, ...]

    @classmethod
    def read(cls, fields: Fields) -> ProviderTold:
        """Read the JSON form."""
        return cls(
            issuer=fields.text("issuer", max_length=2048),
            client_id=fields.text("client_id"),
            scopes=fields.texts("scopes", most=16),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a login takes. ``session`` in seconds; without a provider the person's own key is enough."""

    genesis: Digest
    session: int
    provider: ProviderTold | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A session: its certificate (PEM), and when it ends."""

    certificate: bytes
    until: Instant


class LoginApi:
    """The three routes of a login, on the identity listener. All raise what the transport raises."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def terms(self) -> Terms:
        """Return what a login takes."""
        with reading(self._transport.call("GET", "/login/v1/terms"), "terms") as fields:
            provider = None
            if fields.optional("provider"):
                with fields.child("provider") as child:
                    provider = ProviderTold.read(child)
            return Terms(genesis=fields.digest("genesis"), session=fields.integer("session"), provider=provider)

    def challenge(self) -> bytes:
        """Return a challenge for one login."""
        with reading(self._transport.call("POST", "/login/v1/challenges", body={}), "challenge") as fields:
            fields.instant("expires")
            return fields.binary("challenge", max_length=MAX_CHALLENGE)

    def certificate(self, login: Envelope, request: bytes, id_token: str | None) -> bytes:
        """Hand in a signed login; returns the certificate (PEM)."""
        body: Json = {
            "login": login.to_json(),
            "certificate_request": to_base64(request),
            "id_token": id_token,
        }
        with reading(self._transport.call("POST", "/login/v1/certificates", body=body), "session") as fields:
            fields.instant("until")
            return fields.binary("certificate", max_length=MAX_CERTIFICATE)


Authenticate = Callable[[ProviderTold, str], str]
"""(provider, nonce) -> the ID token that it gave: :mod:`strongroom.client.adapters.oidc`."""


def open_session(
    api: LoginApi,
    wallet: Wallet,
    *,
    authority: bytes,
    request: bytes,
    authenticate: Authenticate,
    now: Instant,
) -> Opened:
    """Open a session. ``request`` is a certificate request (PKCS#10, DER), ``authority`` the wallet's (PEM).

    :raises StateMismatchError: the server is another deployment's.
    :raises LoginFailedError: the provider refused.
    :raises IssuedOtherwiseError: the certificate isn't the one that was asked for.
    """
    genesis = wallet.genesis().digest
    terms = api.terms()
    if terms.genesis != genesis:
        raise StateMismatchError("the server opens sessions of another deployment")
    challenge = api.challenge()
    # The provider puts the nonce into the ID token: it can't be one that somebody got for another login.
    token = authenticate(terms.provider, nonce_of(challenge)) if terms.provider is not None else None
    login = Login(
        genesis=genesis,
        person=wallet.identity.person,
        challenge=challenge,
        certificate_request=Digest.of(request),
        id_token=None if token is None else Digest.of(token.encode()),
    )
    envelope = sign(LOGIN_TYPE, login.to_bytes(), wallet.signer())
    certificate = api.certificate(envelope, request, token)
    until = check_certificate(certificate, request=request, authority=authority, person=login.person, now=now)
    return Opened(certificate=certificate, until=until)


def check_certificate(
    certificate: bytes, *, request: bytes, authority: bytes, person: PersonId, now: Instant
) -> Instant:
    """Check what a server issued; returns when it ends.

    :raises MalformedError: no certificate.
    :raises IssuedOtherwiseError: another key, another person, another authority, or a session of too many hours.
    """
    read, issuer = _read(certificate), _read(authority)
    try:
        asked = x509.load_der_x509_csr(request).public_key()
        read.verify_directly_issued_by(issuer)
        names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound, x509.DuplicateExtension):
        raise IssuedOtherwiseError("the certificate isn't by the wallet's authority, or names nobody") from None
    until = int(read.not_valid_after_utc.timestamp())
    named = len(uris) == 1 and uris[0].startswith("spiffe://") and uris[0].endswith(f"/person/{person}")
    if read.public_key() != asked or not named or not now < until <= now + LONGEST + 300:
        raise IssuedOtherwiseError("the certificate isn't for this person, this key and some hours")
    return until


def session_end(certificate: bytes) -> Instant:
    """Return when a client certificate (PEM) ends.

    :raises MalformedError: no certificate.
    """
    return int(_read(certificate).not_valid_after_utc.timestamp())


def _read(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except (ValueError, x509.InvalidVersion):
        raise MalformedError("the bytes aren't a certificate in PEM") from None
