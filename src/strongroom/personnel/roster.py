"""The roster: the people, their units, roles and keys, and which security keys are trusted. Signed by the root quorum.

Whether somebody is cleared today is another document's to say (:mod:`strongroom.personnel.vetting`): root holders meet
a few times a year, vetting lapses and changes by the day, and neither may stand in for the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError, NotFoundError
from strongroom.core.fields import Fields
from strongroom.core.ids import KeyId, PersonId, person_id
from strongroom.core.signature import MAX_KEY_TEXT, PublicKey
from strongroom.personnel.authenticators import MAX_AUTHENTICATORS, Authenticator

ROSTER_TYPE: Final = payload_type("roster.v1")
AUDITOR: Final = "auditor"
"""The role of those who look into what was decided and found, and decide nothing."""
MAX_PEOPLE: Final = 2000
MAX_KEYS: Final = 4
MAX_ROLES: Final = 16
_ROLE: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,46}[a-z0-9])?")


class UnknownPersonError(NotFoundError):
    """Nobody in the roster has this id or key."""

    code = "unknown-person"


class PersonKind(StrEnum):
    """What a principal is."""

    HUMAN = "human"
    AGENT = "agent"
    """An AI agent: vetted, capped and suspended like anybody else, on a human's account, and never an approver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One person: an id, the organisation unit, roles, signing keys, and whether they are with us.

    Who publishes has a hybrid key beside the plain one. All keys of a person are that one person: a quorum counts
    people, never keys. The id is a pseudonym: it stands in the log for good, so it should be no name.
    """

    id: PersonId
    kind: PersonKind = PersonKind.HUMAN
    sponsor: PersonId | None = None
    """The human on whose account an agent acts; falls with them."""
    org: str
    active: bool
    roles: frozenset[str]
    keys: tuple[PublicKey, ...]

    @classmethod
    def read(cls, fields: Fields) -> Person:
        """Read one person of a roster.

        :raises MalformedError: a member is missing, extra or out of bounds.
        """
        person = cls(
            id=fields.parsed("id", person_id),
            kind=fields.parsed("kind", PersonKind),
            sponsor=fields.parsed("sponsor", person_id) if fields.optional("sponsor") else None,
            org=fields.text("org", max_length=64),
            active=fields.boolean("active"),
            roles=frozenset(_role(text) for text in fields.texts("roles", most=MAX_ROLES)),
            keys=tuple(PublicKey.parse(text) for text in fields.texts("keys", most=MAX_KEYS, max_length=MAX_KEY_TEXT)),
        )
        if not person.keys:
            raise MalformedError(f"`{fields.where}.keys` must name at least one key")
        if (person.kind is PersonKind.AGENT) is not (person.sponsor is not None):
            raise MalformedError(f"`{fields.where}.sponsor` must be given for an agent, and for nobody else")
        return person

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "id": self.id,
            "kind": self.kind.value,
            "sponsor": self.sponsor,
            "org": self.org,
            "active": self.active,
            "roles": [*sorted(self.roles)],
            "keys": [str(key) for key in self.keys],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """Everyone, as of one epoch. Epochs rise by one; each roster names the one before it."""

    genesis: Digest
    epoch: int
    predecessor: Digest | None
    people: tuple[Person, ...]
    authenticators: tuple[Authenticator, ...] = ()
    """The models of security key that may be enrolled."""

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
                authenticators=fields.objects("authenticators", Authenticator.read, most=MAX_AUTHENTICATORS),
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
        humans = {person.id for person in self.people if person.kind is PersonKind.HUMAN}
        if any(person.sponsor not in humans for person in self.people if person.kind is PersonKind.AGENT):
            raise MalformedError("the roster lists an agent whose sponsor isn't a human in it")
        models = [authenticator.aaguid for authenticator in self.authenticators]
        if len(set(models)) != len(models):
            raise MalformedError("the roster lists a model of security key twice")
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
                "authenticators": [authenticator.to_json() for authenticator in self.authenticators],
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


def _role(text: str) -> str:
    if not _ROLE.fullmatch(text):
        raise MalformedError("a role is 1 to 48 characters of a-z, 0-9 and `-`, beginning with a letter")
    return text
