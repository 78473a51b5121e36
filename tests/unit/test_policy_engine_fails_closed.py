"""The Cedar engine refuses what it can't be sure of: at loading where it can, and at evaluation in any case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from strongroom.access import engine as module
from strongroom.access.decision import Decision, decide, may_change, may_speak
from strongroom.access.engine import DEFAULT_CEDAR, CedarEngine, InvalidPolicyError
from strongroom.access.governance import CHANGE_DELAY, Change, ChangeFacts, Voice, VoiceFacts
from strongroom.access.invariants import Reason
from strongroom.access.request import Action
from strongroom.core.ids import PersonId
from strongroom.framework.levels import SecurityLevel
from support.facts import ATLAS, NOW, good, policy

PERMIT = '@id("all")\npermit (principal, action, resource);\n'
OPENING = '@id("x")\npermit (principal, action == Strongroom::Action::"open-in-enclave", resource) '
HUGE = "9223372036854775807"


def engine(cedar: str) -> CedarEngine:
    return CedarEngine(policy(cedar))


def test_the_default_policies_allow_what_is_good_and_name_themselves() -> None:
    default = engine(DEFAULT_CEDAR)
    assert default.allows(good()) == ("enclave-attested",)
    assert default.allows(good(Action.SEAL)) == ("publisher-seals",)
    assert default.allows(good(Action.EXPORT_PLAINTEXT)) == ("quorum-exports",)
    assert default.allows(good(Action.RESUME)) == ("quorum-administers",)
    assert default.allows(good(Action.FREEZE)) == ("one-person-freezes",)
    assert engine(PERMIT).allows(good()) == ("all",)


@pytest.mark.parametrize(
    "cedar",
    [
        "",
        "// nothing here\n",
        "permit (principal, action, resource);",
        '// @id("hidden")\npermit (principal, action, resource);',
        '@id("one")\npermit (principal, action, resource); permit (principal, action, resource);',
        '@id("one")\npermit (principal, action, resource);\n@id("one")\nforbid (principal, action, resource);',
        '@id("")\npermit (principal, action, resource);',
        '@id("With Spaces")\npermit (principal, action, resource);',
        '@name("one")\npermit (principal, action, resource);',
        '@id("t")\npermit (principal == ?principal, action, resource);',
        PERMIT + '@id("t")\npermit (principal == ?principal, action, resource);',
        OPENING + "when { principal.salary > 3 };",
        OPENING + "when { context.enclave.isolation > 0 };",
        OPENING + 'when { principal.tier > "3" };',
        '@id("x")\npermit (principal, action == Strongroom::Action::"export", resource);',
        '@id("x")\npermit (principal == Human::"dana", action, resource);',
        '@id("x")\npermit (principal, action, resource) when { true',
        "permit everything",
    ],
)
def test_a_policy_that_doesn_t_fit_is_refused_when_it_is_loaded(cedar: str) -> None:
    with pytest.raises(InvalidPolicyError):
        engine(cedar)


def test_text_that_only_looks_like_a_policy_is_no_policy() -> None:
    comment = "// permit (principal, action, resource);"
    cedar = comment + "\n" + OPENING + 'when { context.purpose != "\\npermit (" };'
    assert engine(cedar).allows(good()) == ("x",)


@pytest.mark.parametrize(
    "trouble",
    [
        # Cedar itself skips a policy that errors: each of these would leave the permit standing.
        f'@id("f")\nforbid (principal, action, resource) when {{ context.now + {HUGE} > 0 }};',
        f'@id("f")\nforbid (principal, action, resource) when {{ context.now * {HUGE} > 0 }};',
        '@id("f")\nforbid (principal, action, resource) when { Strongroom::Human::"ghost".active };',
        '@id("f")\nforbid (principal, action, resource) when { Strongroom::Model::"ghost".frozen };',
        f'@id("f")\npermit (principal, action, resource) when {{ context.now + {HUGE} > 0 }};',
    ],
)
def test_an_error_in_any_policy_is_a_denial(trouble: str) -> None:
    assert engine(PERMIT).allows(good()) is not None
    assert engine(PERMIT + trouble).allows(good()) is None


def test_an_unknown_entity_belongs_to_nothing() -> None:
    ghost = '@id("g")\npermit (principal in Strongroom::Role::"ghost", action, resource);'
    assert engine(ghost).allows(good()) is None


def test_a_forbid_outweighs_every_permit() -> None:
    assert engine(DEFAULT_CEDAR + '@id("f")\nforbid (principal, action, resource);').allows(good()) is None


def drop(name: str) -> Callable[[list[Any]], None]:
    def change(entities: list[Any]) -> None:
        for entity in entities:
            entity["attrs"].pop(name, None)

    return change


SLICES: dict[str, Callable[[list[Any]], object]] = {
    "a missing attribute of people": drop("active"),
    "a missing attribute of the model": drop("frozen"),
    "an attribute that nobody declared": lambda entities: entities[-1]["attrs"].update(extra=1),
    "an attribute of another type": lambda entities: entities[-1]["attrs"].update(level="3"),
    "the model twice, once less frozen": lambda entities: entities.append(
        {**entities[-1], "attrs": {**entities[-1]["attrs"], "leastIsolation": 0}}
    ),
    "an entity of an unknown type": lambda entities: entities.append(
        {"uid": {"type": "Strongroom::Robot", "id": "r"}, "attrs": {}, "parents": []}
    ),
    "no entities": lambda entities: entities.clear(),
    "no people": lambda entities: entities.__delitem__(slice(0, -1)),
}


@pytest.mark.parametrize("name", SLICES)
def test_a_slice_that_doesn_t_hold_what_it_should_is_a_denial(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    default, build = engine(DEFAULT_CEDAR), module._entities

    def ruined(facts: Any) -> list[Any]:
        entities = build(facts)
        SLICES[name](entities)
        return entities

    assert default.allows(good()) is not None
    monkeypatch.setattr(module, "_entities", ruined)
    assert default.allows(good()) is None


@pytest.mark.parametrize("part", ["context", "principal", "resource", "action"])
def test_a_request_that_lacks_a_part_is_a_denial(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    default, build = engine(DEFAULT_CEDAR), module._request

    def ruined(facts: Any) -> dict[str, Any]:
        made = build(facts)
        made[part] = {} if part == "context" else {"type": "Strongroom::Nobody", "id": "x"}
        return made

    monkeypatch.setattr(module, "_request", ruined)
    assert default.allows(good()) is None


def test_neither_judge_alone_allows() -> None:
    class Never:
        def allows(self, _facts: object) -> None:
            return None

        allows_voice = allows_change = allows

    refused = decide(good(), Never())
    assert not refused.allowed
    assert refused.refusals[0][0] is Reason.POLICY_REFUSES
    denied = decide(replace(good(), denied=True), engine(PERMIT))
    assert not denied.allowed
    assert denied.policies == ()
    assert Decision().allowed is False


def test_neither_judge_alone_lets_anybody_speak_or_change_the_rules() -> None:
    class Never:
        def allows(self, _facts: object) -> None:
            return None

        allows_voice = allows_change = allows

    who = good().requester
    voice = VoiceFacts(
        now=NOW, voice=Voice.APPROVE, person=who, requester=PersonId("sam"), model=ATLAS, level=SecurityLevel.SL3
    )
    change = ChangeFacts(
        now=NOW,
        change=Change.POLICY,
        level=SecurityLevel.SL4,
        loosens=True,
        signatures=2,
        threshold=2,
        proposed_at=NOW - CHANGE_DELAY,
        stopped=False,
    )
    default, lax = engine(DEFAULT_CEDAR), engine(PERMIT)
    assert may_speak(voice, default) is may_change(change, default) is None
    for refused in (may_speak(voice, Never()), may_change(change, Never())):
        assert refused is not None
        assert refused[0] == Reason.POLICY_REFUSES
    voices = (
        (replace(voice, requester=who.id), "self-approval"),
        (replace(voice, person=replace(who, active=False)), "person-inactive"),
        (replace(voice, person=replace(who, human=False)), "approver-not-human"),
    )
    changes = (
        (replace(change, proposed_at=NOW - CHANGE_DELAY + 1), "change-waits"),
        (replace(change, stopped=True), "change-stopped"),
        (replace(change, signatures=1), "root-quorum-not-met"),
    )
    told = [(may_speak(facts, lax), reason) for facts, reason in voices]
    told += [(may_change(facts, lax), reason) for facts, reason in changes]
    for refusal, reason in told:
        assert refusal is not None
        assert refusal[0] == reason
