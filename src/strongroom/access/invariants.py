"""What must hold whatever the policy says, in plain Python. Cedar may refuse more; it can't allow less.

Written apart from the Cedar policies and from nothing but the facts, so that one engine's mistake isn't the other's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from typing import Final

from strongroom.access.clearance import ANYONE, approver_lacks, eligible, fits, requester_lacks
from strongroom.access.facts import WAITS_AGREED, Facts, access_class, cap_of
from strongroom.access.policy import Factor, Unit, Weights
from strongroom.access.quorum import fill, missing
from strongroom.access.request import OPENS, STOPS, Action
from strongroom.core.ids import PersonId
from strongroom.framework.levels import SecurityLevel

QUORUM_FLOOR_LEVEL: Final = SecurityLevel.SL3
QUORUM_FLOOR: Final = 2
CAP_LEVEL: Final = SecurityLevel.SL3
NO_EXPORT_LEVEL: Final = SecurityLevel.SL5
CUSTODIAN: Final = "key-custodian"
"""The role of who answers for keys: a holder of a root key or of a share of it. The root quorum signs who has it."""
BREAK_GLASS_SECONDS: Final = 3600
ALWAYS_TWO: Final = frozenset({Action.RESUME, Action.LIFT, Action.BREAK_GLASS, Action.EXPORT_PLAINTEXT, Action.DESTROY})
"""Actions that two others must agree to at every level."""


class Reason(StrEnum):
    """Why a decision refuses; stable codes. Those of people are made of :class:`~.clearance.Shortcoming`."""

    REQUESTER_INACTIVE = "requester-inactive"
    REQUESTER_NOT_VETTED = "requester-not-vetted"
    REQUESTER_VETTING_LAPSED = "requester-vetting-lapsed"
    REQUESTER_TIER_TOO_LOW = "requester-tier-too-low"
    REQUESTER_EMPLOYMENT = "requester-employment"
    REQUESTER_CONFLICT = "requester-conflict-open"
    REQUESTER_NDA_MISSING = "requester-nda-missing"
    REQUESTER_TRAINING_LAPSED = "requester-training-lapsed"
    REQUESTER_COPY_SCREENING_LAPSED = "requester-copy-screening-lapsed"
    REQUESTER_KEY_NOT_HARDWARE = "requester-key-not-hardware"
    REQUESTER_ROLE_MISSING = "requester-role-missing"
    SELF_APPROVAL = "self-approval"
    ONE_PERSON_TWICE = "one-person-twice"
    APPROVER_NOT_HUMAN = "approver-not-human"
    APPROVER_INACTIVE = "approver-inactive"
    APPROVER_NOT_VETTED = "approver-not-vetted"
    APPROVER_VETTING_LAPSED = "approver-vetting-lapsed"
    APPROVER_TIER_TOO_LOW = "approver-tier-too-low"
    APPROVER_EMPLOYMENT = "approver-employment"
    APPROVER_CONFLICT = "approver-conflict-open"
    APPROVER_NDA_MISSING = "approver-nda-missing"
    APPROVER_TRAINING_LAPSED = "approver-training-lapsed"
    APPROVER_KEY_NOT_HARDWARE = "approver-key-not-hardware"
    APPROVAL_NOT_RECORDED = "approver-approval-not-recorded"
    APPROVAL_STALE = "approver-approval-stale"
    QUORUM_NOT_MET = "quorum-not-met"
    ONE_APPROVER_MORE = "one-approver-more"
    QUORUM_BELOW_FLOOR = "quorum-below-floor"
    COOLING_OFF = "cooling-off"
    NOT_YET_VALID = "not-yet-valid"
    EXPIRED = "request-expired"
    WINDOW_TOO_LONG = "window-too-long"
    USES_TOO_MANY = "uses-too-many"
    USES_SPENT = "grant-spent"
    DENIED = "request-denied"
    CAP_REACHED = "cap-reached"
    REVIEW_OVERDUE = "break-glass-review-overdue"
    EXPORT_DISABLED = "export-disabled"
    FROZEN = "model-frozen"
    MODEL_DESTROYED = "model-destroyed"
    HELD = "model-held"
    ENCLAVE_MISSING = "enclave-missing"
    MEASUREMENT_UNKNOWN = "measurement-unknown"
    PLATFORM_NOT_NAMED = "platform-not-named"
    ISOLATION_TOO_WEAK = "isolation-too-weak"
    ISOLATION_FOR_TESTS = "isolation-for-test-weights"
    ISOLATION_BELOW_LEVEL = "isolation-below-level"
    POLICY_REFUSES = "policy-refuses"


def factors_of(facts: Facts) -> tuple[Factor, ...]:
    """Return the factors that count now: the rule's, a key custodian for a destruction whatever the rule says, and one
    more person each while a break-glass review is overdue, and while a precaution about the requester stands.
    """
    factors = facts.rule.factors
    if facts.request.action is Action.DESTROY and all(factor.role != CUSTODIAN for factor in factors):
        factors = (*factors, Factor(role=CUSTODIAN, count=1))
    if facts.review_overdue and facts.request.action is not Action.FREEZE:
        factors = (*factors, Factor(role=ANYONE, count=1))
    if facts.approver_more and facts.request.action not in STOPS:
        factors = (*factors, Factor(role=ANYONE, count=1))
    return factors


def quorum(facts: Facts) -> dict[PersonId, Factor] | None:
    """Return who fills which factor: distinct, eligible people fill every one; else None."""
    people = {person.id: person for person in facts.approvers if eligible(person, facts)}
    return fill(factors_of(facts), people, lambda who, factor: fits(people[who], factor, facts))


def broken(facts: Facts) -> Iterator[tuple[Reason, str]]:
    """Yield every invariant that doesn't hold: a code, and what would pass."""
    for lack, remedy in requester_lacks(facts):
        yield Reason(f"requester-{lack.value}"), remedy
    yield from _window(facts)
    yield from _quorum(facts)
    yield from _caps(facts)
    if facts.denied:
        yield Reason.DENIED, "a denial, revocation or suspension since then stands in the log; make a new request"
    if facts.request.action in OPENS:
        yield from _enclave(facts)
    if facts.request.action is Action.EXPORT_PLAINTEXT:
        yield from _export(facts)
    if facts.request.action is Action.DESTROY and facts.frozen:
        yield (
            Reason.FROZEN,
            f"somebody froze `{facts.request.model}` after this was agreed on; its quorum must resume it",
        )


