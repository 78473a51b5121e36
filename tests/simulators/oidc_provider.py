"""An OpenID provider on loopback, over HTTPS with an authority of its own, that can be told to be hostile.

It speaks discovery, authorization code with PKCE, device authorization, token and JWKS. Whoever visits its page is the
person that was set: there is no password.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import secrets
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from support.certificates import SERVER, Authority, Shape

CLIENT_ID = "strongroom"


class Mode(StrEnum):
    """What is wrong with the tokens."""

    GOOD = "good"
    ALG_NONE = "alg-none"
    UNSIGNED = "unsigned"
    HS256_CONFUSION = "hs256-confusion"
    ALG_NOT_ALLOWED = "alg-not-allowed"
    BAD_SIGNATURE = "bad-signature"
    UNKNOWN_KEY = "unknown-key"
    STOLEN_KEY_NAME = "stolen-key-name"
    KEY_IN_HEADER = "key-in-header"
    CRITICAL = "critical"
    WRONG_NONCE = "wrong-nonce"
    NO_NONCE = "no-nonce"
    WRONG_AUDIENCE = "wrong-audience"
    SHARED_AUDIENCE = "shared-audience"
    OTHER_PARTY = "other-party"
    NO_AUDIENCE = "no-audience"
    WRONG_ISSUER = "wrong-issuer"
    NO_ISSUER = "no-issuer"
    EXPIRED = "expired"
    NO_EXPIRY = "no-expiry"
    NOT_A_TIME = "not-a-time"
    FUTURE = "future"
    NO_ISSUE_TIME = "no-issue-time"
    NO_SUBJECT = "no-subject"
    OTHER_PERSON = "other-person"
    NOBODY = "nobody"
    NAME_IN_A_LIST = "name-in-a-list"


@dataclass
class OidcProvider:
    """A provider. A context manager; ``folder`` gets its authority's certificate."""

    folder: Path
    person: str = "dana"
    mode: Mode = Mode.GOOD
    secret: str = ""
    names_itself: bool = True
    approved: bool = True
    """Whether the person has approved the device."""
    calls: list[str] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    polls: int = 0
    _server: _Server | None = None
    key: ECKey = field(default_factory=lambda: _ec_key("first"))

    def __enter__(self) -> Self:
        at = int(time.time())
        self.authority = Authority.make("provider", at)
        shape = Shape(names=(x509.IPAddress(ip_address("127.0.0.1")),), at=at - 60, purposes=SERVER)
        certificate, key = self.authority.leaf(shape)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.authority_file = self.folder / "provider-ca.pem"
        self.authority_file.write_bytes(self.authority.pem)
        (self.folder / "server.pem").write_bytes(certificate.public_bytes(Encoding.PEM) + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.pem")
        server = self._server = _Server(("127.0.0.1", 0), _Handler)
        server.provider = self
        server.socket = context.wrap_socket(server.socket, server_side=True)
        self._thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        server, self._server = self._server, None
        assert server is not None
        server.shutdown()
        server.server_close()
        self._thread.join(10)

    @property
    def issuer(self) -> str:
        """Where it is; a made-up address while it doesn't run."""
        return f"https://127.0.0.1:{self._server.server_port}" if self._server else "https://login.example"

    def configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "device_authorization_endpoint": f"{self.issuer}/device",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "none"],
            "authorization_response_iss_parameter_supported": self.names_itself,
        }

    def jwks(self) -> dict[str, Any]:
        return {"keys": [{**self.key.as_dict(private=False), "use": "sig"}]}

    def visit(self, address: str) -> int:
        """Be the person's browser: open an address, follow where it leads, and return the last status."""
        context = ssl.create_default_context(cafile=str(self.authority_file))
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
        with opener.open(address, timeout=60) as answer:
            answer.read()
            return int(answer.status)

    def mint(self, nonce: str, *, mode: Mode | None = None) -> str:
        """Return an ID token."""
        chosen, now = mode or self.mode, int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": f"subject-of-{self.person}",
            "aud": CLIENT_ID,
            "exp": now + 300,
            "iat": now,
            "nonce": nonce,
            "preferred_username": self.person,
        }
        claims |= _CLAIMS.get(chosen, lambda _now: {})(now)
        for name in [name for name, value in claims.items() if value is None]:
            del claims[name]
        return self._signed(claims, chosen)

    def _signed(self, claims: dict[str, Any], mode: Mode) -> str:
        header: dict[str, Any] = {"alg": "ES256", "kid": self.key.kid}
        other = _ec_key("other")
        forged: dict[Mode, Callable[[], str]] = {
            Mode.ALG_NONE: lambda: f"{_part({**header, 'alg': 'none'})}.{_part(claims)}.",
            Mode.UNSIGNED: lambda: f"{_part(header)}.{_part(claims)}.",
            Mode.HS256_CONFUSION: lambda: self._confused(header, claims),
            Mode.ALG_NOT_ALLOWED: lambda: jwt.encode(
                {**header, "alg": "RS512"}, claims, RSAKey.generate_key(2048), algorithms=["RS512"]
            ),
            Mode.BAD_SIGNATURE: lambda: _flipped(jwt.encode(header, claims, self.key)),
            Mode.UNKNOWN_KEY: lambda: jwt.encode({**header, "kid": "other"}, claims, other),
            Mode.STOLEN_KEY_NAME: lambda: self._raw(header, claims, other),
            Mode.KEY_IN_HEADER: lambda: self._raw({**header, "jwk": other.as_dict(private=False)}, claims, other),
            # An extension that must be understood, and isn't.
            Mode.CRITICAL: lambda: self._raw({**header, "crit": ["x"], "x": 1}, claims, self.key),
        }
        return forged[mode]() if mode in forged else jwt.encode(header, claims, self.key)

    def _confused(self, header: dict[str, Any], claims: dict[str, Any]) -> str:
        # Who checks with the algorithm that the token names would take the public key as a shared secret.
        shared = OctKey.import_key(base64.urlsafe_b64encode(self.key.as_pem(private=False)).decode())
        return jwt.encode({**header, "alg": "HS256"}, claims, shared, algorithms=["HS256"])

    def _raw(self, header: dict[str, Any], claims: dict[str, Any], key: ECKey) -> str:
        signing = f"{_part(header)}.{_part(claims)}"
        signature = jws.JWSRegistry.algorithms["ES256"].sign(signing.encode(), key)
        return f"{signing}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


