"""ID tokens of an OpenID provider, checked by joserfc against keys that are pinned; and how they come to be pinned.

Without ``jwks_file`` the keys are fetched over HTTPS at the first start and kept in ``oidc-pinned.json``. From then on
that file counts: the provider is asked again only for a key that it doesn't hold, at the same address.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import httpx2
import structlog

from strongroom.broker.login import MAX_TOKEN, LoginError
from strongroom.broker.login_settings import Provider
from strongroom.core.adapters.durable import write_durably
from strongroom.core.canonical import Json, encode, parse
from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError, UnavailableError, UsageError
from strongroom.core.extras import need
from strongroom.core.fields import reading
from strongroom.ipc.adapters.outside import believing

PINNED: Final = "oidc-pinned.json"
MAX_DOCUMENT: Final = 1 << 18
MAX_KEYS: Final = 32
LEEWAY: Final = 60
"""Seconds by which two machines' clocks may differ."""
FETCH_SECONDS: Final = 10.0
AGAIN_SECONDS: Final = 60.0
"""How long the provider isn't asked again for keys: tokens with made-up key names must not make us call it."""
MIN_RSA_BITS: Final = 2048
_PUBLIC: Final = frozenset({"RSA", "EC"})
_log = structlog.get_logger("strongroom.broker")


