"""A transit engine as OpenBao and Vault have it: the requests that a provider sends, answered by real AES-256-GCM.

It speaks the interface's paths, statuses and JSON forms, refuses like the original (one status for one cause, no word
of which part of a ciphertext is wrong), and makes a key of a name that isn't there when somebody encrypts under it.
"""

from __future__ import annotations

import json
import os
import threading
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_BOUNDS = ("min_available_version", "min_decryption_version", "min_encryption_version")


@dataclass
class TransitKey:
    """One key: its versions, newest last, and what its settings say."""

    versions: list[bytes] = field(default_factory=lambda: [AESGCM.generate_key(256)])
    exportable: bool = False
    type: object = "aes256-gcm96"
    deletion_allowed: bool = False
    least: dict[str, int] = field(default_factory=dict)
    """Bounds on versions by name; 0 where nothing was set."""


class TransitEngine:
    """The engine behind an HTTP server on this machine. ``status`` answers everything with that status instead."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.keys: dict[str, TransitKey] = {}
        self.status: int | None = None
        self.asked: list[str] = []
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}") or {}
                engine.asked.append(self.path)
                status, data = engine.answer(self.command, self.path, self.headers.get("X-Vault-Token"), body)
                text = b"" if status == 204 else json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_DELETE = do_LIST = _serve  # noqa: N815 - the server's own names

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, method: str, path: str, token: str | None, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answer one request."""
        if self.status is not None:
            return self.status, {"errors": [f"made to fail with {body}"]}
        if token != self.token:
            return 403, {"errors": ["permission denied"]}
        kind, name, *more = path.removeprefix("/v1/transit/").split("/")
        if kind == "encrypt":
            return self._encrypt(self.keys.setdefault(name, TransitKey()), body)
        if kind == "decrypt":
            return self._decrypt(self.keys[name], body) if name in self.keys else _missing(400)
        return self._manage(method, name, "".join(more), body)

    def _manage(self, method: str, name: str, what: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if method in {"POST", "PUT"} and not what:
            self.keys.setdefault(name, TransitKey(exportable=bool(body.get("exportable"))))
            return 204, {}
        found = self.keys.get(name)
        if found is None:
            return _missing(404)
        if method == "GET":
            told = {"type": found.type, "exportable": found.exportable, "allow_plaintext_backup": False}
            bounds = {one: found.least.get(one, 0) for one in _BOUNDS}
            return 200, _data({**told, **bounds, "name": name, "latest_version": len(found.versions)})
        if method == "DELETE" and not found.deletion_allowed:
            return 400, {"errors": ["deletion is not allowed for this key"]}
        if method == "DELETE":
            del self.keys[name]
        elif what == "rotate":
            found.versions.append(AESGCM.generate_key(256))
        elif what == "config":
            found.deletion_allowed = bool(body.get("deletion_allowed", found.deletion_allowed))
            found.least.update({one: int(body[one]) for one in _BOUNDS[1:] if one in body})
        elif what == "trim":
            return self._trim(found, int(body["min_available_version"]))
        return 204, {}

    def _trim(self, key: TransitKey, least: int) -> tuple[int, dict[str, Any]]:
        # The engine's own order of refusals: nothing is trimmed that could still open or close.
        if least < key.least.get("min_available_version", 0):
            return 400, {"errors": ["minimum available version cannot be decremented"]}
        if any(not least <= key.least.get(one, 0) <= len(key.versions) for one in _BOUNDS[1:]):
            return 400, {"errors": ["minimum available version is beyond what may be used"]}
        key.least["min_available_version"] = least
        for number in range(1, least):
            key.versions[number - 1] = b""
        return 204, {}

    def _encrypt(self, key: TransitKey, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        nonce, context = os.urandom(12), b64decode(body.get("associated_data", ""))
        sealed = nonce + AESGCM(key.versions[-1]).encrypt(nonce, b64decode(body["plaintext"]), context)
        number = len(key.versions)
        return 200, _data({"ciphertext": f"vault:v{number}:{b64encode(sealed).decode()}", "key_version": number})

    def _decrypt(self, key: TransitKey, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            _, version, text = body["ciphertext"].split(":")
            sealed = b64decode(text, validate=True)
            number = int(version.removeprefix("v"))
            if number < key.least.get("min_decryption_version", 0):
                return 400, {"errors": ["ciphertext or signature version is disallowed by policy (too old)"]}
            cipher = AESGCM(key.versions[number - 1])
            plain = cipher.decrypt(sealed[:12], sealed[12:], b64decode(body.get("associated_data", "")))
        except (InvalidTag, ValueError, IndexError):
            return 400, {"errors": ["cipher: message authentication failed"]}
        return 200, _data({"plaintext": b64encode(plain).decode()})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _missing(status: int) -> tuple[int, dict[str, Any]]:
    return status, {"errors": ["encryption key not found"]}


def _data(data: dict[str, Any]) -> dict[str, Any]:
    return {"request_id": "1", "lease_id": "", "renewable": False, "lease_duration": 0, "data": data, "warnings": None}
