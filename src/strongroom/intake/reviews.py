"""Reviews: people who looked at what the gate found, and said yes or no with their own keys. One no is enough.

What they sign names the artifact and the report that they read: a review of one delivery is none of another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from strongroom.core import envelope
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, payload_type
from strongroom.core.errors import PendingError
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId, person_id
from strongroom.core.signature import PublicKey
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.states import delivery_id

REVIEW_TYPE: Final = payload_type("intake-review.v1")
REVIEWER: Final = "intake-reviewer"
"""The role whose holders say yes or no to a delivery."""
MAX_REVIEW: Final = 4096
MAX_SIGNED: Final = 64 << 10
"""Bytes of a review with its signature."""


class Decision(StrEnum):
    """A reviewer's word."""

    ACCEPT = "accept"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What a reviewer says."""

    genesis: Digest
    """The deployment."""
    delivery: str
    reviewer: PersonId
    artifact: Digest
    records: Digest
    """Digest of the last record that the reviewer saw, which is the one of `scanned`."""
    decision: Decision

    def to_bytes(self) -> bytes:
        """Return the canonical bytes, which are signed."""
        body: dict[str, Json] = {
            "v": 1,
            "genesis": str(self.genesis),
            "delivery": self.delivery,
            "reviewer": self.reviewer,
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
                genesis=f.digest("genesis"),
                delivery=f.parsed("delivery", delivery_id),
                reviewer=f.parsed("reviewer", person_id),
                artifact=f.digest("artifact"),
                records=f.digest("records"),
                decision=f.parsed("decision", Decision),
            )


def check_reviews(
    signed: Sequence[Envelope],
    wanted: Review,
    reviewers: Mapping[PersonId, Iterable[PublicKey]],
    *,
    threshold: int,
) -> frozenset[PersonId]:
    """Check that ``threshold`` people accept ``wanted`` and that nobody denies it; returns who accepts.

    ``wanted`` says what is reviewed; its own reviewer and decision don't count. A person with several keys counts
    once. A review of something else, or by somebody else, counts for nothing.

    :raises IntakeRefusedError: review-denied.
    :raises PendingError: too few accept so far.
    :raises SignatureError: a review by a known key whose signature doesn't hold.
    """
    holders = {key.key_id: (person, key) for person, keys in reviewers.items() for key in keys}
    accepting: set[PersonId] = set()
    for one in signed:
        known = [holders[signature.key_id] for signature in one.signatures if signature.key_id in holders]
        if one.kind != REVIEW_TYPE or not known:
            continue
        envelope.verify(one, REVIEW_TYPE, [key for _person, key in known], threshold=1)
        review = Review.parse(one.payload)
        same = replace(review, decision=wanted.decision, reviewer=wanted.reviewer) == wanted
        if not same or review.reviewer not in {person for person, _key in known}:
            continue
        if review.decision is Decision.DENY:
            raise IntakeRefusedError(Rule.REVIEW_DENIED, f"`{review.reviewer}` denies this delivery")
        accepting.add(review.reviewer)
    if len(accepting) < threshold:
        raise PendingError(f"{len(accepting)} of the {threshold} reviews needed are there", reason="intake-unreviewed")
    return frozenset(accepting)