class IdTokens:
    """Checks ID tokens. ``fetch`` gets the provider's keys again, or is None where they were pinned by hand."""

    def __init__(self, provider: Provider, jwks: Json, fetch: Callable[[], Json] | None) -> None:
        self._provider = provider
        self._keys = read_keys(jwks)
        self._fetch = fetch
        self._asked = -AGAIN_SECONDS
        self._asking = asyncio.Lock()

    async def verify(self, token: str, nonce: str, now: Instant) -> Mapping[str, Json]:
        """Return the claims of a token that is the provider's, for us, for this login, and holds now.

        OpenID Connect Core 1.0 section 3.1.3.7. Every claim that is looked at must be there.

        :raises LoginError: any check fails.
        """
        header = _header(token)
        if header.get("alg") not in self._provider.algorithms:
            # Before any key is touched: `none`, and a secret that is really the public key, end here.
            raise _refused("it is signed in a way that isn't allowed")
        key = self._key(header)
        if key is None:
            await self._refresh()
            key = self._key(header)
        if key is None:
            raise _refused("its key isn't one of the provider's")
        return self._claims(token, key, nonce, now)

    def _key(self, header: Mapping[str, Json]) -> Any:
        name = header.get("kid")
        if name is None:
            return self._keys[0][1] if len(self._keys) == 1 else None
        found = [key for kid, key in self._keys if kid == name]
        return found[0] if len(found) == 1 else None

    async def _refresh(self) -> None:
        async with self._asking:
            if self._fetch is None or time.monotonic() - self._asked < AGAIN_SECONDS:
                return
            self._asked = time.monotonic()
            try:
                self._keys = read_keys(await asyncio.to_thread(self._fetch))
            except (UnavailableError, MalformedError, OSError) as error:
                _log.warning("the identity provider's keys can't be had; those that are pinned stand", why=str(error))

    def _claims(self, token: str, key: Any, nonce: str, now: Instant) -> Mapping[str, Json]:
        jws, jwt, errors = (need(f"joserfc.{name}", extra="oidc") for name in ("jws", "jwt", "errors"))
        provider = self._provider
        registry = jwt.JWTClaimsRegistry(
            now=now,
            leeway=LEEWAY,
            iss={"essential": True, "value": provider.issuer},
            aud={"essential": True, "value": provider.client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            algorithms = [*provider.algorithms]
            claims = jwt.decode(
                token, key, algorithms=algorithms, registry=jws.JWSRegistry(algorithms=algorithms)
            ).claims
            registry.validate(claims)
        except errors.ExpiredTokenError:
            raise _refused("it has expired") from None
        except errors.BadSignatureError:
            raise _refused("its signature doesn't verify") from None
        except (errors.MissingClaimError, errors.InvalidClaimError) as error:
            raise _refused(f"its claim `{error.claim}` is missing or wrong") from None
        except (errors.JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise _refused("it can't be read") from None
        _check_for_us(claims, provider.client_id)
        return dict(claims)


def _check_for_us(claims: Mapping[str, Any], client_id: str) -> None:
    # A token that also serves others could have come to us from one of them (section 3.1.3.7, 3 to 5).
    audience = claims["aud"]
    alone = audience in (client_id, [client_id])
    party = claims.get("azp")
    if party != client_id and (party is not None or not alone):
        raise _refused("it was issued to another client")


def _header(token: str) -> dict[str, Json]:
    parts = token.split(".")
    if len(token) > MAX_TOKEN or len(parts) != 3:
        raise _refused("it isn't a signed token")
    util = need("joserfc.util", extra="oidc")
    try:
        header = parse(util.urlsafe_b64decode(parts[0].encode("ascii")), max_bytes=MAX_TOKEN)
    except (MalformedError, ValueError):
        raise _refused("its header can't be read") from None
    if not isinstance(header, dict) or {"crit", "b64"} & header.keys():
        raise _refused("its header asks for what isn't known here")
    return header


def _refused(why: str) -> LoginError:
    return LoginError(f"the ID token is refused: {why}", reason="login-token-refused", remedy="log in again")


def read_keys(jwks: Json) -> tuple[tuple[str | None, Any], ...]:
    """Return the public signing keys of a JWK set (RFC 7517 section 5), each with its ``kid``.

    Keys for something else are passed over; shared secrets too, so that none can ever check a signature.

    :raises MalformedError: no set, or no usable key in it.
    """
    jwk, errors = need("joserfc.jwk", extra="oidc"), need("joserfc.errors", extra="oidc")
    listed = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise MalformedError(f"the identity provider's keys must be a JWK set of at most {MAX_KEYS}")
    keys: list[tuple[str | None, Any]] = []
    for item in listed:
        if not isinstance(item, dict) or item.get("use", "sig") != "sig":
            continue
        if not isinstance(kind := item.get("kty"), str) or kind not in _PUBLIC:
            continue
        name = item.get("kid")
        try:
            key = jwk.JWKRegistry.import_key(item)
            long_enough = kind != "RSA" or key.public_key.key_size >= MIN_RSA_BITS
        except (errors.JoseError, ValueError, TypeError, KeyError):
            continue
        if long_enough and not key.is_private and (name is None or isinstance(name, str)):
            keys.append((name, key))
    if not keys:
        raise MalformedError("the identity provider's JWK set holds no public signing key that is usable")
    return tuple(keys)


def open_id_tokens(provider: Provider, folder: Path) -> IdTokens:
    """Return what checks the provider's tokens, with its keys from a file, from the pin, or fetched now.

    ``folder`` is where relative paths begin and the pin is kept.

    :raises UsageError: a file isn't there, or the pin is another provider's.
    :raises UnavailableError: the keys had to be fetched, and couldn't be.
    :raises MissingExtraError: joserfc isn't installed.
    """
    need("joserfc.jwt", extra="oidc")
    if provider.jwks_file:
        return IdTokens(provider, parse(_file(folder / provider.jwks_file), max_bytes=MAX_DOCUMENT), None)
    pin = folder / PINNED
    context = provider_tls(folder / provider.authority_file if provider.authority_file else None)
    if not pin.exists():
        _pin(pin, provider, _keys_address(provider, context), context)
    with reading(parse(_file(pin), max_bytes=2 * MAX_DOCUMENT), PINNED) as fields:
        fields.constant("v", 1)
        issuer, address, jwks = fields.text("issuer", max_length=2048), fields.text("jwks_uri"), fields.value("jwks")
    if issuer != provider.issuer:
        raise UsageError(f"`{PINNED}` is another provider's", remedy=f"move `{PINNED}` away if the provider changed")
    return IdTokens(provider, jwks, lambda: _pin(pin, provider, address, context))


def provider_tls(authority: Path | None) -> ssl.SSLContext:
    """Return a context that believes one authority, or the system's.

    :raises UsageError: the file can't be read.
    """
    try:
        return believing(file=authority)
    except OSError:
        raise UsageError("the identity provider's `authority_file` can't be read") from None


def _keys_address(provider: Provider, context: ssl.SSLContext) -> str:
    """Ask the provider where its keys are (OpenID Connect Discovery 1.0 section 4)."""
    told = _get(provider.issuer.rstrip("/") + "/.well-known/openid-configuration", context)
    address = told.get("jwks_uri")
    # Section 4.3: else one provider's document could be passed off as another's.
    if told.get("issuer") != provider.issuer or not isinstance(address, str) or len(address) > 256:
        raise MalformedError("the identity provider's configuration names another issuer, or no keys")
    return address


def _pin(pin: Path, provider: Provider, address: str, context: ssl.SSLContext) -> Json:
    jwks = _get(address, context)
    read_keys(jwks)
    body: Json = {"v": 1, "issuer": provider.issuer, "jwks_uri": address, "jwks": jwks}
    write_durably(pin, encode(body))
    _log.info("pinned the identity provider's keys", issuer=provider.issuer)
    return jwks


def _get(url: str, context: ssl.SSLContext) -> dict[str, Json]:
    if not url.startswith("https://"):
        raise MalformedError("the identity provider's addresses must begin with `https://`")
    data = bytearray()
    try:
        # No proxy out of the environment, and no redirect: the address that was pinned is the one that is asked.
        with (
            httpx2.Client(verify=context, trust_env=False, follow_redirects=False, timeout=FETCH_SECONDS) as client,
            client.stream("GET", url, headers={"Accept": "application/json", "Accept-Encoding": "identity"}) as answer,
        ):
            for chunk in answer.iter_raw():
                data += chunk
                if len(data) > MAX_DOCUMENT:
                    raise MalformedError(f"the identity provider's answer is longer than {MAX_DOCUMENT} bytes")
            status = answer.status_code
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise UnavailableError(f"the identity provider doesn't answer ({type(error).__name__})") from None
    told = parse(bytes(data), max_bytes=MAX_DOCUMENT) if status == 200 else None
    if not isinstance(told, dict):
        raise UnavailableError(f"the identity provider answered with status {status} and no JSON object")
    return told


def _file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(2 * MAX_DOCUMENT + 1)
    except OSError:
        raise UsageError(f"`{path.name}`, which `oidc.toml` names, can't be read") from None
