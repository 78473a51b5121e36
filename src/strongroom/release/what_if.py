"""What would a draft policy have decided? Recorded decisions, made again on the facts that they were made on. Pure.

A decision's digest stands in the log, so nobody can hand in another history than the one that was recorded. Each is
also made again under its own rule and the Cedar policies of its day: were that control to come out otherwise than
recorded, the difference that a draft seems to make would mean nothing.

What the facts don't hold can't be tried: how many people held grants is counted as it was then, over the models that
were at SL3 and above then, and a request that was refused before step 4.9 left no facts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from strongroom.access.decision import Decision, PolicyEngine, decide
from strongroom.access.facts import Facts
from strongroom.access.invariants import Reason
from strongroom.access.policy import NoRuleError, Policy
from strongroom.release.decided import Decided
from strongroom.release.documents import isolation_rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One recorded decision, made again."""

    decided: Decided
    drafted: Decision
    """Under the draft."""
    control: Decision | None
    """Under the rule of its day; None where the Cedar policies of its day aren't to be had."""

    @property
    def reproduced(self) -> bool:
        """The control came out as recorded, for the same reasons."""
        return self.control is not None and (
            self.control.allowed is self.decided.allowed and reasons(self.control) == recorded_reasons(self.decided)
        )

    @property
    def changed(self) -> bool:
        """The draft decides otherwise than was decided."""
        return self.drafted.allowed is not self.decided.allowed

    @property
    def looser(self) -> bool:
        """What was refused would be allowed."""
        return self.drafted.allowed and not self.decided.allowed


def try_out(decided: Decided, policy: Policy, engine: PolicyEngine, then: PolicyEngine | None) -> Trial:
    """Make a decision again, under a draft and under its own rule.

    :param engine: the draft's Cedar policies. :param then: those that were in force when it was decided.
    """
    control = None if then is None else decide(decided.facts, then)
    return Trial(decided=decided, drafted=redecide(decided, policy, engine), control=control)


def redecide(decided: Decided, policy: Policy, engine: PolicyEngine) -> Decision:
    """Return what a policy decides on recorded facts: its rule, the model's terms and caps, its Cedar policies."""
    try:
        facts = under(decided.facts, policy)
    except NoRuleError as error:
        return Decision(refusals=((Reason.POLICY_REFUSES, error.message),))
    return decide(facts, engine)


def under(facts: Facts, policy: Policy) -> Facts:
    """Return the facts with a policy's rule, terms and caps in place of those that they were decided by.

    :raises NoRuleError: the policy doesn't know the model, or has no rule for the action at the model's level.
    """
    terms = policy.terms(facts.request.model)
    enclave = facts.enclave
    if enclave is not None:
        enclave = replace(enclave, least_isolation=isolation_rank(terms.least_isolation))
    rule = policy.rule(facts.request.action, terms.level)
    return replace(facts, terms=terms, rule=rule, caps=policy.caps, enclave=enclave)


def reasons(decision: Decision) -> tuple[str, ...]:
    """Return the codes of a refusal, in order; none of an allowance."""
    return tuple(reason.value for reason, _text in decision.refusals)


def recorded_reasons(decided: Decided) -> tuple[str, ...]:
    """Return the codes that a recorded refusal gave, in order."""
    return (*(check.reason for check in decided.checks if not check.passed), *(reason for reason, _ in decided.others))
