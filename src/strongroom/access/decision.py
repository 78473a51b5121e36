"""The decision: born denied, allowed only when the invariants and Cedar both allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from strongroom.access.facts import Facts
from strongroom.access.governance import ChangeFacts, VoiceFacts, change_broken, voice_broken
from strongroom.access.invariants import Reason, broken


class PolicyEngine(Protocol):
    """Whatever evaluates the signed policy set over the facts."""

    def allows(self, facts: Facts) -> tuple[str, ...] | None:
        """Return the ids of the policies that allow, or None."""
        ...

    def allows_voice(self, facts: VoiceFacts) -> tuple[str, ...] | None:
        """Return the ids of the policies that let somebody speak, or None."""
        ...

    def allows_change(self, facts: ChangeFacts) -> tuple[str, ...] | None:
        """Return the ids of the policies that let the rules change, or None."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict with its reasons. A decision made without arguments is a refusal."""

    allowed: bool = False
    refusals: tuple[tuple[Reason, str], ...] = ((Reason.POLICY_REFUSES, "no decision was made"),)
    policies: tuple[str, ...] = ()
    """Ids of the Cedar policies that allowed."""


def decide(facts: Facts, engine: PolicyEngine) -> Decision:
    """Decide on the facts. Both judges must allow; the plain-Python reasons are reported, Cedar's never are."""
    refusals = tuple(broken(facts))
    policies = engine.allows(facts)
    if refusals:
        return Decision(refusals=refusals)
    if policies is None:
        return Decision(refusals=((Reason.POLICY_REFUSES, "the signed Cedar policies don't allow this"),))
    return Decision(allowed=True, refusals=(), policies=policies)


def may_speak(facts: VoiceFacts, engine: PolicyEngine) -> tuple[str, str] | None:
    """Return why somebody may not ask or approve (a code, and what would pass), or None when both judges allow."""
    refusal = next(voice_broken(facts), None)
    policies = engine.allows_voice(facts)
    if refusal is None and policies is None:
        return Reason.POLICY_REFUSES.value, "the signed Cedar policies don't allow this"
    return refusal


def may_change(facts: ChangeFacts, engine: PolicyEngine) -> tuple[str, str] | None:
    """Return why the rules may not change (a code, and what would pass), or None when both judges allow."""
    refusal = next(change_broken(facts), None)
    policies = engine.allows_change(facts)
    if refusal is None and policies is None:
        return Reason.POLICY_REFUSES.value, "the signed Cedar policies don't allow this"
    return refusal
