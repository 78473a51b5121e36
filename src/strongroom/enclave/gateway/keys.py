"""API keys: which principal a request counts for. Only digests of keys are kept."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from strongroom.core import canonical
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.enclave.gateway.errors import UnknownKeyError

PREFIX: Final = "sk-strongroom-"
MAX_FILE: Final = 4 << 20
_MAX_KEYS: Final = 16384
_PRINCIPAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]{0,63}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def digest_of(key: str) -> str:
    """Return how a key is kept. Keys are drawn at random, 256 bits, so that one fast hash is enough."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def principal_name(text: str) -> str:
    """Check and return a principal's name.

    :raises MalformedError: it isn't one.
    """
    if not _PRINCIPAL.fullmatch(text):
        raise MalformedError("a principal is 1 to 64 characters of letters, digits, `@`, `.`, `_` and `-`")
    return text


class ApiKeys:
    """The keys of one gateway: digests, and whom each counts for."""

    def __init__(self, principals: Mapping[str, str]) -> None:
        self._principals = dict(principals)

    @classmethod
    def parse(cls, data: bytes) -> ApiKeys:
        """Read ``{"v":1,"keys":[{"sha256":...,"principal":...}]}``.

        :raises MalformedError: another form, no key, or one twice.
        """
        with Fields(canonical.parse(data, max_bytes=MAX_FILE), "api-keys") as fields:
            fields.constant("v", 1)
            pairs = fields.objects("keys", _pair, most=_MAX_KEYS)
        if not pairs or len(dict(pairs)) != len(pairs):
            raise MalformedError("a file of API keys has at least one key, and each once")
        return cls(dict(pairs))

    def principal(self, authorization: str) -> str:
        """Return whom an ``Authorization`` header counts for.

        :raises UnknownKeyError: none, or another scheme, or no such key.
        """
        scheme, _, key = authorization.partition(" ")
        # What is looked up is a digest: how long it takes says nothing of any key.
        found = self._principals.get(digest_of(key.strip())) if scheme.lower() == "bearer" and key else None
        if found is None:
            raise UnknownKeyError(
                "the request has no API key that is known here", remedy="send `Authorization: Bearer`"
            )
        return found


def entry(key: str, principal: str) -> Json:
    """Return a key's entry for the file."""
    return {"sha256": digest_of(key), "principal": principal_name(principal)}


def _pair(fields: Fields) -> tuple[str, str]:
    digest = fields.text("sha256", max_length=64)
    if not _DIGEST.fullmatch(digest):
        raise MalformedError("a key's `sha256` is 64 hex characters, lower case")
    return digest, fields.parsed("principal", principal_name)
