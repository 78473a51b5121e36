"""Two decisions that aren't about a grant: may somebody speak (ask, approve), and may the rules themselves change.

Like every decision they are made twice, here and by the Cedar policies in force, and both must allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.access.facts import PersonFacts
from strongroom.core.clock import Instant
from strongroom.core.ids import ModelId, PersonId
from strongroom.framework.levels import SecurityLevel

CHANGE_DELAY_LEVEL: Final = SecurityLevel.SL4
CHANGE_DELAY: Final = 86400
"""At SL4 and above a change of roster, policy or measurements waits at least this many seconds (SL4-WMO-01)."""


class Voice(StrEnum):
    """What somebody wants to say. The names are Cedar action ids."""

    REQUEST = "request"
    APPROVE = "approve"


class Change(StrEnum):
    """What the root quorum wants to change. The names are Cedar action ids."""

    ROSTER = "change-roster"
    POLICY = "change-policy"
    MEASUREMENTS = "set-measurements"
    EGRESS = "change-egress"


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceFacts:
    """Who speaks about whose request, on which model."""

    now: Instant
    voice: Voice
    person: PersonFacts
    requester: PersonId
    model: ModelId
    level: SecurityLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFacts:
    """A document that the root quorum signed, and how long everybody could have seen it."""

    now: Instant
    change: Change
    level: SecurityLevel
    """The highest level of any model under the policy in force."""
    loosens: bool
    """It could allow more than what is in force. A first document has nothing to protect by waiting, and to take a
    measurement or a root away must not wait."""
    signatures: int
    threshold: int
    proposed_at: Instant
    stopped: bool


def voice_broken(facts: VoiceFacts) -> Iterator[tuple[str, str]]:
    """Yield why somebody may not speak: a code, and what would pass. Whether it counts is decided at each use."""
    who = facts.person
    if not who.active:
        yield "person-inactive", f"`{who.id}` must be active in the current roster, and not suspended"
    if facts.voice is Voice.APPROVE and who.id == facts.requester:
        yield "self-approval", f"`{who.id}` made the request and can't approve it"
    if facts.voice is Voice.APPROVE and not who.human:
        yield "approver-not-human", f"`{who.id}` is an agent: people agree, agents don't"


def change_broken(facts: ChangeFacts) -> Iterator[tuple[str, str]]:
    """Yield why a change may not come into force: a code, and what would pass."""
    if facts.signatures < facts.threshold:
        yield "root-quorum-not-met", f"{facts.threshold} root holders must sign"
    if facts.stopped:
        yield "change-stopped", "an approver stopped this document; draft another"
    waited = facts.now - facts.proposed_at
    if facts.level.rank >= CHANGE_DELAY_LEVEL.rank and facts.loosens and waited < CHANGE_DELAY:
        left = CHANGE_DELAY - waited
        yield "change-waits", f"it comes into force {left} seconds from now, unless an approver stops it"
