"""The brakes of a policy: for each, how facts look without it. Cedar must deny them whatever else is in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from strongroom.access.facts import WAITS_AGREED, AccessClass, Facts, PersonFacts, access_class, cap_of
from strongroom.access.invariants import CAP_LEVEL, CUSTODIAN, NO_EXPORT_LEVEL
from strongroom.access.legitimate import AT, OTHER_UNIT, cleared
from strongroom.access.policy import Factor, Weights
from strongroom.access.request import OPENS, STOPS, Action

AGREES: Final = (Factor(role="agrees", count=1),)
"""What is asked for where a rule asks for no approval of its own."""


@dataclass(frozen=True, slots=True)
class Brake:
    """One thing that is out of order: how it's said, how facts get so, and for which facts Cedar must deny it."""

    although: str
    broken: Callable[[Facts], Facts]
    holds: Callable[[Facts], bool] = lambda _facts: True


def _who(change: Callable[[PersonFacts, Facts], PersonFacts]) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, requester=change(facts.requester, facts))


def _agreed(change: Callable[[PersonFacts], PersonFacts]) -> Callable[[Facts], Facts]:
    def broken(facts: Facts) -> Facts:
        wanted = _asking(facts)
        return replace(wanted, approvers=tuple(change(person) for person in wanted.approvers))

    return broken


def _asking(facts: Facts) -> Facts:
    """Return the facts under a rule that asks for approval, also where the policy's own rule asks for none."""
    if facts.rule.factors:
        return facts
    agrees = cleared("approver-1", org=OTHER_UNIT, roles=frozenset({AGREES[0].role}), courses=facts.rule.courses)
    return replace(facts, rule=replace(facts.rule, factors=AGREES), approvers=(agrees,))


def _alone(facts: Facts) -> Facts:
    asked = _asking(facts)
    roles = asked.requester.roles.union(*(person.roles for person in asked.approvers))
    requester = replace(asked.requester, roles=roles)
    return replace(asked, requester=requester, approvers=(requester,))


def _starts(facts: Facts) -> bool:
    return facts.request.action is not Action.FREEZE


def _destroys(facts: Facts) -> bool:
    return facts.request.action is Action.DESTROY


def _slowed(facts: Facts) -> bool:
    return facts.request.action not in STOPS


def _opens(facts: Facts) -> bool:
    return facts.request.action in OPENS


def _exports(facts: Facts) -> bool:
    return facts.request.action is Action.EXPORT_PLAINTEXT


def _copies(facts: Facts) -> bool:
    return access_class(facts.request) is AccessClass.COPY


def _counted(facts: Facts) -> bool:
    return cap_of(facts.caps, access_class(facts.request)) is not None and facts.terms.level.rank >= CAP_LEVEL.rank


def _beyond_output(facts: Facts) -> bool:
    return access_class(facts.request) in {AccessClass.ISOLATED, AccessClass.COPY}


def _over_cap(facts: Facts) -> Facts:
    return replace(facts, holders=(cap_of(facts.caps, access_class(facts.request)) or 0) + 1)


def _enclave(**members: object) -> Callable[[Facts], Facts]:
    def broken(facts: Facts) -> Facts:
        assert facts.enclave is not None  # noqa: S101 - asked for actions that open, which have one
        return replace(facts, enclave=replace(facts.enclave, **members))  # type: ignore[arg-type]  # names in BRAKES

    return broken


def _below_level(facts: Facts) -> Facts:
    production = replace(facts, terms=replace(facts.terms, weights=Weights.PRODUCTION))
    return _enclave(level_cap=facts.terms.level.rank - 1)(production)


