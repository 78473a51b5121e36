"""Who may send security events: ``<home>/broker/ssf.toml``. Keys are pinned here; none is ever fetched."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from strongroom.broker.people.errors import EventSettingsError
from strongroom.broker.people.events import EventKind
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

MAX_SETTINGS: Final = 64 * 1024
MAX_TRANSMITTERS: Final = 16
HOUR: Final = 3600
ALGORITHMS: Final = ("ES256", "PS256", "RS256", "EdDSA", "Ed25519")
"""Signatures only: an algorithm with a shared secret would let a public key pass for one."""
_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transmitter:
    """One sender: its issuer, the file with its public keys (a JWK set), and what it may say."""

    issuer: str
    jwks: str
    """A file's name in the broker's folder."""
    algorithms: tuple[str, ...] = ALGORITHMS
    events: frozenset[EventKind] = frozenset(EventKind)
    max_age: int = HOUR
    """Seconds; a token whose ``iat`` is older is refused."""
    subject_issuers: tuple[str, ...] = ()
    """Further issuers whose subjects (``iss_sub``) it may name; its own always."""

    @classmethod
    def read(cls, fields: Fields) -> Transmitter:
        """Read one table.

        :raises MalformedError: a member is missing, extra or out of bounds.
        """
        more: dict[str, Any] = {}
        if fields.optional("algorithms"):
            more["algorithms"] = fields.texts("algorithms", most=len(ALGORITHMS))
            if not more["algorithms"] or not set(more["algorithms"]) <= set(ALGORITHMS):
                raise MalformedError(f"`{fields.where}.algorithms` may hold {', '.join(ALGORITHMS)}")
        if fields.optional("events"):
            more["events"] = frozenset(map(_kind, fields.texts("events", most=len(EventKind))))
        if fields.optional("max_age"):
            more["max_age"] = fields.integer("max_age", least=60, most=7 * 24 * HOUR)
        if fields.optional("subject_issuers"):
            more["subject_issuers"] = fields.texts("subject_issuers", most=8)
        return cls(issuer=fields.text("issuer"), jwks=fields.parsed("jwks", _file_name), **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """The audience that tokens must name, and the senders."""

    audience: str
    transmitters: Mapping[str, Transmitter]
    """By issuer."""

    @classmethod
    def parse(cls, data: bytes) -> EventSettings:
        """Read the settings' text.

        :raises EventSettingsError: it isn't TOML, or a member is missing, extra or out of bounds.
        """
        try:
            if len(data) > MAX_SETTINGS:
                raise MalformedError(f"at most {MAX_SETTINGS} bytes are read")
            with Fields(tomllib.loads(data.decode("utf-8")), "ssf") as fields:
                audience = fields.text("audience")
                senders = fields.objects("transmitter", Transmitter.read, most=MAX_TRANSMITTERS)
        except MalformedError as error:
            raise EventSettingsError(f"`ssf.toml`: {error.message}") from None
        except (ValueError, RecursionError):
            raise EventSettingsError("`ssf.toml` isn't TOML text") from None
        by_issuer = {sender.issuer: sender for sender in senders}
        if not audience or not senders or len(by_issuer) != len(senders):
            raise EventSettingsError("`ssf.toml` needs an audience, and transmitters with an issuer each")
        return cls(audience=audience, transmitters=by_issuer)


def _kind(text: str) -> EventKind:
    try:
        return EventKind(text)
    except ValueError:
        raise MalformedError(f"`events` may hold {', '.join(EventKind)}") from None


def _file_name(text: str) -> str:
    if not _FILE.fullmatch(text):
        raise MalformedError("it must be the name of a file in the broker's folder")
    return text