def _window(facts: Facts) -> Iterator[tuple[Reason, str]]:
    request, rule = facts.request, facts.rule
    if facts.now < request.not_before:
        yield Reason.NOT_YET_VALID, "wait until the request's window begins"
    if facts.now - facts.waits_from < facts.delay:
        since = "its quorum agreed" if request.action in WAITS_AGREED else "the request was recorded"
        yield Reason.COOLING_OFF, f"wait until {facts.delay} seconds after {since}"
    if facts.now >= request.expires:
        yield Reason.EXPIRED, "make a new request"
    most = rule.max_window
    if request.action is Action.BREAK_GLASS:
        most = min(most, BREAK_GLASS_SECONDS)
    if request.expires - request.not_before > most:
        yield Reason.WINDOW_TOO_LONG, f"ask for at most {most} seconds"
    if request.max_uses > rule.max_uses:
        yield Reason.USES_TOO_MANY, f"ask for at most {rule.max_uses} uses"
    if facts.uses_left < 1:
        yield Reason.USES_SPENT, "every use of this grant is recorded in the log; make a new request"


def _quorum(facts: Facts) -> Iterator[tuple[Reason, str]]:
    rule, action = facts.rule, facts.request.action
    if any(person.id == facts.requester.id for person in facts.approvers):
        yield Reason.SELF_APPROVAL, f"`{facts.requester.id}` made the request and can't approve it"
    if quorum(facts) is None:
        yield from _not_counted(facts)
        needed = f"still needed, each by a different person with current vetting: {_empty(facts)}"
        if facts.approver_more and quorum(replace(facts, approver_more=False)) is not None:
            yield Reason.ONE_APPROVER_MORE, f"{needed}: a precaution about `{facts.requester.id}` asks for one more"
        else:
            yield Reason.QUORUM_NOT_MET, needed
    above_floor = facts.terms.level.rank >= QUORUM_FLOOR_LEVEL.rank
    if above_floor and action is not Action.FREEZE and rule.quorum < QUORUM_FLOOR:
        yield (
            Reason.QUORUM_BELOW_FLOOR,
            f"at {QUORUM_FLOOR_LEVEL.value} and above a rule needs {QUORUM_FLOOR} approvers",
        )
    elif action in ALWAYS_TWO and rule.quorum < QUORUM_FLOOR:
        yield Reason.QUORUM_BELOW_FLOOR, f"`{action.value}` takes {QUORUM_FLOOR} approvers at every level"


