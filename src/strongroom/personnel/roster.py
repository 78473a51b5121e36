"""The roster: the people, their keys, their roles, and until when their vetting holds. Signed by the root quorum."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError, NotFoundError
from strongroom.core.fields import Fields
from strongroom.core.ids import KeyId, PersonId, person_id
from strongroom.core.signature import MAX_KEY_TEXT, PublicKey

ROSTER_TYPE: Final = payload_type("roster.v1")
MAX_PEOPLE: Final = 2000
MAX_KEYS: Final = 4
MAX_ROLES: Final = 16
MAX_TIER: Final = 5
_ROLE: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,46}[a-z0-9])?")


class UnknownPersonError(NotFoundError):
    """Nobody in the roster has this id or key."""

    code = "unknown-person"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vetting:
    """The outcome of vetting, never its findings: a tier from 0 to 5, and when it lapses by itself."""

    tier: int
    valid_until: Instant

    def current(self, at: Instant) -> bool:
        """Tell whether the vetting still holds at ``at``."""
        return at < self.valid_until


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One person: an id, the organisation unit, roles, signing keys, vetting, and whether they are with us.

    Who publishes has a hybrid key beside the plain one. All keys of a person are that one person: a quorum counts
    people, never keys.
    """

    id: PersonId
    org: str
    active: bool
    roles: frozenset[str]
    keys: tuple[PublicKey, ...]
    vetting: Vetting

    @classmethod
    def read(cls, fields: Fields) -> Person:
        """Read one person of a roster.

        :raises MalformedError: a member is missing, extra or out of bounds.
        """
        person = cls(
            id=fields.parsed("id", person_id),
            org=fields.text("org", max_length=64),
            active=fields.boolean("active"),
            roles=frozenset(_role(text) for text in fields.texts("roles", most=MAX_ROLES)),
            keys=tuple(PublicKey.parse(text) for text in fields.texts("keys", most=MAX_KEYS, max_length=MAX_KEY_TEXT)),
            vetting=_vetting(fields.child("vetting")),
        )
        if not person.keys:
            raise MalformedError(f"`{fields.where}.keys` must name at least one key")
        return person

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "id": self.id,
            "org": self.org,
            "active": self.active,
            "roles": [*sorted(self.roles)],
            "keys": [str(key) for key in self.keys],
            "vetting": {"tier": self.vetting.tier, "valid_until": format_instant(self.vetting.valid_until)},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """Everyone, as of one epoch. Epochs rise by one; each roster names the one before it."""

    genesis: Digest
    epoch: int
    predecessor: Digest | None
    people: tuple[Person, ...]

    @classmethod
    def parse(cls, payload: bytes) -> Roster:
        """Read a roster's canonical bytes. The caller has checked the root quorum's signatures.

        :raises MalformedError: a wrong form, a person twice, or one key under two people.
        """
        with Fields(decode(payload), "roster") as fields:
            fields.constant("v", 1)
            roster = cls(
                genesis=fields.digest("genesis"),
                epoch=fields.integer("epoch", least=1),
                predecessor=fields.digest("predecessor") if fields.optional("predecessor") else None,
                people=fields.objects("people", Person.read, most=MAX_PEOPLE),
            )
        roster._check()
        return roster

    def _check(self) -> None:
        ids = [person.id for person in self.people]
        if len(set(ids)) != len(ids):
            raise MalformedError("the roster lists a person twice")
        # A key that two people hold would let one hand fill two places of a quorum.
        keys = [key for person in self.people for key in person.keys]
        if len(set(keys)) != len(keys):
            raise MalformedError("the roster lists one key twice; a key belongs to one person")
        if (self.epoch == 1) is not (self.predecessor is None):
            raise MalformedError("only the first roster, epoch 1, has no predecessor")

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that the root quorum signs."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "epoch": self.epoch,
                "predecessor": str(self.predecessor) if self.predecessor else None,
                "people": [person.to_json() for person in self.people],
            }
        )

    def person(self, wanted: PersonId) -> Person:
        """Find a person by id.

        :raises UnknownPersonError: nobody has this id.
        """
        for person in self.people:
            if person.id == wanted:
                return person
        raise UnknownPersonError(f"the roster has nobody called `{wanted}`")

    def holder(self, key: KeyId) -> tuple[Person, PublicKey]:
        """Find who holds a key.

        :raises UnknownPersonError: nobody in this roster holds it.
        """
        for person in self.people:
            for public_key in person.keys:
                if public_key.key_id == key:
                    return person, public_key
        raise UnknownPersonError(f"nobody in the roster holds key `{key}`")


def _vetting(fields: Fields) -> Vetting:
    with fields:
        return Vetting(tier=fields.integer("tier", most=MAX_TIER), valid_until=fields.instant("valid_until"))


def _role(text: str) -> str:
    if not _ROLE.fullmatch(text):
        raise MalformedError("a role is 1 to 48 characters of a-z, 0-9 and `-`, beginning with a letter")
    return text
