"""A key vault's answers, given to the service's own client library in place of its network transport.

Written from the published REST interface: real RSA-OAEP-256, one status for one cause. It shows nothing about the real
service's servers.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from io import BytesIO
from typing import Any, Self

import requests
from azure.core.credentials import AccessToken
from azure.core.exceptions import ServiceRequestError
from azure.core.pipeline.transport import HttpTransport
from azure.core.rest._requests_basic import RestRequestsTransportResponse
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

VAULT = "https://vault.example"
_OAEP = padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None)


class Credential:
    """A credential without an authority behind it."""

    def get_token(self, *_scopes: str, **_more: Any) -> AccessToken:
        """Return a token that the vault below takes."""
        return AccessToken("token", 4_000_000_000)


class AzureVault(HttpTransport):  # type: ignore[type-arg]  # its parameters are the library's own
    """The vault as a transport. ``status`` answers everything with that status; ``gone``: nobody answers."""

    def __init__(self) -> None:
        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.status: int | None = None
        self.gone = False
        self.asked: list[str] = []

    def make(self, name: str, version: str) -> str:
        """Make a key; returns its identifier."""
        path = f"/keys/{name}/{version}"
        self.keys[path] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return VAULT + path

    def send(self, request: Any, **_settings: Any) -> Any:
        """Answer one request."""
        if self.gone:
            raise ServiceRequestError("made to fail")
        path = request.url.removeprefix(VAULT).partition("?")[0]
        self.asked.append(path)
        status, data = self._answer(request, path)
        answer = requests.Response()
        answer.status_code = status
        answer.headers["Content-Type"] = "application/json"
        answer.raw = BytesIO(json.dumps(data).encode())
        if status == 401:
            answer.headers["WWW-Authenticate"] = (
                'Bearer authorization="https://login.example/tenant", resource="https://example"'
            )
        told: Any = RestRequestsTransportResponse(  # type: ignore[no-untyped-call]
            request=request, internal_response=answer
        )
        told.read()
        return told

    def _answer(self, request: Any, path: str) -> tuple[int, dict[str, Any]]:
        if self.status is not None or "Authorization" not in request.headers:
            failed = {"error": {"code": "Failed", "message": "made to fail"}}
            return (401, {}) if "Authorization" not in request.headers else (self.status or 500, failed)
        if request.method == "DELETE":
            for version in [known for known in self.keys if known.startswith(path + "/")]:
                del self.keys[version]
            return 200, {"key": {"kid": VAULT + path, "kty": "RSA"}, "attributes": {}, "recoveryId": VAULT + path}
        base, _, action = path.rpartition("/")
        name = path if request.method == "GET" else base
        if name not in self.keys:
            return 404, {"error": {"code": "KeyNotFound", "message": "made to fail"}}
        if request.method == "GET":
            return 200, _public(VAULT + path, self.keys[name])
        return _used(
            VAULT + base, self.keys[name], action, _bytes(json.loads(request.content or request.data)["value"])
        )

    def open(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _public(kid: str, key: rsa.RSAPrivateKey) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    told = {"kid": kid, "kty": "RSA", "key_ops": ["wrapKey", "unwrapKey"]}
    size = {"n": _text(numbers.n.to_bytes(256, "big")), "e": _text(numbers.e.to_bytes(3, "big"))}
    return {"key": {**told, **size}, "attributes": {"enabled": True}}


def _used(kid: str, key: rsa.RSAPrivateKey, action: str, value: bytes) -> tuple[int, dict[str, Any]]:
    try:
        made = key.public_key().encrypt(value, _OAEP) if action == "wrapkey" else key.decrypt(value, _OAEP)
    except ValueError:
        return 400, {"error": {"code": "BadParameter", "message": "made to fail"}}
    return 200, {"kid": kid, "value": _text(made)}


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