def _empty(facts: Facts) -> str:
    people = {person.id: person for person in facts.approvers if eligible(person, facts)}
    places = missing(factors_of(facts), people, lambda who, factor: fits(people[who], factor, facts))
    # A rule may want the same sort of person many times: counted, so that the text stays short.
    wanted = Counter(describe(factor) for factor in places)
    return ", ".join(f"{count} x {who}" if count > 1 else who for who, count in wanted.items())


def describe(factor: Factor) -> str:
    """Say in words who fills a factor."""
    role = "any approver" if factor.role == ANYONE else f"`{factor.role}`"
    units = {Unit.ANY: "", Unit.OWNER: " of the unit that owns the model", Unit.OTHER: " of another unit"}
    return role + units[factor.unit]


def _not_counted(facts: Facts) -> Iterator[tuple[Reason, str]]:
    for person in facts.approvers:
        if person.id in facts.repeated:
            yield Reason.ONE_PERSON_TWICE, f"`{person.id}` approved more than once and counts once"
        if person.id != facts.requester.id:
            for lack, remedy in approver_lacks(person, facts):
                yield Reason(f"approver-{lack.value}"), remedy


def _caps(facts: Facts) -> Iterator[tuple[Reason, str]]:
    cap = cap_of(facts.caps, access_class(facts.request))
    if cap is not None and facts.terms.level.rank >= CAP_LEVEL.rank and facts.holders > cap:
        access = access_class(facts.request).value
        yield Reason.CAP_REACHED, f"{cap} people may hold `{access}` access at a time; end another's grant first"
    if facts.review_overdue and facts.request.action is Action.BREAK_GLASS:
        yield Reason.REVIEW_OVERDUE, "the last break-glass opening of this model must be reviewed first"


def _export(facts: Facts) -> Iterator[tuple[Reason, str]]:
    if facts.frozen:
        yield Reason.FROZEN, f"model `{facts.request.model}` must be resumed by its quorum"
    if not facts.terms.export:
        yield Reason.EXPORT_DISABLED, f"the policy's terms for `{facts.request.model}` don't allow export"
    elif facts.terms.level.rank >= NO_EXPORT_LEVEL.rank:
        yield Reason.EXPORT_DISABLED, f"nothing is exported at {NO_EXPORT_LEVEL.value}"


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
    if facts.terms.weights is not Weights.TEST:
        yield from _level_cap(facts, facts.enclave.level_cap)


def _level_cap(facts: Facts, cap: int) -> Iterator[tuple[Reason, str]]:
    model, level = facts.request.model, facts.terms.level
    if not cap:
        yield Reason.ISOLATION_FOR_TESTS, f"use hardware that a maker vouches for: `{model}` isn't of `test` weights"
    elif cap < level.rank:
        yield Reason.ISOLATION_BELOW_LEVEL, f"such evidence supports SL{cap}; `{model}` at {level.value} needs stronger"
