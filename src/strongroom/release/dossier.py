"""What the broker hands to the keeper: bytes from people, enclaves and a hostile database. Nothing in it is trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.access.policy import MAX_APPROVALS
from strongroom.core.canonical import Json
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.fields import Fields
from strongroom.keys.recipient import RECIPIENT_KEY_BYTES
from strongroom.keys.wrapping import WrappedKey

MAX_EVIDENCE: Final = 384 * 1024
"""Raw evidence of a machine with all its devices. In base64, with the rest of a dossier, it still fits one frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedDataKey:
    """A version's data key as stored: wrapped under a KEK of its model, which the keeper alone holds."""

    data_key: str
    kek: str
    data: WrappedKey

    @classmethod
    def read(cls, fields: Fields) -> WrappedDataKey:
        """Read the JSON form."""
        with fields.child("data") as data:
            return cls(
                data_key=fields.text("data_key", max_length=64),
                kek=fields.text("kek", max_length=64),
                data=WrappedKey.read(data),
            )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"data_key": self.data_key, "kek": self.kek, "data": self.data.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
    """Step 3: what an enclave sent for a challenge."""

    challenge: str
    platform: Envelope
    """The keeper's own signed enrolment record, as stored."""
    evidence: bytes
    """Raw evidence; it names the recipient key that it binds."""

    @classmethod
    def read(cls, fields: Fields) -> Testimony:
        """Read the JSON form."""
        with fields.child("platform") as platform:
            return cls(
                challenge=fields.text("challenge", max_length=64),
                platform=Envelope.read(platform),
                evidence=fields.binary("evidence", max_length=MAX_EVIDENCE),
            )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "challenge": self.challenge,
            "platform": self.platform.to_json(),
            "evidence": to_base64(self.evidence),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """A request with everything that is said to support it."""

    request: Envelope
    approvals: tuple[Envelope, ...] = ()
    testimony: Testimony | None = None
    wrapped: WrappedDataKey | None = None
    recipient_key: bytes = b""
    """For ``seal``: the publisher's recipient key. An enclave's key is part of its testimony."""

    @classmethod
    def read(cls, fields: Fields) -> Dossier:
        """Read the JSON form.

        :raises MalformedError: another form, or larger than this module's limits.
        """
        with fields.child("request") as request:
            envelope = Envelope.read(request)
        approvals = fields.objects("approvals", Envelope.read, most=MAX_APPROVALS)
        testimony = wrapped = None
        if fields.optional("testimony"):
            with fields.child("testimony") as child:
                testimony = Testimony.read(child)
        if fields.optional("wrapped"):
            with fields.child("wrapped") as child:
                wrapped = WrappedDataKey.read(child)
        recipient_key = fields.binary("recipient_key", max_length=RECIPIENT_KEY_BYTES)
        return cls(
            request=envelope, approvals=approvals, testimony=testimony, wrapped=wrapped, recipient_key=recipient_key
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "request": self.request.to_json(),
            "approvals": [approval.to_json() for approval in self.approvals],
            "testimony": self.testimony.to_json() if self.testimony else None,
            "wrapped": self.wrapped.to_json() if self.wrapped else None,
            "recipient_key": to_base64(self.recipient_key),
        }
