"""Records of people as they are stored: encrypted under a key of their own, found by keyed digests.

A record's ciphertext is bound to its kind and id, so that two rows can't be swapped. An older state of the same record,
put back, is not seen: that is why a lowering is carried out whenever it's asked for, whatever the row said before.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.broker.people.errors import RecordRefusedError
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId, person_id

NONCE_BYTES: Final = 12
MAX_RESOURCE: Final = 512 * 1024
"""Characters of a SCIM resource's JSON."""
MAX_PERSONS: Final = 8
MAX_LOOKUPS: Final = 256
_MAX_PLAINTEXT: Final = 2 * MAX_RESOURCE
_BINDING: Final = b"strongroom people record v1\x00"
_LOOKUP: Final = b"strongroom people lookup v1\x00"


class RecordKind(StrEnum):
    """What a record is."""

    USER = "user"
    GROUP = "group"


class LookupName(StrEnum):
    """What a record can be found by without reading all."""

    USER_NAME = "user-name"
    EXTERNAL_ID = "external-id"
    EMAIL = "email"
    DISPLAY_NAME = "display-name"
    PERSON = "person"
    """Each person's id that the record names; erasure finds by it."""


@dataclass(frozen=True, slots=True, order=True)
class Lookup:
    """A name and the value that a record is filed under."""

    name: LookupName
    value: str

    def to_bytes(self) -> bytes:
        """Return what the keyed digest is made of."""
        return _LOOKUP + self.name.encode() + b"\x00" + self.value.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A SCIM resource, the people that it has ever stood for, and what it is found by.

    ``persons`` only grows: a user who is renamed still stands for the same person when the directory lets them go.
    """

    kind: RecordKind
    id: str
    resource: str
    """JSON text."""
    persons: tuple[PersonId, ...] = ()
    lookups: tuple[Lookup, ...] = ()

    def __repr__(self) -> str:
        return f"<Record {self.kind.value} {self.id}>"

    def seal(self, key: AESGCM, nonce: bytes) -> bytes:
        """Return the row's bytes. ``nonce`` has 12 bytes and is never used twice with one key.

        :raises MalformedError: the record is larger than may be stored.
        """
        if len(self.resource) > MAX_RESOURCE or len(self.persons) > MAX_PERSONS or len(self.lookups) > MAX_LOOKUPS:
            raise MalformedError("a record of the directory is larger than may be stored")
        lookups: list[Json] = [{"name": found.name.value, "value": found.value} for found in self.lookups]
        plain = encode({"v": 1, "resource": self.resource, "persons": list(self.persons), "lookups": lookups})
        return nonce + key.encrypt(nonce, plain, _bound(self.kind, self.id))

    @classmethod
    def open(cls, kind: RecordKind, record: str, body: bytes, key: AESGCM) -> Record:
        """Read a row.

        :raises RecordRefusedError: it isn't what was stored under this kind and id.
        """
        refused = RecordRefusedError(
            f"the stored record `{record[:64]}` isn't what was stored",
            remedy="restore the directory's database from a copy, or erase the record and provision it again",
        )
        try:
            plain = key.decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], _bound(kind, record))
            with Fields(decode(plain, max_bytes=_MAX_PLAINTEXT), "record") as fields:
                fields.constant("v", 1)
                text = fields.value("resource")
                persons = fields.texts("persons", most=MAX_PERSONS)
                lookups = fields.objects("lookups", _lookup, most=MAX_LOOKUPS)
            found = tuple(person_id(person) for person in persons)
        except (InvalidTag, ValueError, MalformedError):
            raise refused from None
        if not isinstance(text, str):
            raise refused
        return cls(kind=kind, id=record, resource=text, persons=found, lookups=lookups)


def _bound(kind: RecordKind, record: str) -> bytes:
    return _BINDING + kind.encode() + b"\x00" + record.encode("utf-8", "surrogatepass")


def _lookup(fields: Fields) -> Lookup:
    with fields:
        value = fields.value
        name, text = value("name"), value("value")
    if not isinstance(name, str) or not isinstance(text, str):
        raise MalformedError("a look-up is two strings")
    try:
        return Lookup(LookupName(name), text)
    except ValueError:
        raise MalformedError("a look-up's name is unknown") from None
