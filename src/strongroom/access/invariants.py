"""What must hold whatever the policy says, in plain Python. Cedar may refuse more; it can't allow less.

Written apart from the Cedar policies and from nothing but the facts, so that one engine's mistake isn't the other's.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from strongroom.access.facts import Facts, PersonFacts
from strongroom.access.quorum import fill, missing
from strongroom.access.request import Action
from strongroom.framework.levels import SecurityLevel

QUORUM_FLOOR_LEVEL: Final = SecurityLevel.SL3
QUORUM_FLOOR: Final = 2


class Reason(StrEnum):
    """Why a decision refuses; stable codes."""

    REQUESTER_INACTIVE = "requester-inactive"
    REQUESTER_VETTING_LAPSED = "requester-vetting-lapsed"
    REQUESTER_TIER_TOO_LOW = "requester-tier-too-low"
    REQUESTER_ROLE_MISSING = "requester-role-missing"
    SELF_APPROVAL = "self-approval"
    ONE_PERSON_TWICE = "one-person-twice"
    APPROVER_INACTIVE = "approver-inactive"
    APPROVER_VETTING_LAPSED = "approver-vetting-lapsed"
    APPROVER_TIER_TOO_LOW = "approver-tier-too-low"
    QUORUM_NOT_MET = "quorum-not-met"
    QUORUM_BELOW_FLOOR = "quorum-below-floor"
    NOT_YET_VALID = "not-yet-valid"
    EXPIRED = "request-expired"
    WINDOW_TOO_LONG = "window-too-long"
    USES_TOO_MANY = "uses-too-many"
    USES_SPENT = "grant-spent"
    DENIED = "request-denied"
    FROZEN = "model-frozen"
    ENCLAVE_MISSING = "enclave-missing"
    MEASUREMENT_UNKNOWN = "measurement-unknown"
    PLATFORM_NOT_NAMED = "platform-not-named"
    ISOLATION_TOO_WEAK = "isolation-too-weak"
    POLICY_REFUSES = "policy-refuses"


def eligible(person: PersonFacts, facts: Facts) -> bool:
    """Tell whether a person's approval counts now: active, vetted now, high enough, and not the requester."""
    return (
        person.active
        and facts.now < person.vetted_until
        and person.tier >= facts.rule.approver_tier
        and person.id != facts.requester.id
    )


def quorum_met(facts: Facts) -> bool:
    """Tell whether distinct, eligible people fill every factor of the rule."""
    return fill(facts.rule.factors, {p.id: p.roles for p in facts.approvers if eligible(p, facts)}) is not None


def broken(facts: Facts) -> Iterator[tuple[Reason, str]]:
    """Yield every invariant that doesn't hold: a code, and what would pass."""
    yield from _requester(facts)
    yield from _window(facts)
    yield from _quorum(facts)
    if facts.denied:
        yield Reason.DENIED, "a denial or revocation stands in the log; make a new request"
    if facts.request.action is Action.OPEN_IN_ENCLAVE:
        yield from _enclave(facts)


def _requester(facts: Facts) -> Iterator[tuple[Reason, str]]:
    who = facts.requester
    if not who.active:
        yield Reason.REQUESTER_INACTIVE, f"`{who.id}` must be active in the current roster"
    if facts.now >= who.vetted_until:
        yield Reason.REQUESTER_VETTING_LAPSED, f"the vetting of `{who.id}` must be current"
    if who.tier < facts.rule.requester_tier:
        yield Reason.REQUESTER_TIER_TOO_LOW, f"`{who.id}` needs vetting tier {facts.rule.requester_tier}"
    if facts.rule.requester_role not in who.roles:
        yield Reason.REQUESTER_ROLE_MISSING, f"`{who.id}` needs the role `{facts.rule.requester_role}`"


def _window(facts: Facts) -> Iterator[tuple[Reason, str]]:
    request, rule = facts.request, facts.rule
    if facts.now < request.not_before:
        yield Reason.NOT_YET_VALID, "wait until the request's window begins"
    if facts.now >= request.expires:
        yield Reason.EXPIRED, "make a new request"
    if request.expires - request.not_before > rule.max_window:
        yield Reason.WINDOW_TOO_LONG, f"ask for at most {rule.max_window} seconds"
    if request.max_uses > rule.max_uses:
        yield Reason.USES_TOO_MANY, f"ask for at most {rule.max_uses} uses"
    if facts.uses_left < 1:
        yield Reason.USES_SPENT, "every use of this grant is recorded in the log; make a new request"


def _quorum(facts: Facts) -> Iterator[tuple[Reason, str]]:
    rule = facts.rule
    if any(person.id == facts.requester.id for person in facts.approvers):
        yield Reason.SELF_APPROVAL, f"`{facts.requester.id}` made the request and can't approve it"
    counted = {p.id: p.roles for p in facts.approvers if eligible(p, facts)}
    if fill(rule.factors, counted) is None:
        yield from _not_counted(facts)
        roles = ", ".join(f"`{role}`" for role in missing(rule.factors, counted))
        yield Reason.QUORUM_NOT_MET, f"still needed, each by a different person with current vetting: {roles}"
    wanted = sum(factor.count for factor in rule.factors)
    above_floor = facts.terms.level.rank >= QUORUM_FLOOR_LEVEL.rank
    if above_floor and facts.request.action is not Action.FREEZE and wanted < QUORUM_FLOOR:
        yield (
            Reason.QUORUM_BELOW_FLOOR,
            f"at {QUORUM_FLOOR_LEVEL.value} and above a rule needs {QUORUM_FLOOR} approvers",
        )
    if facts.request.action is Action.RESUME and wanted < QUORUM_FLOOR:
        yield Reason.QUORUM_BELOW_FLOOR, f"resuming takes {QUORUM_FLOOR} people at every level"


def _not_counted(facts: Facts) -> Iterator[tuple[Reason, str]]:
    for person in facts.approvers:
        if person.id in facts.repeated:
            yield Reason.ONE_PERSON_TWICE, f"`{person.id}` approved more than once and counts once"
        if not person.active:
            yield Reason.APPROVER_INACTIVE, f"`{person.id}` must be active in the current roster"
        elif facts.now >= person.vetted_until:
            yield Reason.APPROVER_VETTING_LAPSED, f"the vetting of `{person.id}` must be current"
        elif person.tier < facts.rule.approver_tier:
            yield Reason.APPROVER_TIER_TOO_LOW, f"`{person.id}` needs vetting tier {facts.rule.approver_tier}"


def _enclave(facts: Facts) -> Iterator[tuple[Reason, str]]:
    if facts.frozen:
        yield Reason.FROZEN, f"model `{facts.request.model}` must be resumed by its quorum"
    if facts.enclave is None:
        yield Reason.ENCLAVE_MISSING, "the enclave must send evidence"
        return
    if not facts.enclave.measurement_current:
        yield Reason.MEASUREMENT_UNKNOWN, "the enclave must run exactly what the request and the reference values name"
    if not facts.enclave.platform_named:
        yield Reason.PLATFORM_NOT_NAMED, "use a platform that the request names"
    if facts.enclave.isolation < facts.enclave.least_isolation:
        yield (
            Reason.ISOLATION_TOO_WEAK,
            f"model `{facts.request.model}` needs `{facts.terms.least_isolation}` or stronger",
        )
