"""The decision: born denied, allowed only when the invariants and Cedar both allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from strongroom.access.facts import Facts
from strongroom.access.invariants import Reason, broken


class PolicyEngine(Protocol):
    """Whatever evaluates the signed policy set over the facts."""

    def allows(self, facts: Facts) -> tuple[str, ...] | None:
        """Return the ids of the policies that allow, or None."""
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
