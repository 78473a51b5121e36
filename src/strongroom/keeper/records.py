"""Vetting records at rest: each person's under a key of their own, so that one person can be erased and nobody else.

The key is wrapped under the keeper's epoch key and lies in a file of its own. Erasing a person removes that file; the
encrypted record, wherever a copy of it lies, says nothing from then on.
"""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import TamperedError
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.keeper.pins import RecordStore
from strongroom.keeper.vault import Vault
from strongroom.keys.wrapping import NONCE_BYTES, RandomBytes, WrappedKey
from strongroom.personnel.vetting import VettingRecord

_MAX_KEY_FILE: Final = 4096
_FILES: Final = ("key", "record-0", "record-1")


class RecordTamperedError(TamperedError):
    """A stored vetting record isn't the one that was recorded."""

    code = "record-tampered"


class PersonRecords:
    """Keeps and opens vetting records."""

    def __init__(self, genesis: Digest, vault: Vault, store: RecordStore, random_bytes: RandomBytes) -> None:
        self._genesis = genesis
        self._vault = vault
        self._store = store
        self._random = random_bytes

    def keep(self, record: VettingRecord, envelope: Envelope) -> None:
        """Encrypt a signed record and make it durable, beside the one in force."""
        with self._key(record.person) or self._new_key(record.person) as key:
            nonce = self._random(NONCE_BYTES)
            about = self._about(record.person, record.serial)
            sealed = AESGCM(key.reveal(TOKEN)).encrypt(nonce, envelope.to_bytes(), about)
        self._store.save(_file(record.person, f"record-{record.serial % 2}"), nonce + sealed)

    def load(self, person: PersonId, serial: int, digest: Digest) -> VettingRecord | None:
        """Open a person's record, and check that it is the one that the log names; None when it is lost.

        :raises RecordTamperedError: it was changed, or is another's.
        """
        data = self._store.load(_file(person, f"record-{serial % 2}"))
        key = self._key(person)
        if data is None or key is None:
            return None
        try:
            with key:
                plain = AESGCM(key.reveal(TOKEN)).decrypt(
                    data[:NONCE_BYTES], data[NONCE_BYTES:], self._about(person, serial)
                )
        except (InvalidTag, ValueError):  # cut so short that not even a nonce is left
            raise RecordTamperedError(f"the stored vetting record of `{person}` was changed") from None
        envelope = Envelope.parse(plain)
        if envelope.digest != digest:
            raise RecordTamperedError(f"the stored vetting record of `{person}` isn't the one in the log")
        return VettingRecord.parse(envelope.payload)

    def rewrap(self, person: PersonId) -> None:
        """Wrap a person's key under the newest epoch, durably. The record itself isn't touched.

        :raises WrapError: the key was changed, or is another's.
        """
        key = self._key(person)
        if key is not None:
            with key:
                self._save_key(person, *self._vault.wrap_record_key(person, key, self._random))

    def holds(self, person: PersonId) -> bool:
        """Tell whether any file of a person is here."""
        return any(self._store.load(_file(person, what)) is not None for what in _FILES)

    def erase(self, person: PersonId) -> None:
        """Destroy a person's key first, then what it encrypted."""
        for what in _FILES:
            self._store.erase(_file(person, what))

    def _about(self, person: PersonId, serial: int) -> bytes:
        return encode({"genesis": str(self._genesis), "person": person, "serial": serial, "type": "vetting-record"})

    def _new_key(self, person: PersonId) -> SecretBytes:
        key, epoch, wrapped = self._vault.new_record_key(person, self._random)
        self._save_key(person, epoch, wrapped)
        return key

    def _save_key(self, person: PersonId, epoch: int, wrapped: WrappedKey) -> None:
        self._store.save(_file(person, "key"), encode({"epoch": epoch, "wrapped": wrapped.to_json()}))

    def _key(self, person: PersonId) -> SecretBytes | None:
        data = self._store.load(_file(person, "key"))
        if not data:
            return None
        with Fields(decode(data, max_bytes=_MAX_KEY_FILE), "record key") as fields, fields.child("wrapped") as child:
            epoch, wrapped = fields.integer("epoch", least=1), WrappedKey.read(child)
        # Under an epoch that is gone: kept by nobody, for a record that the log never named.
        return self._vault.open_record_key(person, epoch, wrapped) if self._vault.holds_epoch(epoch) else None


def _file(person: PersonId, what: str) -> str:
    return f"{hashlib.sha256(person.encode()).hexdigest()[:32]}.{what}"
