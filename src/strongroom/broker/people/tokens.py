"""Bearer tokens of identity providers: random, shown once, kept as digests."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

from strongroom.broker.people.errors import TokenRefusedError
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import NotFoundError, UsageError
from strongroom.core.fields import Fields

SECRET_BYTES: Final = 32
MAX_TOKENS: Final = 16
MAX_BEARER: Final = 128
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_PREFIX: Final = "strongroom-scim-"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScimToken:
    """What is kept of a token. It is 256 random bits, so that a plain digest gives nothing to guess at."""

    name: str
    digest: Digest
    created: Instant
    expires: Instant | None

    @classmethod
    def read(cls, fields: Fields) -> ScimToken:
        """Read one token's entry.

        :raises MalformedError: a wrong form.
        """
        return cls(
            name=fields.text("name", max_length=32),
            digest=fields.digest("digest"),
            created=fields.instant("created"),
            expires=fields.instant("expires") if fields.optional("expires") else None,
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "name": self.name,
            "digest": str(self.digest),
            "created": format_instant(self.created),
            "expires": None if self.expires is None else format_instant(self.expires),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ScimTokens:
    """All tokens of a deployment."""

    tokens: tuple[ScimToken, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> ScimTokens:
        """Read the file's bytes.

        :raises MalformedError: a wrong form.
        """
        with Fields(decode(data), "scim-tokens") as fields:
            fields.constant("v", 1)
            return cls(tokens=fields.objects("tokens", ScimToken.read, most=MAX_TOKENS))

    def to_bytes(self) -> bytes:
        """Return the file's bytes."""
        return encode({"v": 1, "tokens": [token.to_json() for token in self.tokens]})

    def verify(self, authorization: bytes | None, at: Instant) -> str:
        """Check an ``Authorization`` header (RFC 6750 section 2.1); returns the token's name.

        :raises TokenRefusedError: there is none, or it isn't one of these, or its time has passed.
        """
        scheme, _, bearer = (authorization or b"").partition(b" ")
        found: str | None = None
        if scheme.lower() == b"bearer" and len(bearer) <= MAX_BEARER:
            digest = hashlib.sha256(bearer).digest()
            # Each is compared, in constant time: how long it takes tells nothing about any.
            for token in self.tokens:
                if hmac.compare_digest(digest, token.digest.value) and (token.expires is None or at < token.expires):
                    found = token.name
        if found is None:
            raise TokenRefusedError("a valid bearer token is needed", remedy="strongroom people scim-token")
        return found

    def adding(self, name: str, secret: bytes, *, at: Instant, expires: Instant | None) -> tuple[ScimTokens, str]:
        """Return these and one more, and the new token's text: it is shown now and never again.

        ``secret`` is 32 random bytes. Entries whose time has passed are left out.

        :raises UsageError: the name has another form or is taken, or there are too many.
        """
        if not _NAME.fullmatch(name):
            raise UsageError("a token's name is 1 to 32 characters of a-z, 0-9 and `-`")
        kept = tuple(token for token in self.tokens if token.expires is None or at < token.expires)
        if any(token.name == name for token in kept):
            raise UsageError(f"there is a token `{name}` already", remedy="take it away first: --remove")
        if len(kept) >= MAX_TOKENS:
            raise UsageError(f"there are {MAX_TOKENS} tokens already")
        text = _PREFIX + base64.urlsafe_b64encode(secret).rstrip(b"=").decode("ascii")
        made = ScimToken(name=name, digest=Digest.of(text.encode("ascii")), created=at, expires=expires)
        return ScimTokens(tokens=(*kept, made)), text

    def without(self, name: str) -> ScimTokens:
        """Return these without one.

        :raises NotFoundError: there is none of this name.
        """
        kept = tuple(token for token in self.tokens if token.name != name)
        if len(kept) == len(self.tokens):
            raise NotFoundError(f"there is no token `{name[:32]}`")
        return ScimTokens(tokens=kept)
