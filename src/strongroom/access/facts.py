"""The facts of one decision: what was established about a request, its people and its enclave, and when.

They have a canonical form, so that a decision can be kept, named in the log by its digest, and made again later: by an
auditor, or under the rules that somebody proposes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.access.policy import MAX_APPROVALS, RAND_CAPS, Caps, ModelTerms, Rule
from strongroom.access.request import OPENS, Action, Purpose, Request
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId, person_id
from strongroom.framework.levels import SecurityLevel

MAX_FACTS: Final = 262_144


class AccessClass(StrEnum):
    """The class of access that a grant gives: what RAND's caps on people count."""

    NONE = "none"
    """Stops or restores access, and gives none."""
    OUTPUT = "output"
    """What a model answers, through an enclave whose output is limited."""
    ISOLATED = "isolated"
    """Work beside the opened weights on an isolated machine."""
    COPY = "copy"
    """Able to hold a copy: who seals has the plaintext, who exports gets the data key."""


_OUTPUT_ONLY: Final = frozenset({Purpose.SERVE, Purpose.EVALUATE})
WAITS_AGREED: Final = frozenset({Action.DESTROY})
"""Actions that can't be undone: their delay runs from the grant, when everybody can see what was agreed."""
DESTROY_DELAYS: Final = {
    SecurityLevel.SL3: 24 * 3600,
    SecurityLevel.SL4: 72 * 3600,
    SecurityLevel.SL5: 72 * 3600,
}
"""Seconds that a destruction waits at least, whatever the rule says; below SL3 the rule alone decides."""


def access_class(request: Request) -> AccessClass:
    """Return the class of access that a request asks for."""
    if request.action in {Action.SEAL, Action.EXPORT_PLAINTEXT}:
        return AccessClass.COPY
    if request.action in OPENS:
        return AccessClass.OUTPUT if request.purpose in _OUTPUT_ONLY else AccessClass.ISOLATED
    return AccessClass.NONE


def cap_of(caps: Caps, access: AccessClass) -> int | None:
    """Return how many people may hold a class of access; None where nothing is counted."""
    return {AccessClass.OUTPUT: caps.output, AccessClass.ISOLATED: caps.isolated, AccessClass.COPY: caps.copy}.get(
        access
    )


