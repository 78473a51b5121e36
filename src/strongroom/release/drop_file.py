"""The file in which a drop leaves its enclave: encrypted to the people whom a ticket names, and to nobody else. Pure.

::

    strongroom-drop/v1 LF | header length, 4 bytes, big-endian | header, canonical JSON | the archive, encrypted

The archive is encrypted once, by AES-256-GCM under a key that is drawn for this file alone; that key is encrypted to
each reader by HPKE. Both are bound to the keeper's ticket: a reader gets the bytes that were charged, or an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, verify
from strongroom.core.errors import DeniedError, MalformedError, TamperedError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId, person_id
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.egress.archive import Archive
from strongroom.egress.workspace import MAX_DROP
from strongroom.keys.recipient import RecipientIdentity, encrypt_to
from strongroom.release.drop import MAX_READERS, TICKET_TYPE, Reader, Ticket

MAGIC: Final = b"strongroom-drop/v1\n"
LENGTH: Final = 4
KEY_BYTES: Final = 32
MAX_HEADER: Final = 1 << 20
MAX_STANZA: Final = 2048
TAG: Final = 16
MAX_FILE: Final = len(MAGIC) + LENGTH + MAX_HEADER + MAX_DROP + TAG
_NONCE: Final = bytes(12)
"""Each key encrypts one file, so that the nonce needn't differ."""


class DropChangedError(TamperedError):
    """A drop doesn't open to what its ticket says: it was changed, or put together from others."""

    code = "drop-changed"


class NotAReaderError(DeniedError):
    """A drop isn't encrypted to this person, or not to this key."""

    code = "drop-not-for-you"


@dataclass(frozen=True, slots=True)
class Stanza:
    """One reader's way to the file's key."""

    person: PersonId
    ciphertext: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DropFile:
    """A drop as it lies on a disk. Reading one proves nothing: :meth:`open` does."""

    ticket: Envelope
    stanzas: tuple[Stanza, ...]
    ciphertext: bytes

    @classmethod
    def parse(cls, data: bytes) -> DropFile:
        """Read the bytes of a file.

        :raises MalformedError: another form.
        """
        start = len(MAGIC) + LENGTH
        if not data.startswith(MAGIC) or not start <= len(data) <= MAX_FILE:
            raise MalformedError("the file isn't a drop")
        end = start + int.from_bytes(data[len(MAGIC) : start], "big")
        if end - start > MAX_HEADER or end + TAG > len(data):
            raise MalformedError("a drop's header is longer than it may be, or than there is")
        with Fields(decode(data[start:end], max_bytes=MAX_HEADER), "drop") as fields:
            fields.constant("v", 1)
            with fields.child("ticket") as child:
                ticket = Envelope.read(child)
            return cls(
                ticket=ticket,
                stanzas=fields.objects("stanzas", _stanza, most=MAX_READERS),
                ciphertext=data[end:],
            )

    def to_bytes(self) -> bytes:
        """Return the bytes of the file."""
        stanzas: list[Json] = [{"person": one.person, "ciphertext": to_base64(one.ciphertext)} for one in self.stanzas]
        header = encode({"v": 1, "ticket": self.ticket.to_json(), "stanzas": stanzas})
        return b"".join((MAGIC, len(header).to_bytes(LENGTH, "big"), header, self.ciphertext))

    def check_ticket(self, genesis: Genesis) -> Ticket:
        """Return what the keeper said of this drop.

        :raises SignatureError: this deployment's keeper said nothing of it.
        :raises DropChangedError: for another deployment.
        """
        verify(self.ticket, TICKET_TYPE, [genesis.keeper_key], threshold=1)
        ticket = Ticket.parse(self.ticket.payload)
        if ticket.genesis != genesis.digest:
            raise DropChangedError("the drop belongs to another deployment")
        return ticket

    def open(self, genesis: Genesis, person: PersonId, identity: RecipientIdentity) -> tuple[Ticket, Archive]:
        """Return the drop's archive, which is the one that was charged.

        :raises SignatureError: the ticket isn't this deployment's keeper's.
        :raises NotAReaderError: it isn't encrypted to this person.
        :raises DeliveryError: not to this identity.
        :raises DropChangedError: the bytes aren't those that the ticket is for.
        :raises MalformedError: they aren't an archive.
        """
        ticket = self.check_ticket(genesis)
        stanza = next((one for one in self.stanzas if one.person == person), None)
        if stanza is None:
            readers = ", ".join(f"`{one.person}`" for one in self.stanzas)
            raise NotAReaderError(f"the drop is encrypted to {readers or 'nobody'}, not to `{person}`")
        with identity.open(stanza.ciphertext, _context(self.ticket, person)) as key:
            if len(key) != KEY_BYTES:
                raise DropChangedError("the drop's key has another length")
            try:
                plain = AESGCM(bytes(key.reveal(TOKEN))).decrypt(_NONCE, self.ciphertext, self.ticket.payload)
            except InvalidTag:
                raise DropChangedError("the drop was changed since it left its enclave") from None
        if len(plain) != ticket.ask.size or Digest.of(plain) != ticket.ask.digest:
            raise DropChangedError("the drop isn't the one that was charged")
        return ticket, Archive.parse(plain)


def encrypt_drop(archive: bytes, ticket: Envelope, readers: Sequence[Reader], key: SecretBytes) -> DropFile:
    """Encrypt the bytes of an archive to ``readers``. ``key``: 32 random bytes, for this file alone.

    :raises MalformedError: a reader's key isn't valid.
    """
    return DropFile(
        ticket=ticket,
        stanzas=tuple(Stanza(one.person, encrypt_to(one.public, key, _context(ticket, one.person))) for one in readers),
        ciphertext=AESGCM(bytes(key.reveal(TOKEN))).encrypt(_NONCE, archive, ticket.payload),
    )


def _context(ticket: Envelope, person: PersonId) -> bytes:
    return hashlib.sha256(b"strongroom/drop/v1\x00" + person.encode() + b"\x00" + ticket.payload).digest()


def _stanza(fields: Fields) -> Stanza:
    return Stanza(fields.parsed("person", person_id), fields.binary("ciphertext", max_length=MAX_STANZA))
