"""Reviews: people who looked at what the gate found, and said yes or no with their own keys. One no is enough.

What they sign names the artifact and the report that they read: a review of one delivery is none of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core import envelope
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, payload_type
from strongroom.core.errors import PendingError
from strongroom.core.fields import Fields
from strongroom.core.ids import KeyId
from strongroom.core.signature import PublicKey
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.states import delivery_id

REVIEW_TYPE: Final = payload_type("intake-review.v1")
MAX_REVIEW: Final = 4096
MAX_REVIEWS: Final = 32


class Decision(StrEnum):
    """A reviewer's word."""

    ACCEPT = "accept"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What a reviewer says."""

    delivery: str
    artifact: Digest
    records: Digest
    """Digest of the last record that the reviewer saw, which is the one of `scanned`."""
    decision: Decision

    def to_bytes(self) -> bytes:
        """Return the canonical bytes, which are signed."""
        body: dict[str, Json] = {
            "v": 1,
            "delivery": self.delivery,
            "artifact": str(self.artifact),
            "records": str(self.records),
            "decision": self.decision.value,
        }
        return encode(body)

    @classmethod
    def parse(cls, data: bytes) -> Review:
        """Read a review.

        :raises MalformedError: not one.
        """
        with Fields(decode(data, max_bytes=MAX_REVIEW), "review") as f:
            f.constant("v", 1)
            return cls(
                delivery=f.parsed("delivery", delivery_id),
                artifact=f.digest("artifact"),
                records=f.digest("records"),
                decision=f.parsed("decision", Decision),
            )


def check_reviews(
    signed: Sequence[Envelope], wanted: Review, keys: Iterable[PublicKey], *, threshold: int
) -> frozenset[KeyId]:
    """Check that ``threshold`` distinct keys accept ``wanted``, and that none denies it; returns the keys that accept.

    A review of something else, or by somebody else, counts for nothing.

    :raises IntakeRefusedError: review-denied.
    :raises PendingError: too few accept so far.
    :raises SignatureError: a review by a known key whose signature doesn't hold.
    """
    known = tuple(keys)
    of_known = {key.key_id for key in known}
    accepting: set[KeyId] = set()
    for one in signed[:MAX_REVIEWS]:
        if one.kind != REVIEW_TYPE or of_known.isdisjoint(signature.key_id for signature in one.signatures):
            continue
        signers = envelope.verify(one, REVIEW_TYPE, known, threshold=1)
        review = Review.parse(one.payload)
        if (review.delivery, review.artifact, review.records) != (wanted.delivery, wanted.artifact, wanted.records):
            continue
        if review.decision is Decision.DENY:
            raise IntakeRefusedError(Rule.REVIEW_DENIED, f"{len(signers)} reviewers deny this delivery")
        accepting |= signers
    if len(accepting) < threshold:
        raise PendingError(f"{len(accepting)} of the {threshold} reviews needed are there", reason="intake-unreviewed")
    return frozenset(accepting)