_CLAIMS: dict[Mode, Any] = {
    Mode.WRONG_NONCE: lambda _now: {"nonce": "another"},
    Mode.NO_NONCE: lambda _now: {"nonce": None},
    Mode.WRONG_AUDIENCE: lambda _now: {"aud": "somebody-else"},
    Mode.SHARED_AUDIENCE: lambda _now: {"aud": [CLIENT_ID, "somebody-else"]},
    Mode.OTHER_PARTY: lambda _now: {"azp": "somebody-else"},
    Mode.NO_AUDIENCE: lambda _now: {"aud": None},
    Mode.WRONG_ISSUER: lambda _now: {"iss": "https://elsewhere.example"},
    Mode.NO_ISSUER: lambda _now: {"iss": None},
    Mode.EXPIRED: lambda now: {"exp": now - 120, "iat": now - 400},
    Mode.NO_EXPIRY: lambda _now: {"exp": None},
    Mode.NOT_A_TIME: lambda _now: {"exp": True},
    Mode.FUTURE: lambda now: {"iat": now + 3600, "exp": now + 7200},
    Mode.NO_ISSUE_TIME: lambda _now: {"iat": None},
    Mode.NO_SUBJECT: lambda _now: {"sub": None},
    Mode.OTHER_PERSON: lambda _now: {"preferred_username": "sam"},
    Mode.NOBODY: lambda _now: {"preferred_username": None},
    Mode.NAME_IN_A_LIST: lambda _now: {"preferred_username": ["dana"]},
}


def _ec_key(name: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": name})


def _flipped(token: str) -> str:
    body, _, signature = token.rpartition(".")
    return f"{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"


def _part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    provider: OidcProvider

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        pass

    def do_GET(self) -> None:
        provider, parts = self.server.provider, urlsplit(self.path)
        provider.calls.append(parts.path)
        if parts.path == "/.well-known/openid-configuration":
            self._json(provider.configuration())
        elif parts.path == "/jwks":
            self._json(provider.jwks())
        elif parts.path == "/authorize":
            self._authorize({name: values[0] for name, values in parse_qs(parts.query).items()})
        else:
            self._json({"error": "not_found"}, 404)

    def do_POST(self) -> None:
        provider, path = self.server.provider, urlsplit(self.path).path
        provider.calls.append(path)
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        asked = {name: values[0] for name, values in parse_qs(body).items()}
        if asked.get("client_id") != CLIENT_ID or asked.get("client_secret", "") != provider.secret:
            self._json({"error": "invalid_client"}, 401)
        elif path == "/device":
            self._device(asked)
        elif path == "/token" and asked.get("grant_type") == "authorization_code":
            self._redeem(asked)
        elif path == "/token":
            self._poll(asked)
        else:
            self._json({"error": "not_found"}, 404)

    def _authorize(self, asked: dict[str, str]) -> None:
        provider = self.server.provider
        back = {"state": asked["state"]}
        if provider.names_itself:
            back["iss"] = provider.issuer
        wanted = (asked["response_type"], asked["client_id"], asked["code_challenge_method"])
        if wanted != ("code", CLIENT_ID, "S256") or "openid" not in asked["scope"].split() or not provider.approved:
            back["error"] = "access_denied"
        else:
            back["code"] = secrets.token_urlsafe(16)
            provider.codes[back["code"]] = asked
        self.send_response(302)
        self.send_header("Location", f"{asked['redirect_uri']}?{urlencode(back)}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _redeem(self, asked: dict[str, str]) -> None:
        given = self.server.provider.codes.pop(asked["code"], None)
        hashed = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()
        if given is None or (given["code_challenge"], given["redirect_uri"]) != (challenge, asked["redirect_uri"]):
            self._json({"error": "invalid_grant"}, 400)
        else:
            self._tokens(given["nonce"])

    def _device(self, asked: dict[str, str]) -> None:
        provider = self.server.provider
        code = secrets.token_urlsafe(16)
        provider.devices[code] = asked["nonce"]
        self._json(
            {
                "device_code": code,
                "user_code": "WDJB-MJHT",
                "verification_uri": f"{provider.issuer}/activate",
                "expires_in": 60,
                "interval": 1,
            }
        )

    def _poll(self, asked: dict[str, str]) -> None:
        provider = self.server.provider
        provider.polls += 1
        if provider.polls == 1:
            self._json({"error": "authorization_pending"}, 400)
        elif not provider.approved:
            self._json({"error": "access_denied"}, 400)
        else:
            self._tokens(provider.devices.pop(asked["device_code"]))

    def _tokens(self, nonce: str) -> None:
        self._json({"access_token": "unused", "token_type": "Bearer", "id_token": self.server.provider.mint(nonce)})

    def _json(self, value: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
