"""Who can open a sealed model besides its keeper: the data key, encrypted to each of them, in one small public file.

It lies beside the manifest and isn't signed by it, so that recipients are added and removed without touching weights or
manifest. An authentication code under the data key covers the list: whoever can open it sees whether one was taken
away, added or exchanged. Removing a recipient doesn't make it forget the key: that takes a new version under a new
data key.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId
from strongroom.core.secret import SecretBytes
from strongroom.sealing.errors import RecipientsTamperedError
from strongroom.sealing.prelude import COMMITMENT_LENGTH, subkey

RECIPIENTS_NAME: Final = "recipients.json"
MAX_RECIPIENTS_FILE: Final = 1 << 20
MAX_STANZAS: Final = 256
MAX_STANZA_BYTES: Final = 2048
_CODE_LABEL: Final = b"strongroom recipients v1"


class StanzaKind(StrEnum):
    """How a data key can be encrypted to a recipient. A closed list: a reader refuses every other."""

    HPKE_MLKEM768_X25519 = "hpke-mlkem768-x25519"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stanza:
    """The data key for one recipient."""

    kind: StanzaKind
    recipient: Digest
    """SHA-256 of the recipient's public key."""
    ciphertext: bytes

    @classmethod
    def read(cls, fields: Fields) -> Stanza:
        """Read the JSON form."""
        return cls(
            kind=fields.parsed("kind", _kind),
            recipient=fields.digest("recipient"),
            ciphertext=fields.binary("ciphertext", max_length=MAX_STANZA_BYTES),
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "kind": self.kind.value,
            "recipient": str(self.recipient),
            "ciphertext": to_base64(self.ciphertext),
        }


def _kind(text: str) -> StanzaKind:
    try:
        return StanzaKind(text)
    except ValueError:
        raise MalformedError("a kind of stanza that this reader doesn't know") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipients:
    """The stanzas of one model version. Parsed is not believed: :meth:`verify` takes the data key that one gave."""

    commitment: bytes
    """The data key's commitment, as in the manifest."""
    stanzas: tuple[Stanza, ...]
    code: bytes

    @classmethod
    def of(cls, stanzas: tuple[Stanza, ...], *, commitment: bytes, data_key: SecretBytes) -> Recipients:
        """Make the list, in ascending order of recipients, and its authentication code.

        :raises MalformedError: none, too many, or one recipient twice.
        """
        ordered = tuple(sorted(stanzas, key=lambda stanza: str(stanza.recipient)))
        _check(ordered)
        return cls(commitment=commitment, stanzas=ordered, code=_code(data_key, _covered(commitment, ordered)))

    @classmethod
    def parse(cls, data: bytes) -> Recipients:
        """Read the file.

        :raises MalformedError: not canonical, an unknown kind, or a rule of :meth:`of` broken.
        """
        with Fields(decode(data, max_bytes=MAX_RECIPIENTS_FILE), "recipients") as fields:
            fields.constant("v", 1)
            found = cls(
                commitment=fields.parsed("commitment", from_base64),
                stanzas=fields.objects("stanzas", Stanza.read, most=MAX_STANZAS),
                code=fields.binary("code", max_length=32),
            )
        if len(found.commitment) != COMMITMENT_LENGTH or found.to_bytes() != data:
            raise MalformedError("the recipients aren't in their one canonical form")
        _check(found.stanzas)
        return found

    def to_bytes(self) -> bytes:
        """Return the file."""
        return encode({**_members(self.commitment, self.stanzas), "code": to_base64(self.code)})

    def for_recipient(self, recipient: Digest) -> Stanza | None:
        """Return the stanza for a recipient's public key, by its digest."""
        return next((stanza for stanza in self.stanzas if stanza.recipient.matches(recipient)), None)

    def verify(self, data_key: SecretBytes) -> None:
        """Check the authentication code.

        :raises RecipientsTamperedError: a stanza was added, removed or changed by somebody without the data key.
        """
        if not hmac.compare_digest(self.code, _code(data_key, _covered(self.commitment, self.stanzas))):
            raise RecipientsTamperedError(
                "the list of recipients isn't the one that was written with this data key",
                remedy=f"restore `{RECIPIENTS_NAME}` from a good copy; whoever holds the data key can write it again",
            )


def stanza_context(*, genesis: Digest, model: ModelId, version: int, commitment: bytes) -> bytes:
    """Return what a stanza is bound to: this version of this model, and this data key.

    A stanza copied beside another model, or another version, opens nothing.
    """
    return encode(
        {
            "purpose": "strongroom stanza v1",
            "genesis": str(genesis),
            "model": model,
            "version": version,
            "commitment": to_base64(commitment),
        }
    )


def _check(stanzas: tuple[Stanza, ...]) -> None:
    names = [str(stanza.recipient) for stanza in stanzas]
    if not 1 <= len(names) <= MAX_STANZAS or names != sorted(set(names)):
        raise MalformedError(f"recipients are 1 to {MAX_STANZAS}, in ascending order, each there once")


def _members(commitment: bytes, stanzas: tuple[Stanza, ...]) -> dict[str, Json]:
    return {"v": 1, "commitment": to_base64(commitment), "stanzas": [stanza.to_json() for stanza in stanzas]}


def _covered(commitment: bytes, stanzas: tuple[Stanza, ...]) -> bytes:
    return encode(_members(commitment, stanzas))


def _code(data_key: SecretBytes, covered: bytes) -> bytes:
    return hmac.digest(subkey(data_key, _CODE_LABEL), covered, "sha256")