def delay_of(rule: Rule, level: SecurityLevel) -> int:
    """Return how many seconds an action waits: what its rule says, and never less than its floor."""
    return max(rule.delay, DESTROY_DELAYS.get(level, 0) if rule.action is Action.DESTROY else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonFacts:
    """What the roster, the vetting record in force and the log say of one person. Nobody is cleared by default."""

    id: PersonId
    org: str
    roles: frozenset[str]
    human: bool = True
    active: bool = False
    """In the roster, not suspended, and for an agent: so is the sponsor."""
    employment: str = ""
    """As the vetting record says; empty without one."""
    tier: int = 0
    vetted_until: Instant = 0
    """0 when there is no vetting record."""
    copy_until: Instant = 0
    conflict: bool = False
    nda: bool = False
    courses: frozenset[str] = frozenset()
    hardware: bool = False
    """The signature in question was made by a security key that verified its user."""
    approved_at: Instant | None = None
    """When the log recorded this person's approval; None where there is none."""

    @classmethod
    def read(cls, fields: Fields) -> PersonFacts:
        """Read the JSON form."""
        return cls(
            id=fields.parsed("id", person_id),
            org=fields.text("org", max_length=64),
            roles=frozenset(fields.texts("roles", most=16, max_length=48)),
            human=fields.boolean("human"),
            active=fields.boolean("active"),
            employment=fields.text("employment", max_length=16),
            tier=fields.integer("tier", most=5),
            vetted_until=fields.instant("vetted_until"),
            copy_until=fields.instant("copy_until"),
            conflict=fields.boolean("conflict"),
            nda=fields.boolean("nda"),
            courses=frozenset(fields.texts("courses", most=32, max_length=48)),
            hardware=fields.boolean("hardware"),
            approved_at=fields.instant("approved_at") if fields.optional("approved_at") else None,
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "id": self.id,
            "org": self.org,
            "roles": [*sorted(self.roles)],
            "human": self.human,
            "active": self.active,
            "employment": self.employment,
            "tier": self.tier,
            "vetted_until": format_instant(self.vetted_until),
            "copy_until": format_instant(self.copy_until),
            "conflict": self.conflict,
            "nda": self.nda,
            "courses": [*sorted(self.courses)],
            "hardware": self.hardware,
            "approved_at": None if self.approved_at is None else format_instant(self.approved_at),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveFacts:
    """What attestation established. Absent where the action involves no enclave."""

    isolation: int
    """Rank of the isolation class that the evidence supports."""
    least_isolation: int
    """Rank that the model's terms demand."""
    level_cap: int
    """Rank of the highest security level at which such evidence may serve production weights; 0 for none."""
    measurement_current: bool
    """The quoted measurement is the one that the request names and that the current reference values allow."""
    platform_named: bool
    """The request names the enrolled platform that sent the evidence."""

    @classmethod
    def read(cls, fields: Fields) -> EnclaveFacts:
        """Read the JSON form."""
        with fields:
            return cls(
                isolation=fields.integer("isolation", most=64),
                least_isolation=fields.integer("least_isolation", most=64),
                level_cap=fields.integer("level_cap", most=5),
                measurement_current=fields.boolean("measurement_current"),
                platform_named=fields.boolean("platform_named"),
            )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "isolation": self.isolation,
            "least_isolation": self.least_isolation,
            "level_cap": self.level_cap,
            "measurement_current": self.measurement_current,
            "platform_named": self.platform_named,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that :func:`strongroom.access.decision.decide` looks at; nothing else may sway it."""

    now: Instant
    request: Request
    terms: ModelTerms
    rule: Rule
    caps: Caps = RAND_CAPS
    requester: PersonFacts
    approvers: tuple[PersonFacts, ...]
    """People of the current roster whose approval signatures verified; each person once."""
    repeated: frozenset[PersonId]
    """Those of the approvers who approved more than once, with whichever key."""
    recorded_at: Instant
    """When the log recorded the request."""
    granted_at: Instant | None = None
    """When the grant was issued; None before."""
    denied: bool
    """Some eligible person's denial, or a revocation, stands in the log."""
    frozen: bool
    uses_left: int
    holders: int = 0
    """People, the requester among them, with live grants of this class of access to models at SL3 and above."""
    review_overdue: bool = False
    """A break-glass opening of this model wasn't reviewed in time: its rules are tighter until it is."""
    approver_more: bool = False
    """A responder's precaution about the requester stands: it slows whatever doesn't only stop something."""
    enclave: EnclaveFacts | None

    @property
    def waits_from(self) -> Instant:
        """When the action's delay began: when it was recorded, or agreed on; now for one that waits to be agreed on."""
        if self.request.action not in WAITS_AGREED:
            return self.recorded_at
        return self.now if self.granted_at is None else self.granted_at

    @property
    def delay(self) -> int:
        """How long the action waits, in seconds: the rule's delay, and never less than its floor."""
        return delay_of(self.rule, self.terms.level)

    @classmethod
    def parse(cls, payload: bytes) -> Facts:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(payload, max_bytes=MAX_FACTS), "facts") as fields:
            fields.constant("v", 1)
            enclave = EnclaveFacts.read(fields.child("enclave")) if fields.optional("enclave") else None
            with (
                fields.child("terms") as terms,
                fields.child("rule") as rule,
                fields.child("requester") as requester,
            ):
                return cls(
                    now=fields.instant("now"),
                    request=Request.parse(encode(fields.value("request"))),
                    terms=ModelTerms.read(terms),
                    rule=Rule.read(rule),
                    caps=Caps.read(fields.child("caps")),
                    requester=PersonFacts.read(requester),
                    approvers=fields.objects("approvers", PersonFacts.read, most=MAX_APPROVALS),
                    repeated=frozenset(person_id(text) for text in fields.texts("repeated", most=MAX_APPROVALS)),
                    recorded_at=fields.instant("recorded_at"),
                    granted_at=fields.instant("granted_at") if fields.optional("granted_at") else None,
                    denied=fields.boolean("denied"),
                    frozen=fields.boolean("frozen"),
                    uses_left=fields.integer("uses_left", most=1_000_001),
                    holders=fields.integer("holders", most=1_000_000),
                    review_overdue=fields.boolean("review_overdue"),
                    approver_more=fields.boolean("approver_more"),
                    enclave=enclave,
                )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: what a decision's digest in the log is over."""
        return encode(self.to_json())

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "v": 1,
            "now": format_instant(self.now),
            "request": self.request.to_json(),
            "terms": self.terms.to_json(),
            "rule": self.rule.to_json(),
            "caps": self.caps.to_json(),
            "requester": self.requester.to_json(),
            "approvers": [person.to_json() for person in self.approvers],
            "repeated": [*sorted(self.repeated)],
            "recorded_at": format_instant(self.recorded_at),
            "granted_at": None if self.granted_at is None else format_instant(self.granted_at),
            "denied": self.denied,
            "frozen": self.frozen,
            "uses_left": max(0, self.uses_left),
            "holders": self.holders,
            "review_overdue": self.review_overdue,
            "approver_more": self.approver_more,
            "enclave": self.enclave.to_json() if self.enclave else None,
        }
