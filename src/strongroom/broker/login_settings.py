"""How people log in: what ``HOME/broker/oidc.toml`` says.

    issuer = "https://login.example"
    client_id = "strongroom"
    claim = "preferred_username"        # which claim of the ID token names the person
    session = 28800                     # seconds that a session lasts
    jwks_file = "keys.json"             # the provider's keys, pinned by hand; without it they are fetched once
    authority_file = "provider-ca.pem"  # whom to believe as the provider's server; without it, the system's authorities

    [people]                            # claim -> person; without it, the claim must be the person's id itself
    "dana@example.org" = "p-17"

A provider that isn't wanted is written ``required = false``, with neither issuer nor client_id: then the person's own
key opens a session alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.fields import Fields, reading
from strongroom.core.ids import PersonId, person_id
from strongroom.personnel.roster import MAX_PEOPLE

OIDC: Final = "oidc.toml"
"""The file of the broker's folder with these settings."""
SESSION: Final = 8 * 3600
LONGEST_SESSION: Final = 12 * 3600
"""Seconds; as long as a working day, so that a stolen session ends with it."""
SCOPES: Final = ("openid", "profile")
MAX_SCOPES: Final = 16
MAX_FILE: Final = 4096
MAX_CLAIM: Final = 256
ALGORITHMS: Final = ("ES256", "ES384", "PS256", "RS256")
"""How ID tokens may be signed: with a public key. With `none` or a shared secret anybody could make them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """An OpenID provider, and which of its people are which of ours. Files are paths, empty when not given."""

    issuer: str
    client_id: str
    claim: str = "preferred_username"
    scopes: tuple[str, ...] = SCOPES
    algorithms: tuple[str, ...] = ALGORITHMS
    people: Mapping[str, PersonId] | None = None
    jwks_file: str = ""
    authority_file: str = ""

    def person(self, value: Json) -> PersonId | None:
        """Return whom a claim's value names, or None."""
        if not isinstance(value, str):
            return None
        if self.people is not None:
            return self.people.get(value)
        try:
            return person_id(value)
        except MalformedError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginSettings:
    """How people log in. ``session`` is in seconds; without a provider the person's own key is enough."""

    provider: Provider | None
    session: int = SESSION


def read_settings(value: Json) -> LoginSettings:
    """Read what ``oidc.toml`` holds.

    :raises MalformedError: another form, or a member that this version doesn't know.
    :raises UsageError: it says both that a provider is required and that it isn't.
    """
    with reading(value, "oidc.toml") as fields:
        required = fields.boolean("required") if fields.optional("required") else True
        session = fields.integer("session", least=60, most=LONGEST_SESSION) if fields.optional("session") else SESSION
        named = fields.optional("issuer")
        if named is not required:
            raise UsageError(
                "`oidc.toml` must name an `issuer`, or say `required = false`",
                remedy="not both: a provider that one may pass by protects nobody",
            )
        return LoginSettings(provider=_provider(fields) if named else None, session=session)


def _provider(fields: Fields) -> Provider:
    provider = Provider(
        issuer=fields.parsed("issuer", _https, max_length=2048),
        client_id=_filled(fields, "client_id"),
        claim=_filled(fields, "claim") if fields.optional("claim") else "preferred_username",
        scopes=fields.texts("scopes", most=MAX_SCOPES) if fields.optional("scopes") else SCOPES,
        algorithms=fields.texts("algorithms", most=8) if fields.optional("algorithms") else ALGORITHMS,
        people=_people(fields.value("people")) if fields.optional("people") else None,
        jwks_file=fields.text("jwks_file", max_length=MAX_FILE) if fields.optional("jwks_file") else "",
        authority_file=fields.text("authority_file", max_length=MAX_FILE) if fields.optional("authority_file") else "",
    )
    if "openid" not in provider.scopes or any(not scope or " " in scope for scope in provider.scopes):
        raise MalformedError("`oidc.toml.scopes` must hold `openid`, and each scope be one word")
    if not provider.algorithms or not set(provider.algorithms) <= set(ALGORITHMS):
        raise MalformedError(f"`oidc.toml.algorithms` may hold {', '.join(ALGORITHMS)}")
    return provider


def _filled(fields: Fields, name: str) -> str:
    text = fields.text(name, max_length=MAX_CLAIM)
    if not text:
        raise MalformedError(f"`{fields.where}.{name}` must not be empty")
    return text


def _https(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username is not None:
        raise MalformedError("an issuer is an address that begins with `https://`, without query or fragment")
    return text


def _people(value: Json) -> dict[str, PersonId]:
    if not isinstance(value, dict) or len(value) > MAX_PEOPLE:
        raise MalformedError(f"`oidc.toml.people` is a table of at most {MAX_PEOPLE} claims")
    people = {}
    for claim, person in value.items():
        if not isinstance(person, str) or not 0 < len(claim) <= MAX_CLAIM:
            raise MalformedError("`oidc.toml.people` maps a claim's text to a person's id")
        people[claim] = person_id(person)
    return people
