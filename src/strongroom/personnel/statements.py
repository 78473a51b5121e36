"""What people other than the root quorum sign about people and access, beside vetting and enrolment.

Erasure      two officers: a person's records become unreadable
Objection    one approver: a proposed change of the rules doesn't come into force
Review       of a break-glass opening, by two people of another unit; of standing access, by a reviewer
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.canonical import decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId, person_id

ERASURE_TYPE: Final = payload_type("erasure.v1")
OBJECTION_TYPE: Final = payload_type("objection.v1")
BREAK_GLASS_REVIEW_TYPE: Final = payload_type("break-glass-review.v1")
ACCESS_REVIEW_TYPE: Final = payload_type("access-review.v1")
MAX_STATEMENT: Final = 65536
MAX_DECISIONS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """A person's vetting records and key are destroyed; what the log says of the pseudonym stays true."""

    genesis: Digest
    person: PersonId

    @classmethod
    def parse(cls, payload: bytes) -> Erasure:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(payload, max_bytes=MAX_STATEMENT), "erasure") as fields:
            fields.constant("v", 1)
            return cls(genesis=fields.digest("genesis"), person=fields.parsed("person", person_id))

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode({"v": 1, "genesis": str(self.genesis), "person": self.person})


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """A proposed document must not come into force."""

    genesis: Digest
    document: Digest

    @classmethod
    def parse(cls, payload: bytes) -> Objection:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(payload, max_bytes=MAX_STATEMENT), "objection") as fields:
            fields.constant("v", 1)
            return cls(genesis=fields.digest("genesis"), document=fields.digest("document"))

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode({"v": 1, "genesis": str(self.genesis), "document": str(self.document)})


class Outcome(StrEnum):
    """What a break-glass review found."""

    JUSTIFIED = "justified"
    UNJUSTIFIED = "unjustified"


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakGlassReview:
    """What a second team found about one break-glass request. ``report`` is the digest of their report."""

    genesis: Digest
    request: Digest
    outcome: Outcome
    report: Digest

    @classmethod
    def parse(cls, payload: bytes) -> BreakGlassReview:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(payload, max_bytes=MAX_STATEMENT), "review") as fields:
            fields.constant("v", 1)
            return cls(
                genesis=fields.digest("genesis"),
                request=fields.digest("request"),
                outcome=fields.parsed("outcome", Outcome),
                report=fields.digest("report"),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "request": str(self.request),
                "outcome": self.outcome.value,
                "report": str(self.report),
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessDecision:
    """A grant that was looked at, and whether it stays."""

    grant: Digest
    keep: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessReview:
    """A reviewer's decision on each grant that was reviewed."""

    genesis: Digest
    at: Instant
    decisions: tuple[AccessDecision, ...]

    @classmethod
    def parse(cls, payload: bytes) -> AccessReview:
        """Read canonical bytes.

        :raises MalformedError: another form, no decision, or two about one grant.
        """
        with Fields(decode(payload, max_bytes=MAX_STATEMENT), "review") as fields:
            fields.constant("v", 1)
            review = cls(
                genesis=fields.digest("genesis"),
                at=fields.instant("at"),
                decisions=fields.objects(
                    "decisions",
                    lambda f: AccessDecision(grant=f.digest("grant"), keep=f.boolean("keep")),
                    most=MAX_DECISIONS,
                ),
            )
        grants = [decision.grant for decision in review.decisions]
        if not grants or len(set(grants)) != len(grants):
            raise MalformedError("an access review decides on at least one grant, and on each once")
        return review

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "at": format_instant(self.at),
                "decisions": [{"grant": str(one.grant), "keep": one.keep} for one in self.decisions],
            }
        )
