"""What people sign about drops: the key with which they read them, and what a reviewer made of one.

A key counts for the person who signed it, and the newest one alone. It is another than the signing key: security keys
decrypt nothing, and who loses a recipient identity makes a new one and signs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import payload_type
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId, person_id
from strongroom.keys.recipient import parse_public, public_text

DROP_KEY_TYPE: Final = payload_type("drop-key.v1")
DROP_REVIEW_TYPE: Final = payload_type("drop-review.v1")
_MAX: Final = 8192
_MAX_KEY: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class DropKey:
    """A person's recipient key for drops: what a reviewer opens them with, and a researcher what was accepted."""

    genesis: Digest
    person: PersonId
    public: bytes

    @classmethod
    def parse(cls, payload: bytes) -> DropKey:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(payload, max_bytes=_MAX), "drop-key") as fields:
            fields.constant("v", 1)
            return cls(
                genesis=fields.digest("genesis"),
                person=fields.parsed("person", person_id),
                public=fields.parsed("key", parse_public, max_length=_MAX_KEY),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode({"v": 1, "genesis": str(self.genesis), "person": self.person, "key": public_text(self.public)})


class DropOutcome(StrEnum):
    """What a reviewer made of a drop. Either way it stays charged: it left the enclave, towards a person."""

    ACCEPT = "accept"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class DropReview:
    """A reviewer's decision on one drop."""

    genesis: Digest
    request: Digest
    drop: Digest
    """Of the archive, as it was charged."""
    outcome: DropOutcome

    @classmethod
    def parse(cls, payload: bytes) -> DropReview:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(payload, max_bytes=_MAX), "drop-review") as fields:
            fields.constant("v", 1)
            return cls(
                genesis=fields.digest("genesis"),
                request=fields.digest("request"),
                drop=fields.digest("drop"),
                outcome=fields.parsed("outcome", DropOutcome),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "request": str(self.request),
                "drop": str(self.drop),
                "outcome": self.outcome.value,
            }
        )
