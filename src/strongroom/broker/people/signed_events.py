"""Security event tokens (RFC 8417) as they arrive: signed JWTs. The signature is verified by ``joserfc``.

Importing this needs the extra ``oidc``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from strongroom.broker.people.errors import EventSettingsError
from strongroom.broker.people.event_errors import (
    EventAudienceError,
    EventIssuerError,
    EventKeyError,
    EventMalformedError,
    EventStaleError,
)
from strongroom.broker.people.transmitters import EventSettings, Transmitter
from strongroom.core.canonical import Json, parse
from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError

MAX_TOKEN: Final = 64 * 1024
MAX_KEYS: Final = 32
SKEW: Final = 300
"""Seconds that a sender's clock may be ahead of ours."""
_TYPES: Final = ("secevent+jwt", "application/secevent+jwt")
_HEADER: Final = frozenset({"alg", "kid", "typ", "cty", "x5t", "x5t#S256"})
"""Everything else that a header may hold asks the reader to fetch or believe a key, or to read the token otherwise."""
_PRIVATE: Final = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
_FITS: Final = {
    "ES256": ("EC", "P-256"),
    "RS256": ("RSA", None),
    "PS256": ("RSA", None),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}
_SAME: Final = frozenset({"EdDSA", "Ed25519"})
"""Two names of one algorithm here, where no other curve of EdDSA is taken (RFC 9864)."""

PublicJwk = ECKey | RSAKey | OKPKey


@dataclass(frozen=True, slots=True, kw_only=True)
class EventToken:
    """A verified token."""

    transmitter: Transmitter
    jti: str
    issued: Instant
    claims: Mapping[str, Json]


class _OneAlgorithm(jws.JWSRegistry):
    """Allows what it was given, without the library's warning that `EdDSA` may mean several curves: here it's one."""

    def get_alg(self, name: str) -> Any:
        """Return the algorithm.

        :raises UnsupportedAlgorithmError: it is another one.
        """
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError("another algorithm than the one that was checked")
        return self.algorithms[name]


class EventVerifier:
    """Verifies tokens against the settings and the pinned keys of each sender (key id -> key)."""

    def __init__(self, settings: EventSettings, keys: Mapping[str, Mapping[str, PublicJwk]]) -> None:
        self._settings = settings
        self._keys = keys

    def verify(self, token: bytes, now: Instant) -> EventToken:
        """Verify a token, in this order: form, issuer, key, signature, audience, time.

        :raises EventMalformedError: it isn't a security event token in the JWS compact form.
        :raises EventIssuerError: the settings don't name its issuer.
        :raises EventKeyError: no pinned key of that issuer made the signature, with an algorithm that is allowed.
        :raises EventAudienceError: it is meant for somebody else.
        :raises EventStaleError: it was issued too long ago, or in the future.
        """
        header, claims = _parts(token)
        # Read before it is verified, to choose the keys that it must have been signed with; nothing else is.
        sender = self._settings.transmitters.get(_text(claims, "iss"))
        if sender is None:
            raise EventIssuerError("the issuer isn't one that is known here")
        key = self._keys.get(sender.issuer, {}).get(_text(header, "kid"))
        algorithm = header.get("alg")
        if key is None or algorithm not in sender.algorithms or not _fits(key, str(algorithm)):
            raise EventKeyError("the token isn't signed by a key that is pinned for its issuer")
        try:
            signed = jws.deserialize_compact(token, key, registry=_OneAlgorithm(algorithms=[str(algorithm)]))
        except (JoseError, ValueError):
            raise EventKeyError("the token's signature doesn't verify") from None
        return self._judged(sender, _object(signed.payload), now)

    def _judged(self, sender: Transmitter, claims: Mapping[str, Json], now: Instant) -> EventToken:
        audience = claims.get("aud")
        if self._settings.audience not in (audience if isinstance(audience, list) else [audience]):
            raise EventAudienceError("the token is meant for somebody else")
        issued, jti = claims.get("iat"), _text(claims, "jti")
        if not isinstance(issued, int) or isinstance(issued, bool):
            raise EventMalformedError("`iat` must be an integer")
        if not now - sender.max_age <= issued <= now + SKEW:
            raise EventStaleError("the token was issued too long ago, or in the future")
        expires = claims.get("exp", now + 1)
        if not isinstance(expires, int) or expires <= now:
            raise EventStaleError("the token has expired")
        return EventToken(transmitter=sender, jti=jti, issued=issued, claims=claims)


def read_keys(data: bytes, *, where: str) -> Mapping[str, PublicJwk]:
    """Read a pinned JWK set (RFC 7517): public signature keys with a key id each; P-256, RSA of 2048 bits, Ed25519.

    :raises EventSettingsError: any other content; ``where`` names the file.
    """
    wrong = EventSettingsError(
        f"`{where}` must be a JWK set of public keys with distinct key ids: P-256, RSA (2048 bits or more), Ed25519"
    )
    try:
        value = json.loads(data)
        listed = value["keys"]
        if not isinstance(listed, list) or not 0 < len(listed) <= MAX_KEYS:
            raise wrong
        # A file with private keys in it is a mistake that should be seen.
        if any(name in key for key in listed for name in _PRIVATE):
            raise wrong
        with warnings.catch_warnings():
            # What the library only warns of, such as a short key, is refused here.
            warnings.simplefilter("error", SecurityWarning)
            keys = {key["kid"]: KeySet.import_key_set({"keys": [key]}).keys[0] for key in listed}
    except (SecurityWarning, JoseError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise wrong from None
    found: dict[str, PublicJwk] = {}
    for name, key in keys.items():
        if not isinstance(name, str) or not any(_fits(key, algorithm) for algorithm in _FITS):
            raise wrong
        if isinstance(key, ECKey | RSAKey | OKPKey):
            found[name] = key
    if len(found) != len(listed):
        raise wrong
    return found


def _fits(key: Any, algorithm: str) -> bool:
    kind, curve = _FITS[algorithm]
    public = key.as_dict(private=False)
    if public.get("kty") != kind or (curve is not None and public.get("crv") != curve):
        return False
    told = public.get("alg")
    if public.get("use") not in (None, "sig") or not (told in (None, algorithm) or {told, algorithm} == _SAME):
        return False
    return not isinstance(key, RSAKey) or key.raw_value.key_size >= 2048


def _parts(token: bytes) -> tuple[Mapping[str, Json], Mapping[str, Json]]:
    if len(token) > MAX_TOKEN:
        raise EventMalformedError(f"a token may have at most {MAX_TOKEN} bytes")
    try:
        read = jws.extract_compact(token)
    except (JoseError, ValueError):
        raise EventMalformedError("the body isn't a JWT in the compact form") from None
    header, claims = read.headers(), _object(read.payload)
    if not set(header) <= _HEADER or str(header.get("typ", "")).lower() not in _TYPES:
        raise EventMalformedError("the token's header must name the type `secevent+jwt`, and nothing unknown")
    return header, claims


def _object(payload: bytes) -> Mapping[str, Json]:
    try:
        claims = parse(payload, max_bytes=MAX_TOKEN)
    except MalformedError as error:
        raise EventMalformedError(f"the claims can't be read: {error.message}") from None
    if not isinstance(claims, dict):
        raise EventMalformedError("the claims must be a JSON object")
    return claims


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 256:
        raise EventMalformedError(f"`{name}` must be a string of 1 to 256 characters")
    return value
