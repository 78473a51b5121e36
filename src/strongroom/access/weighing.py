"""What a decision weighed against what, in words: the same in a dry run and in the record of a release."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from strongroom.access.clearance import HARDWARE_LEVEL, eligible, fits
from strongroom.access.facts import WAITS_AGREED, Facts, access_class, cap_of
from strongroom.access.invariants import CAP_LEVEL, describe, factors_of
from strongroom.access.policy import Factor, Weights
from strongroom.access.quorum import fill, missing
from strongroom.access.request import STOPS, Action
from strongroom.core.ids import PersonId

MAX_WEIGHED: Final = 2048


def weighed(facts: Facts) -> str:
    """Return who fills which factor, and every limit beside what is measured by it; at most 2,048 characters."""
    text = f"`{facts.rule.action.value}` at {facts.terms.level.value}: {'; '.join((*_factors(facts), *_limits(facts)))}"
    return text if len(text) <= MAX_WEIGHED else text[: MAX_WEIGHED - 1] + "…"


def fillings(facts: Facts) -> Iterator[tuple[Factor, tuple[PersonId, ...]]]:
    """Yield each factor and who fills it in the best match; fewer people than its count where places stay empty."""
    people = {person.id: person for person in facts.approvers if eligible(person, facts)}

    def may(who: PersonId, factor: Factor) -> bool:
        return fits(people[who], factor, facts)

    left = list(missing(factors_of(facts), people, may))
    filled: list[Factor] = []
    for factor in factors_of(facts):
        for _ in range(factor.count):
            place = Factor(role=factor.role, count=1, unit=factor.unit)
            if place in left:
                left.remove(place)
            else:
                filled.append(place)
    match = fill(tuple(filled), people, may) or {}
    waiting = sorted(match)
    for factor in factors_of(facts):
        named = [who for who in waiting if (match[who].role, match[who].unit) == (factor.role, factor.unit)]
        taken = tuple(named[: factor.count])
        waiting = [who for who in waiting if who not in taken]
        yield factor, taken


def _factors(facts: Facts) -> Iterator[str]:
    if not facts.rule.factors:
        yield "no approval asked for"
    for factor, people in fillings(facts):
        by = " and ".join(f"`{who}`" for who in people) or "nobody"
        count = "" if factor.count == 1 else f"{len(people)} of {factor.count} x "
        yield f"{count}{describe(factor)} by {by}"


def _limits(facts: Facts) -> Iterator[str]:
    rule, request = facts.rule, facts.request
    yield f"requester of tier {facts.requester.tier}, at least {rule.requester_tier}"
    if rule.factors:
        yield f"approvers of at least tier {rule.approver_tier}"
    if rule.hardware or facts.terms.level.rank >= HARDWARE_LEVEL.rank:
        yield "security keys"
    yield from ("NDA",) if rule.nda else ()
    yield from (f"course `{course}`" for course in rule.courses)
    if rule.factors:
        yield f"approvals at most {rule.approval_life} s before the grant"
    if facts.delay:
        since = "was agreed on" if request.action in WAITS_AGREED else "was recorded"
        yield f"{max(0, facts.now - facts.waits_from)} s since it {since}, {facts.delay} s wanted"
    yield f"window of {request.expires - request.not_before} s, at most {rule.max_window} s"
    yield f"{max(0, facts.uses_left)} of {request.max_uses} uses left"
    access = access_class(request)
    cap = cap_of(facts.caps, access)
    if cap is not None and facts.terms.level.rank >= CAP_LEVEL.rank and facts.granted_at is None:
        yield f"{facts.holders} people with `{access.value}` access, at most {cap}"
    if facts.review_overdue and request.action is not Action.FREEZE:
        yield "one approver more, a break-glass review being overdue"
    if facts.approver_more and request.action not in STOPS:
        yield "one approver more, a responder's precaution about the requester standing"
    if facts.enclave is not None:
        yield f"isolation rank {facts.enclave.isolation}, at least {facts.enclave.least_isolation}"
        if facts.terms.weights is Weights.TEST:
            yield "TEST WEIGHTS, no level vouched for"
        else:
            yield f"evidence that supports up to SL{facts.enclave.level_cap}"
