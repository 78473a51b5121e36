"""Decisions made again: under their own rules they come out as they did; under others, as those others decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from strongroom.access.decision import Decision, decide
from strongroom.access.engine import DEFAULT_CEDAR, CedarEngine
from strongroom.access.facts import Facts
from strongroom.access.invariants import Reason
from strongroom.access.legitimate import legitimate
from strongroom.access.policy import Factor, Policy, Rule, Unit
from strongroom.access.request import STOPS, Action, Purpose
from strongroom.access.weighing import MAX_WEIGHED, fillings, weighed
from strongroom.framework.levels import SecurityLevel
from strongroom.release.decided import Decided
from strongroom.release.policy_diff import Mark, differences
from strongroom.release.steps import Check, Step
from strongroom.release.what_if import recorded_reasons, redecide, try_out, under
from support.examples import examples
from support.policies import ENGINE, EVERY_LEVEL, facts_under

ROLES = ("approver-security", "approver-research", "responder")


def recorded(facts: Facts, decision: Decision | None = None) -> Decided:
    """Return a decision as the keeper records it."""
    decision = decision or decide(facts, ENGINE)
    if decision.allowed:
        return Decided(
            facts=facts, allowed=True, checks=(Check(step=Step.DECISION, passed=True, found="ok"),), others=()
        )
    (reason, remedy), *others = decision.refusals
    check = Check(step=Step.DECISION, passed=False, found="no", reason=reason.value, remedy=remedy)
    return Decided(
        facts=facts, allowed=False, checks=(check,), others=tuple((code.value, text) for code, text in others)
    )


@settings(max_examples=examples(200))
@given(facts_under())
def test_the_control_reproduces_every_recorded_decision(facts: Facts) -> None:
    stored = recorded(facts)
    read = Decided.parse(stored.to_bytes())
    assert read.digest == stored.digest
    trial = try_out(read, EVERY_LEVEL, ENGINE, ENGINE)
    assert trial.reproduced
    # The facts were drawn under this very policy, so that the draft decides as the control does.
    assert trial.control == trial.drafted
    assert not trial.changed
    assert recorded_reasons(read) == tuple(reason.value for reason, _text in decide(facts, ENGINE).refusals)


def test_a_control_that_comes_out_otherwise_is_not_called_reproduced() -> None:
    rule = EVERY_LEVEL.rule(Action.OPEN_IN_ENCLAVE, SecurityLevel.SL3)
    facts = legitimate(
        rule, next(t for t in EVERY_LEVEL.models if t.level is rule.level), EVERY_LEVEL.caps, Purpose.SERVE
    )
    lied = replace(recorded(facts), allowed=False)
    other = CedarEngine(replace(EVERY_LEVEL, cedar=DEFAULT_CEDAR.replace('"serve", "evaluate"', '"evaluate"')))
    shut = CedarEngine(replace(EVERY_LEVEL, cedar=DEFAULT_CEDAR + '@id("no")\nforbid (principal, action, resource);'))
    assert not try_out(lied, EVERY_LEVEL, ENGINE, ENGINE).reproduced
    assert not try_out(recorded(facts), EVERY_LEVEL, ENGINE, shut).reproduced
    assert not try_out(recorded(facts), EVERY_LEVEL, ENGINE, None).reproduced
    assert try_out(recorded(facts), EVERY_LEVEL, ENGINE, other).reproduced


@given(facts_under())
def test_without_a_rule_or_the_model_nothing_is_allowed(facts: Facts) -> None:
    for draft in (replace(EVERY_LEVEL, rules=()), replace(EVERY_LEVEL, models=())):
        assert not redecide(recorded(facts), draft, ENGINE).allowed


@given(facts_under())
def test_the_draft_s_rule_terms_caps_and_isolation_take_the_place_of_the_recorded_ones(facts: Facts) -> None:
    terms = tuple(replace(one, least_isolation="cvm") for one in EVERY_LEVEL.models)
    rules = tuple(replace(one, max_uses=7) for one in EVERY_LEVEL.rules)
    draft = replace(EVERY_LEVEL, models=terms, rules=rules, caps=replace(EVERY_LEVEL.caps, copy=3))
    changed = under(facts, draft)
    assert (changed.rule.max_uses, changed.terms.least_isolation, changed.caps.copy) == (7, "cvm", 3)
    assert changed.enclave is None or changed.enclave.least_isolation == 5
    kept = ("now", "request", "requester", "approvers", "denied", "frozen", "uses_left", "holders", "recorded_at")
    assert all(getattr(changed, name) == getattr(facts, name) for name in kept)


@st.composite
def factors(draw: st.DrawFn) -> tuple[Factor, ...]:
    return tuple(
        Factor(role=draw(st.sampled_from(ROLES)), count=draw(st.integers(1, 2)), unit=draw(st.sampled_from(Unit)))
        for _ in range(draw(st.integers(1, 3)))
    )


@st.composite
def other_rule(draw: st.DrawFn, rule: Rule) -> Rule:
    """Change one to three members of a rule, each in either direction."""
    changes: dict[str, st.SearchStrategy[Any]] = {
        "requester_tier": st.integers(0, 5),
        "approver_tier": st.integers(0, 5),
        "max_window": st.sampled_from([1, 600, 86400, 7 * 86400]),
        "max_uses": st.integers(1, 3),
        "approval_life": st.sampled_from([1, 86400]),
        "delay": st.sampled_from([0, 3600, 86400]),
        "hardware": st.booleans(),
        "nda": st.booleans(),
        "courses": st.sampled_from([(), ("weights-handling",), ("weights-handling", "export-control")]),
        "factors": factors(),
    }
    names = draw(st.lists(st.sampled_from(sorted(changes)), min_size=1, max_size=3, unique=True))
    return replace(rule, **{name: draw(changes[name]) for name in names})


@st.composite
def two_policies(draw: st.DrawFn) -> tuple[Facts, Policy]:
    """Draw facts under a rule, perhaps with other factors, and a policy with another rule in its place."""
    facts = draw(facts_under())
    rule = replace(facts.rule, factors=draw(st.one_of(st.just(facts.rule.factors), factors())))
    facts = replace(facts, rule=rule)
    return facts, with_rule(draw(other_rule(rule)))


def with_rule(rule: Rule) -> Policy:
    rules = tuple(rule if (one.action, one.level) == (rule.action, rule.level) else one for one in EVERY_LEVEL.rules)
    return replace(EVERY_LEVEL, rules=rules)


@settings(max_examples=examples(300))
@given(two_policies())
def test_a_rule_marked_looser_refuses_nothing_that_was_allowed_and_a_tighter_one_allows_nothing_that_was_refused(
    drawn: tuple[Facts, Policy],
) -> None:
    facts, draft = drawn
    assume(facts.request.action not in STOPS)
    before = with_rule(facts.rule)
    marks = {one.mark for one in differences(before, draft)}
    was, becomes = decide(facts, ENGINE), redecide(recorded(facts, decide(facts, ENGINE)), draft, ENGINE)
    # What the invariants set as a floor isn't the rule's: a looser rule can fall below it, and is refused altogether.
    floor = {Reason.QUORUM_BELOW_FLOOR}
    if marks <= {Mark.LOOSER} and was.allowed:
        assert becomes.allowed or {reason for reason, _text in becomes.refusals} == floor
    if marks <= {Mark.TIGHTER} and becomes.allowed:
        assert was.allowed or {reason for reason, _text in was.refusals} == floor


@given(facts_under())
def test_where_everybody_needed_is_named_the_quorum_is_met_and_nobody_twice(facts: Facts) -> None:
    filled = list(fillings(facts))
    named = [who for _factor, people in filled for who in people]
    assert len(named) == len(set(named))
    assert facts.requester.id not in named
    short = any(len(people) < factor.count for factor, people in filled)
    refused = {reason for reason, _text in decide(facts, ENGINE).refusals}
    assert short is (Reason.QUORUM_NOT_MET in refused)


@given(facts_under())
@example(
    replace(
        legitimate(
            replace(EVERY_LEVEL.rules[1], factors=tuple(Factor(role=f"{n}" * 48, count=16) for n in range(8))),
            EVERY_LEVEL.models[0],
            EVERY_LEVEL.caps,
            Purpose.EVALUATE,
        )
    )
)
def test_what_was_weighed_fits_into_the_record(facts: Facts) -> None:
    said = weighed(facts)
    assert len(said) <= MAX_WEIGHED
    assert said.startswith(f"`{facts.rule.action.value}` at {facts.terms.level.value}: ")
    assert said.isprintable()
