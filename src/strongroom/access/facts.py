"""The facts of one decision: what was established about a request, its people and its enclave, and when."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.access.policy import ModelTerms, Rule
from strongroom.access.request import Request
from strongroom.core.clock import Instant
from strongroom.core.ids import PersonId


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonFacts:
    """What the current roster says of one person."""

    id: PersonId
    org: str
    active: bool
    tier: int
    vetted_until: Instant
    roles: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveFacts:
    """What attestation established. Absent where the action involves no enclave."""

    isolation: int
    """Rank of the isolation class that the evidence supports."""
    least_isolation: int
    """Rank that the model's terms demand."""
    measurement_current: bool
    """The quoted measurement is the one that the request names and that the current reference values allow."""
    platform_named: bool
    """The request names the enrolled platform that sent the evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that :func:`strongroom.access.decision.decide` looks at; nothing else may sway it."""

    now: Instant
    request: Request
    terms: ModelTerms
    rule: Rule
    requester: PersonFacts
    approvers: tuple[PersonFacts, ...]
    """People of the current roster whose approval signatures verified; each person once."""
    repeated: frozenset[PersonId]
    """Those of the approvers who approved more than once, with whichever key."""
    denied: bool
    """Some eligible person's denial, or a revocation, stands in the log."""
    frozen: bool
    uses_left: int
    enclave: EnclaveFacts | None
