"""What an interrupted sealing leaves for the one that goes on: which file became which object, and which are finished.

One record after the other, each encrypted under a key derived from the data key: names are secret here as in the index,
and a record that somebody else wrote, or that a crash cut in half, ends the journal. It tells where to look; what is
found there is authenticated again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.secret import SecretBytes
from strongroom.sealing.floe import NONCE_LENGTH, TAG_LENGTH
from strongroom.sealing.manifest import ManifestObject, object_id_of
from strongroom.sealing.names import MAX_NAME_BYTES, file_name
from strongroom.sealing.prelude import ID_LENGTH, subkey
from strongroom.sealing.seal import RandomBytes

JOURNAL_NAME: Final = "journal"
MAX_RECORD: Final = 8192
_LABEL: Final = b"strongroom seal journal v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A file whose sealing began: under which object id, and what the file looked like."""

    name: str
    object_id: bytes
    size: int
    changed: int
    """Of a file in a folder: when its inode last changed, in nanoseconds since 1970; unlike the modification time,
    nobody can set that. Of a file in a sealed directory: a number that follows from its version's manifest."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An object that is whole and on disk."""

    sealed: ManifestObject


Record = Begun | Finished


class Journal:
    """Encodes and decodes records for one data key and one set of facts."""

    __slots__ = ("_cipher", "_context")

    def __init__(self, data_key: SecretBytes, context: bytes) -> None:
        self._cipher = AESGCM(subkey(data_key, _LABEL))
        self._context = context

    def encode(self, record: Record, number: int, random_bytes: RandomBytes) -> bytes:
        """Return the bytes to append as record ``number``."""
        plain = encode(_to_json(record))
        nonce = random_bytes(NONCE_LENGTH)
        body = nonce + self._cipher.encrypt(nonce, plain, self._bound(number))
        return len(body).to_bytes(4, "big") + body

    def decode(self, data: bytes) -> tuple[list[Record], int]:
        """Return the records up to the first that isn't whole and authentic, and how many bytes they take."""
        found: list[Record] = []
        at = 0
        while at + 4 <= len(data):
            length = int.from_bytes(data[at : at + 4], "big")
            body = data[at + 4 : at + 4 + length]
            if not NONCE_LENGTH + TAG_LENGTH < length <= MAX_RECORD or len(body) != length:
                break
            try:
                plain = self._cipher.decrypt(body[:NONCE_LENGTH], body[NONCE_LENGTH:], self._bound(len(found)))
                found.append(_from_json(decode(plain, max_bytes=MAX_RECORD)))
            except (InvalidTag, MalformedError):
                break
            at += 4 + length
        return found, at

    def _bound(self, number: int) -> bytes:
        return self._context + number.to_bytes(8, "big")


def _to_json(record: Record) -> Json:
    if isinstance(record, Finished):
        return {"finished": record.sealed.to_json()}
    return {
        "begun": record.name,
        "object": record.object_id.hex(),
        "size": record.size,
        "changed": str(record.changed),
    }


def _from_json(value: Json) -> Record:
    with Fields(value, "record") as fields:
        if fields.optional("finished"):
            with fields.child("finished") as child:
                return Finished(ManifestObject.read(child))
        return Begun(
            name=file_name(fields.text("begun", max_length=MAX_NAME_BYTES)),
            object_id=fields.parsed("object", object_id_of, max_length=2 * ID_LENGTH),
            size=fields.integer("size"),
            changed=fields.parsed("changed", int, max_length=24),
        )


def unfinished(records: Iterable[Record]) -> tuple[dict[str, Begun], dict[bytes, ManifestObject]]:
    """Sort records: the newest beginning of each file by name, and finished objects by id."""
    begun: dict[str, Begun] = {}
    finished: dict[bytes, ManifestObject] = {}
    for record in records:
        if isinstance(record, Begun):
            begun[record.name] = record
        else:
            finished[record.sealed.object_id] = record.sealed
    return begun, finished