BRAKES: Final = (
    Brake("the requester isn't active", _who(lambda who, _f: replace(who, active=False))),
    Brake(
        "the requester was never vetted",
        _who(lambda who, _f: replace(who, vetted_until=0, tier=0, employment="", copy_until=0)),
    ),
    Brake("the requester's vetting lapsed", _who(lambda who, facts: replace(who, vetted_until=facts.now))),
    Brake(
        "the requester lacks the role",
        _who(lambda who, facts: replace(who, roles=who.roles - {facts.rule.requester_role})),
    ),
    Brake("it was denied or revoked", lambda facts: replace(facts, denied=True)),
    Brake("every use is spent", lambda facts: replace(facts, uses_left=0)),
    Brake(
        "the requester's vetting tier is too low",
        lambda facts: replace(
            facts,
            rule=replace(facts.rule, requester_tier=max(1, facts.rule.requester_tier)),
            requester=replace(facts.requester, tier=max(1, facts.rule.requester_tier) - 1),
        ),
        _starts,
    ),
    Brake("the requester has an open conflict of interest", _who(lambda who, _f: replace(who, conflict=True)), _starts),
    Brake("the requester is on leave", _who(lambda who, _f: replace(who, employment="leave")), _starts),
    Brake("the requester gave notice", _who(lambda who, _f: replace(who, employment="notice")), _beyond_output),
    Brake(
        "the requester signed with no security key",
        lambda facts: replace(
            facts, rule=replace(facts.rule, hardware=True), requester=replace(facts.requester, hardware=False)
        ),
        _starts,
    ),
    Brake(
        "the requester didn't sign the non-disclosure agreement",
        lambda facts: replace(facts, rule=replace(facts.rule, nda=True), requester=replace(facts.requester, nda=False)),
        _starts,
    ),
    Brake(
        "its window hasn't begun",
        lambda facts: replace(facts, request=replace(facts.request, not_before=facts.now + 1)),
        _starts,
    ),
    Brake("it expired", lambda facts: replace(facts, now=facts.request.expires), _starts),
    Brake(
        "its cooling-off isn't over",
        lambda facts: replace(
            facts,
            rule=replace(facts.rule, delay=max(1, facts.rule.delay)),
            recorded_at=facts.now,
            granted_at=None if facts.granted_at is None else facts.now,
        ),
        _starts,
    ),
    Brake(
        "it waits from its grant on, and none was issued",
        lambda facts: replace(facts, rule=replace(facts.rule, delay=max(1, facts.rule.delay)), granted_at=None),
        lambda facts: facts.request.action in WAITS_AGREED,
    ),
    Brake(
        "no key custodian agreed",
        lambda facts: replace(
            facts, approvers=tuple(replace(who, roles=who.roles - {CUSTODIAN}) for who in facts.approvers)
        ),
        _destroys,
    ),
    Brake("nobody else approved", lambda facts: replace(_asking(facts), approvers=()), _starts),
    Brake("only the requester approved", _alone, _starts),
    Brake("a precaution asks for one approver more", lambda facts: replace(facts, approver_more=True), _slowed),
    Brake("only agents approved", _agreed(lambda person: replace(person, human=False)), _starts),
    Brake("only people approved whose vetting lapsed", _agreed(lambda p: replace(p, vetted_until=AT)), _starts),
    Brake("only people approved who aren't active", _agreed(lambda p: replace(p, active=False)), _starts),
    Brake(
        "the model is frozen",
        lambda facts: replace(facts, frozen=True),
        lambda f: _opens(f) or _exports(f) or _destroys(f),
    ),
    Brake("more people hold such access than may", _over_cap, _counted),
    Brake("no enclave sent evidence", lambda facts: replace(facts, enclave=None), _opens),
    Brake("the enclave runs something else", _enclave(measurement_current=False), _opens),
    Brake("the request doesn't name the platform", _enclave(platform_named=False), _opens),
    Brake("the enclave's isolation is too weak", _enclave(isolation=0), _opens),
    Brake("such evidence doesn't support the level of production weights", _below_level, _opens),
    Brake(
        "the requester's screening for copies lapsed",
        _who(lambda who, facts: replace(who, copy_until=facts.now)),
        lambda facts: _copies(facts) and facts.terms.level.rank >= CAP_LEVEL.rank,
    ),
    Brake(
        "the model's terms don't allow export",
        lambda facts: replace(facts, terms=replace(facts.terms, export=False)),
        _exports,
    ),
    Brake(
        f"nothing is exported at {NO_EXPORT_LEVEL.value}",
        lambda facts: replace(facts, terms=replace(facts.terms, level=NO_EXPORT_LEVEL)),
        _exports,
    ),
)
