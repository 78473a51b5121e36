"""Opening a session: a certificate for hours, for who is known to the identity provider and holds a roster key.

1 challenge    ours, not too old, and never used before
2 statement    about this deployment, this challenge, this certificate request and this ID token
3 signature    by a key of the person in the roster in force
4 standing     the person is active and not suspended
5 identity     the ID token is the provider's, for us, for this challenge, and names the same person
6 certificate  for the key in the request, with this deployment's name of the person and nothing else

Steps 1 to 3 answer a stranger with one and the same refusal: nobody learns here who works for whom.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.broker.login_settings import LoginSettings, Provider
from strongroom.core.canonical import Json
from strongroom.core.clock import Clock, Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, verify
from strongroom.core.errors import DeniedError, MalformedError, StrongroomError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.core.signature import SIGNING_ALGORITHMS, SignatureError
from strongroom.personnel.login import LOGIN_TYPE, Login, nonce_of
from strongroom.personnel.roster import Person

CHALLENGE_SECONDS: Final = 600
"""As long as a person may take at the identity provider."""
MAX_TOKEN: Final = 16384
MAX_CERTIFICATE_REQUEST: Final = 4096
_RANDOM: Final = 16
_MAC: Final = 16
_CHALLENGE: Final = 8 + _RANDOM + _MAC
_log = structlog.get_logger("strongroom.broker")

Members = dict[str, Json]
VerifyToken = Callable[[str, str, Instant], Awaitable[Mapping[str, Json]]]
"""(ID token, nonce, time) -> its claims, or a raise: :mod:`strongroom.broker.adapters.oidc`."""
Certify = Callable[[PersonId, ec.EllipticCurvePublicKey, Instant, timedelta], bytes]
"""(person, key, time, life) -> a certificate (PEM)."""


class LoginError(DeniedError):
    """No session is opened. ``reason`` names why, to who has shown a key of the roster."""

    code = "login-denied"


class NotConfiguredError(DeniedError):
    """This deployment opens no sessions over the network."""

    code = "login-not-configured"


class Challenges:
    """Challenges that need no memory until they are used: time of expiry, randomness, and a MAC over both.

    A flood of callers can't push out anybody's; a restart makes a new MAC key and ends them all.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._used: dict[bytes, Instant] = {}

    def issue(self, now: Instant, random: bytes) -> bytes:
        """Make a challenge; ``random`` has 16 bytes."""
        body = (now + CHALLENGE_SECONDS).to_bytes(8, "big") + random
        return body + self._mac(body)

    def check(self, challenge: bytes, now: Instant) -> None:
        """Check that a challenge is ours, hasn't expired and wasn't used.

        :raises LoginError: otherwise.
        """
        body, mac = challenge[:-_MAC], challenge[-_MAC:]
        ours = len(challenge) == _CHALLENGE and hmac.compare_digest(mac, self._mac(body))
        if not ours or int.from_bytes(body[:8], "big") <= now or challenge in self._used:
            raise _stranger()

    def spend(self, challenge: bytes, now: Instant) -> None:
        """Check a challenge and use it up. Only who got through every other check makes this remember anything.

        :raises LoginError: as :meth:`check`.
        """
        self.check(challenge, now)
        self._used = {old: ends for old, ends in self._used.items() if ends > now}
        self._used[challenge] = int.from_bytes(challenge[:8], "big")

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self._key, b"strongroom login challenge v1" + body, hashlib.sha256).digest()[:_MAC]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What a client hands in."""

    login: Envelope
    certificate_request: bytes
    id_token: str | None

    @classmethod
    def read(cls, fields: Fields) -> Attempt:
        """Read the body.

        :raises MalformedError: another form.
        """
        with fields.child("login") as child:
            login = Envelope.read(child)
        token = fields.text("id_token", max_length=MAX_TOKEN) if fields.optional("id_token") else None
        if token is not None and not token.isascii():
            raise MalformedError(f"`{fields.where}.id_token` must be ASCII")
        return cls(
            login=login,
            certificate_request=fields.binary("certificate_request", max_length=MAX_CERTIFICATE_REQUEST),
            id_token=token,
        )


class LoginDesk:
    """Opens sessions. Bound to one event loop."""

    def __init__(
        self,
        *,
        genesis: Genesis,
        settings: LoginSettings,
        person: Callable[[PersonId], Awaitable[Person | None]],
        suspended: Callable[[PersonId], bool],
        verify_token: VerifyToken | None,
        certify: Certify,
        challenges: Challenges,
        random_bytes: Callable[[int], bytes],
        clock: Clock,
    ) -> None:
        self._genesis = genesis
        self._settings = settings
        self._person = person
        self._suspended = suspended
        self._verify_token = verify_token
        self._certify = certify
        self._challenges = challenges
        self._random_bytes = random_bytes
        self._clock = clock

    def terms(self) -> Members:
        """Return what a client needs to know before a login: the provider, and how long a session lasts."""
        provider = self._settings.provider
        told: Json = None
        if provider is not None:
            told = {"issuer": provider.issuer, "client_id": provider.client_id, "scopes": [*provider.scopes]}
        return {"genesis": str(self._genesis.digest), "session": self._settings.session, "provider": told}

    def challenge(self) -> Members:
        """Return a new challenge. The OpenID ``nonce`` is the same bytes, so that the ID token is for this login."""
        now = self._clock.now()
        challenge = self._challenges.issue(now, self._random_bytes(_RANDOM))
        return {"challenge": to_base64(challenge), "expires": format_instant(now + CHALLENGE_SECONDS)}

    async def admit(self, attempt: Attempt) -> Members:
        """Open a session: steps 1 to 6.

        :raises LoginError: one of them refuses.
        :raises UnavailableError: the keeper doesn't answer: nobody is let in on what was known before.
        """
        now = self._clock.now()
        try:
            login, key = self._read(attempt, now)
            person = await self._signed(attempt.login, login)
            self._check_standing(person)
            await self._check_identity(person, attempt.id_token, login.challenge, now)
        except StrongroomError as error:
            _log.info("login refused", code=error.reason)
            raise
        # Nothing is awaited from here on: two calls with one challenge can't both get through.
        self._challenges.spend(login.challenge, now)
        life = timedelta(seconds=self._settings.session)
        certificate = self._certify(person.id, key, now, life)
        until = format_instant(now + self._settings.session)
        _log.info("session opened", person=person.id, until=until)
        return {"certificate": to_base64(certificate), "until": until}

    def _read(self, attempt: Attempt, now: Instant) -> tuple[Login, ec.EllipticCurvePublicKey]:
        login = Login.parse(attempt.login.payload)
        self._challenges.check(login.challenge, now)
        token = None if attempt.id_token is None else Digest.of(attempt.id_token.encode())
        wanted = (self._genesis.digest, Digest.of(attempt.certificate_request), token)
        if (login.genesis, login.certificate_request, login.id_token) != wanted:
            raise _stranger()
        return login, requested_key(attempt.certificate_request)

    async def _signed(self, envelope: Envelope, login: Login) -> Person:
        person = await self._person(login.person)
        keys = [key for key in person.keys if key.algorithm in SIGNING_ALGORITHMS] if person else []
        try:
            verify(envelope, LOGIN_TYPE, keys, threshold=1)
        except SignatureError:
            raise _stranger() from None
        if person is None:
            raise _stranger()
        return person

    def _check_standing(self, person: Person) -> None:
        if not person.active or self._suspended(person.id):
            raise LoginError(
                f"`{person.id}` is suspended, or has left",
                reason="login-not-in-standing",
                remedy="two vetting officers can reinstate who was suspended",
            )

    async def _check_identity(self, person: Person, token: str | None, challenge: bytes, now: Instant) -> None:
        provider = self._settings.provider
        if provider is None or self._verify_token is None:
            if token is not None:
                raise LoginError("this deployment takes no ID tokens", reason="login-token-unwanted")
            return
        if token is None:
            raise LoginError("an ID token of the identity provider is needed", reason="login-token-missing")
        claims = await self._verify_token(token, nonce_of(challenge), now)
        _same_person(provider, claims, person.id)


def requested_key(request: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key of a certificate request (PKCS#10, DER). Names and extensions in it count for nothing.

    :raises MalformedError: not a request, not signed by its own key, or not a key on P-256.
    """
    try:
        read = x509.load_der_x509_csr(request)
        key = read.public_key()
        # Who asks must hold the key: nobody gets a certificate for another's.
        held = read.is_signature_valid
    except (ValueError, InvalidSignature, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion):
        held, key = False, None
    if held and isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise MalformedError("the certificate request isn't one for a key on P-256, signed by it")


def _same_person(provider: Provider, claims: Mapping[str, Json], person: PersonId) -> None:
    if provider.person(claims.get(provider.claim)) != person:
        raise LoginError(
            f"the identity provider's `{provider.claim}` isn't that of `{person}`",
            reason="login-other-person",
            remedy="log in at the provider as the wallet's owner, or have the claim added to oidc.toml",
        )


def _stranger() -> LoginError:
    return LoginError(
        "the login isn't a fresh one, signed by a key of the roster",
        remedy="try again; see whether the wallet's key is the one in the roster in force",
    )
