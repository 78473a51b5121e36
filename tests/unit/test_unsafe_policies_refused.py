"""A policy that lost a brake, or that would lock the deployment, doesn't come into force; what is wrong is named."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from strongroom.access.engine import DEFAULT_CEDAR, CedarEngine, InvalidPolicyError
from strongroom.access.facts import Facts
from strongroom.access.governance import ChangeFacts, VoiceFacts, change_broken, voice_broken
from strongroom.access.invariants import broken
from strongroom.access.policy import Caps, Factor, Policy, Unit
from strongroom.access.request import Action
from strongroom.access.self_test import PolicyUnsafeError, failures, safe_engine, vectors
from strongroom.client.default_policy import default_policy
from strongroom.core.ids import ModelId
from strongroom.framework.levels import SecurityLevel
from support.policies import EVERY_LEVEL, GENESIS, policy

CONDITIONS = (
    "principal in context.requesterRole",
    "principal.active",
    "!principal.conflict",
    "principal.vettedUntil > context.now",
    "principal.tier >= context.requesterTier",
    'principal.employment == "active"',
    "(principal.hardware || !context.hardwareRequired)",
    "(principal.nda || !context.ndaRequired)",
    "context.notBefore <= context.now",
    "context.now < context.expires",
    "context.now - context.recordedAt >= context.delay",
    "context.usesLeft > 0",
    "!context.denied",
    "!resource.frozen",
    "context.quorum.satisfied",
    "context.holders <= context.cap",
    "context.enclave.measurementCurrent",
    "context.enclave.platformNamed",
    "context.enclave.isolation >= resource.leastIsolation",
    "(resource.testWeights || context.enclave.levelCap >= resource.level)",
    "principal.copyUntil > context.now",
    "resource.exportable",
    "resource.level < 5",
    "context.requester != principal.name",
    "context.signatures >= context.threshold",
    "!context.stopped",
    "context.now - context.proposedAt >= 86400",
)


def without_one(text: str) -> Iterator[str]:
    """Yield the default policies with one occurrence of a condition taken out."""
    for found in re.finditer(re.escape(text), DEFAULT_CEDAR):
        yield DEFAULT_CEDAR[: found.start()] + "true" + DEFAULT_CEDAR[found.end() :]


def unsafe(text: Policy) -> str:
    with pytest.raises(PolicyUnsafeError) as refused:
        safe_engine(text)
    assert refused.value.code == "policy-unsafe"
    assert refused.value.remedy
    return refused.value.message


def permit(scope: str, when: str = "true") -> Policy:
    return policy(f'{DEFAULT_CEDAR}\n@id("more")\npermit ({scope}) when {{ {when} }};')


def test_the_default_policy_passes_with_and_without_models() -> None:
    safe_engine(default_policy(GENESIS))
    safe_engine(policy())
    assert list(failures(EVERY_LEVEL, CedarEngine(EVERY_LEVEL))) == []


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_policy_that_lost_one_condition_anywhere_is_refused(condition: str) -> None:
    changed = list(without_one(condition))
    assert changed
    for cedar in changed:
        CedarEngine(policy(cedar))
        assert "allow what must be denied" in unsafe(policy(cedar))


@pytest.mark.parametrize(
    ("scope", "when"),
    [
        ("principal, action, resource", "true"),
        ('principal, action == Strongroom::Action::"open-in-enclave", resource', "resource.level == 4"),
        ('principal == Strongroom::Human::"mallory", action == Strongroom::Action::"seal", resource', "true"),
        ('principal, action == Strongroom::Action::"seal", resource', 'principal.name == "mallory"'),
        ('principal in Strongroom::Role::"boss", action == Strongroom::Action::"resume", resource', "true"),
        ('principal, action == Strongroom::Action::"break-glass", resource', 'context.purpose == "research"'),
        ('principal, action, resource == Strongroom::Model::"model-sl4"', "true"),
        ('principal is Strongroom::Agent, action == Strongroom::Action::"approve", resource', "true"),
        ('principal is Strongroom::RootQuorum, action == Strongroom::Action::"change-roster", resource', "true"),
    ],
)
def test_a_way_in_for_one_name_level_or_purpose_is_found(scope: str, when: str) -> None:
    assert "allow what must be denied" in unsafe(permit(scope, when))


def test_a_way_in_for_one_model_among_many_is_found() -> None:
    """The named one is looked at even where the policy has more models than are looked at otherwise."""
    first = policy().models[0]
    many = tuple(replace(first, model=ModelId(f"model-{number}"), owner=f"unit-{number}") for number in range(40))
    scope = 'principal, action == Strongroom::Action::"seal", resource == Strongroom::Model::"model-33"'
    assert "model-33" in unsafe(replace(permit(scope), models=many))


def test_names_in_comments_and_annotations_do_not_hide_or_add_anything() -> None:
    cedar = f'// principal == Strongroom::Human::"mallory"\n{DEFAULT_CEDAR}'
    safe_engine(policy(cedar))


@pytest.mark.parametrize(
    ("name", "cedar"),
    [
        ("freezes a model", '@id("no")\nforbid (principal, action == Strongroom::Action::"freeze", resource);'),
        (
            "changes the policy",
            '@id("no")\nforbid (principal, action == Strongroom::Action::"change-policy", resource);',
        ),
        ("opens a model at SL4", '@id("no")\nforbid (principal, action, resource) when { resource.level == 4 };'),
        ("asks", '@id("no")\nforbid (principal, action == Strongroom::Action::"request", resource);'),
        ("approves", '@id("no")\nforbid (principal, action == Strongroom::Action::"approve", resource);'),
    ],
)
def test_a_policy_that_locks_the_deployment_is_refused(name: str, cedar: str) -> None:
    if name == "opens a model at SL4":
        cedar = cedar.replace("action, resource", 'action == Strongroom::Action::"open-in-enclave", resource')
    message = unsafe(policy(f"{DEFAULT_CEDAR}\n{cedar}"))
    assert "nobody could ever do this" in message
    assert name in message


def test_rules_that_nobody_could_follow_are_refused() -> None:
    text = policy()
    freezeless = tuple(rule for rule in text.rules if rule.action is not Action.FREEZE)
    assert "freezes a model at SL4" in unsafe(replace(text, rules=freezeless))
    alone = tuple(
        replace(rule, factors=rule.factors[:1])
        if rule.action is Action.OPEN_IN_ENCLAVE and rule.level is SecurityLevel.SL4
        else rule
        for rule in text.rules
    )
    assert "opens a model at SL4" in unsafe(replace(text, rules=alone))
    owners = tuple(
        replace(rule, factors=(*rule.factors, Factor(role="lead", count=1, unit=Unit.OWNER))) for rule in text.rules
    )
    nobodys = tuple(replace(terms, owner="") for terms in text.models)
    safe_engine(replace(text, rules=owners))
    assert "nobody could" in unsafe(replace(text, rules=owners, models=nobodys))
    assert "opens a model" in unsafe(replace(text, caps=Caps(output=0, isolated=0, copy=0)))


def test_a_stricter_policy_passes() -> None:
    strict = (
        '@id("hours")\nforbid (principal, action == Strongroom::Action::"export-plaintext", resource);\n'
        '@id("purpose")\nforbid (principal, action == Strongroom::Action::"open-in-enclave", resource)'
        ' when { context.purpose != "evaluate" };\n'
        '@id("week")\nforbid (principal, action in Strongroom::Action::"govern", resource)'
        " when { context.loosens && context.now - context.proposedAt < 604800 };\n"
        '@id("contractors")\nforbid (principal in Strongroom::Role::"contractor", action, resource);'
    )
    safe_engine(policy(f"{DEFAULT_CEDAR}\n{strict}"))


def test_what_must_be_denied_is_denied_by_the_invariants_too() -> None:
    """The vectors ask of Cedar no more than the plain-Python judge holds itself."""
    reasons: dict[type, Any] = {Facts: broken, VoiceFacts: voice_broken, ChangeFacts: change_broken}
    denials = [vector for vector in vectors(EVERY_LEVEL) if not vector.allow]
    assert len(denials) > 2000
    for vector in denials:
        (facts,) = vector.ask.args  # type: ignore[attr-defined]  # a partial
        assert list(reasons[type(facts)](facts)), vector.name


def test_a_text_that_does_not_fit_the_schema_is_said_first() -> None:
    with pytest.raises(InvalidPolicyError) as refused:
        safe_engine(policy("permit (principal, action, resource);"))
    assert refused.value.code == "invalid-policy"
