"""The ``transit`` provider: OpenBao's and Vault's transit engine, over HTTPS, with the purpose as associated data.

Four requests of a stable interface, made with the HTTP client that is here anyway. The token comes from a file and is
read for each use, so that an agent may renew it; no environment variable is looked at.
"""

from __future__ import annotations

import json
from typing import Any, Final

import httpx2

from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.ipc.adapters.outside import believing
from strongroom.keys.adapters.secret_file import read_credential
from strongroom.keys.provider import (
    Capability,
    Closed,
    Finality,
    KeyServiceMismatchError,
    KeyServiceRefusedError,
    KeyServiceUnavailableError,
    no_versions,
)
from strongroom.keys.uri import KeyUri
from strongroom.keys.wrapping import KEY_BYTES, WrapPurpose

SECONDS: Final = 5.0
_MAX_ANSWER: Final = 65536
_MAX_DIGITS: Final = 9
_AEAD_TYPES: Final = frozenset({"aes256-gcm96", "chacha20-poly1305"})


class TransitService:
    """One key of one transit mount. ``seconds`` bounds each request."""

    def __init__(self, uri: KeyUri, *, seconds: float = SECONDS) -> None:
        self._key = uri.part("key")
        self._base = f"{uri.part('address')}/v1/{uri.part('mount')}"
        self._token_file = uri.needed("token-file")
        self._namespace = uri.setting("namespace")
        self._trusted = believing(file=uri.setting("ca-file"))
        self._seconds = seconds
        self._sole = uri.sole

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Versions are destroyed only of a key that is this deployment's alone."""
        always = {Capability.ASSOCIATED_DATA, Capability.NON_EXPORTABLE, Capability.DESTRUCTION}
        return frozenset({*always, Capability.VERSION_DESTRUCTION} if self._sole else always)

    def close_key(self, key: SecretBytes, purpose: WrapPurpose) -> Closed:
        """Encrypt under the key's newest version."""
        self._require_fit()
        data = self._ask("POST", f"encrypt/{self._key}", self._body(purpose, plaintext=bytes(key.reveal(TOKEN))))
        text = data.get("ciphertext")
        if not isinstance(text, str) or not text.startswith("vault:v") or text.count(":") != 2 or not text.isascii():
            raise KeyServiceMismatchError("the transit engine answered with something else than a ciphertext")
        return Closed(key=self._key, version=text.split(":")[1], data=text.encode())

    def open_key(self, closed: Closed, purpose: WrapPurpose) -> SecretBytes:
        """Decrypt under the version that the ciphertext names."""
        if closed.key != self._key or not closed.data.startswith(f"vault:{closed.version}:".encode()):
            raise KeyServiceMismatchError("the closed key names another key or version of the transit engine")
        if not closed.data.isascii():
            raise KeyServiceMismatchError("the closed key isn't a transit ciphertext")
        body = {**self._body(purpose), "ciphertext": closed.data.decode("ascii")}
        data = self._ask("POST", f"decrypt/{self._key}", body, opening=True)
        try:
            plain = from_base64(str(data.get("plaintext")))
        except MalformedError:
            plain = b""
        if len(plain) != KEY_BYTES:
            raise KeyServiceMismatchError("the transit engine answered with something else than a key")
        return SecretBytes(bytearray(plain))

    def destroy(self) -> None:
        """Allow the key's deletion and delete it with all its versions."""
        self._ask("POST", f"keys/{self._key}/config", {"deletion_allowed": True})
        self._ask("DELETE", f"keys/{self._key}", None)

    def renew(self) -> None:
        """Rotate the key: its newest version closes."""
        self._require_sole()
        self._ask("POST", f"keys/{self._key}/rotate", None)

    def destroy_before(self, kept: Closed) -> Finality:
        """Trim the key to the versions from the kept one on; the engine keeps no copy of a trimmed version."""
        self._require_sole()
        number = kept.version.removeprefix("v")
        if kept.key != self._key or not number.isdecimal() or len(number) > _MAX_DIGITS:
            raise KeyServiceMismatchError("the closed key names another key or version of the transit engine")
        least = int(number)
        # The engine trims only what may neither close nor open any more.
        bounds = {"min_decryption_version": least, "min_encryption_version": least}
        self._ask("POST", f"keys/{self._key}/config", bounds)
        self._ask("POST", f"keys/{self._key}/trim", {"min_available_version": least})
        available = self._ask("GET", f"keys/{self._key}", None).get("min_available_version")
        if not isinstance(available, int) or available < least:
            raise KeyServiceRefusedError("the transit engine still has versions that it was told to trim")
        return Finality.DONE

    def _require_sole(self) -> None:
        if not self._sole:
            raise no_versions()

    def _require_fit(self) -> None:
        # Asked first: encrypting under a name that isn't there would make a key of that name.
        found = self._ask("GET", f"keys/{self._key}", None)
        if str(found.get("type")) not in _AEAD_TYPES or found.get("exportable") or found.get("allow_plaintext_backup"):
            raise KeyServiceRefusedError(
                "the transit key isn't an authenticated cipher's that never leaves the engine",
                remedy="make one of type `aes256-gcm96`, not exportable, without plaintext backup",
            )

    def _body(self, purpose: WrapPurpose, plaintext: bytes | None = None) -> dict[str, str]:
        body = {"associated_data": to_base64(purpose.associated_data())}
        return body if plaintext is None else {**body, "plaintext": to_base64(plaintext)}

    def _ask(self, method: str, path: str, body: Any, *, opening: bool = False) -> dict[str, Any]:
        with read_credential(self._token_file) as token:
            headers = {
                "X-Vault-Token": bytes(token.reveal(TOKEN)).decode("ascii", "replace"),
                "X-Vault-Request": "true",
            }
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        try:
            with (
                httpx2.Client(verify=self._trusted, trust_env=False, timeout=self._seconds) as client,
                client.stream(method, f"{self._base}/{path}", json=body, headers=headers) as answer,
            ):
                status, text = answer.status_code, _bounded(answer)
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeEncodeError):
            raise KeyServiceUnavailableError("the transit engine can't be reached") from None
        if status == 400 and opening:
            raise KeyServiceMismatchError("the transit engine doesn't open this with its key and this purpose")
        if status in {412, 429} or status >= 470:
            raise KeyServiceUnavailableError(f"the transit engine answered with status {status}")
        if status not in {200, 204}:
            raise KeyServiceRefusedError(
                f"the transit engine refused with status {status}", remedy="look at the token, its policy and the key"
            )
        return read_answer(text) if status == 200 else {}


def _bounded(answer: httpx2.Response) -> bytes:
    text = b""
    for part in answer.iter_bytes():
        text += part
        if len(text) > _MAX_ANSWER:
            raise KeyServiceMismatchError(f"the transit engine answered with more than {_MAX_ANSWER} bytes")
    return text


def read_answer(text: bytes) -> dict[str, Any]:
    """Return the ``data`` of an answer; the rest of it says nothing that is needed.

    :raises KeyServiceMismatchError: it isn't one.
    """
    try:
        data = json.loads(text)["data"]
    except (ValueError, KeyError, TypeError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise KeyServiceMismatchError("the transit engine's answer isn't one")
    return data
