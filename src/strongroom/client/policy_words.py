"""A policy in words: who may do what, by which rule and which Cedar policies, and what stands above every rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from strongroom.access.clearance import COPY_LEVEL, HARDWARE_LEVEL
from strongroom.access.decision import PolicyEngine, decide
from strongroom.access.facts import AccessClass, Facts, access_class, cap_of, delay_of
from strongroom.access.invariants import (
    ALWAYS_TWO,
    BREAK_GLASS_SECONDS,
    CAP_LEVEL,
    CUSTODIAN,
    QUORUM_FLOOR_LEVEL,
    describe,
)
from strongroom.access.legitimate import OTHER_UNIT, legitimate
from strongroom.access.policy import ModelTerms, NoRuleError, Policy, Rule
from strongroom.access.request import OPENS, Action, Purpose
from strongroom.client.render import duration, waits_from
from strongroom.core.ids import ModelId
from strongroom.framework.levels import SecurityLevel

_PURPOSES: Final = (Purpose.EVALUATE, Purpose.RESEARCH)
"""One purpose of each class of access."""


def explained(policy: Policy, engine: PolicyEngine, action: Action, level: SecurityLevel) -> tuple[str, ...]:
    """Return who may carry out an action at a level, and by what."""
    head = f"{action.value} at {level.value}"
    try:
        rule = policy.rule(action, level)
    except NoRuleError:
        return (f"{head}: nobody. The policy has no rule for it, and what has no rule is refused.",)
    terms = _terms(policy, action, level)
    tries = {purpose: legitimate(rule, terms, policy.caps, purpose) for purpose in _PURPOSES}
    return (
        f"{head}:",
        *(f"  {line}" for line in _asks(rule, level)),
        *(f"  {line}" for line in _agree(rule)),
        *(f"  {line}" for line in _within(rule, level)),
        *(f"  {line}" for line in _capped(policy, level, tries)),
        *(f"  {line}" for line in _always(rule, level)),
        *(f"  {line}" for line in _allowed_by(tries, engine)),
    )


def _terms(policy: Policy, action: Action, level: SecurityLevel) -> ModelTerms:
    at_level = [terms for terms in policy.models if terms.level is level]
    exported = [terms for terms in at_level if terms.export] if action is Action.EXPORT_PLAINTEXT else at_level
    anything = ModelTerms(
        model=ModelId("any-model"), level=level, least_isolation="", owner=OTHER_UNIT, export=not at_level
    )
    return (exported or at_level or [anything])[0]


def _asks(rule: Rule, level: SecurityLevel) -> Iterator[str]:
    yield f"asks      somebody active with the role `{rule.requester_role}`, vetted to tier {rule.requester_tier}"
    if rule.action is not Action.FREEZE and (rule.hardware or level.rank >= HARDWARE_LEVEL.rank):
        yield "          requester and approvers sign with security keys"
    if rule.nda:
        yield "          they signed the non-disclosure agreement"
    if rule.courses:
        yield f"          they passed: {', '.join(f'`{course}`' for course in rule.courses)}"
    if rule.action in {Action.SEAL, Action.EXPORT_PLAINTEXT} and level.rank >= COPY_LEVEL.rank:
        yield "          the requester was screened within 180 days, being able to copy"


def _agree(rule: Rule) -> Iterator[str]:
    if not rule.factors:
        yield "agrees    nobody else is asked"
        return
    people = " and ".join(f"{factor.count} x {describe(factor)}" for factor in rule.factors)
    yield f"agrees    {people}: different people, none of them the requester or an agent"
    yield f"          vetted to tier {rule.approver_tier}, at most {duration(rule.approval_life)} before the grant"


def _within(rule: Rule, level: SecurityLevel) -> Iterator[str]:
    most = min(rule.max_window, BREAK_GLASS_SECONDS) if rule.action is Action.BREAK_GLASS else rule.max_window
    uses = "once" if rule.max_uses == 1 else f"up to {rule.max_uses} times"
    yield f"within    {duration(most)}, {uses}"
    if delay := delay_of(rule, level):
        yield f"          at the earliest {duration(delay)} after {waits_from(rule.action)}"


def _capped(policy: Policy, level: SecurityLevel, tries: dict[Purpose, Facts]) -> Iterator[str]:
    if level.rank < CAP_LEVEL.rank:
        return
    for access in dict.fromkeys(access_class(facts.request) for facts in tries.values()):
        cap = cap_of(policy.caps, access)
        if cap is not None:
            yield f"people    at most {cap} with `{access.value}` access at a time"


def _always(rule: Rule, level: SecurityLevel) -> Iterator[str]:
    if rule.action in ALWAYS_TWO:
        yield "always    two others must agree, at every level"
    elif rule.action is not Action.FREEZE and level.rank >= QUORUM_FLOOR_LEVEL.rank:
        yield f"always    two others must agree, from {QUORUM_FLOOR_LEVEL.value} on"
    if rule.action is Action.BREAK_GLASS:
        yield "always    reviewed afterwards; until it is, one approver more for everything on that model"
    if rule.action in OPENS:
        yield f"always    evidence whose class supports {level.value}, unless the weights are signed as `test`"
    if rule.action is Action.EXPORT_PLAINTEXT:
        yield "always    only of models whose terms allow export"
    if rule.action is Action.DESTROY:
        yield f"always    one of those who agree has the role `{CUSTODIAN}`"


def _allowed_by(tries: dict[Purpose, Facts], engine: PolicyEngine) -> Iterator[str]:
    by_class: dict[AccessClass, Facts] = {}
    for facts in tries.values():
        by_class.setdefault(access_class(facts.request), facts)
    for access, facts in by_class.items():
        decision = decide(facts, engine)
        of_class = f" for `{access.value}` access" if len(by_class) > 1 else ""
        if decision.allowed:
            ids = ", ".join(f"`{name}`" for name in decision.policies)
            yield f"Cedar     allowed{of_class} by {ids}"
        else:
            why = "; ".join(f"{reason.value}, {remedy}" for reason, remedy in decision.refusals)
            yield f"NOBODY    can{of_class}: {why}"
