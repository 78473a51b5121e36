"""Facts of a decision: good ones to start from, and random ones for properties."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from hypothesis import strategies as st

from strongroom.access.engine import DEFAULT_CEDAR
from strongroom.access.facts import EnclaveFacts, Facts, PersonFacts
from strongroom.access.policy import Factor, ModelTerms, Policy, Rule
from strongroom.access.request import Action, LogHead, Purpose, Request
from strongroom.core.digest import Digest
from strongroom.core.ids import ImageId, ModelId, PersonId, PlatformId
from strongroom.framework.levels import SecurityLevel

NOW = 1_795_000_000
ATLAS = ModelId("atlas")
ROLES = ("red", "green")
T = TypeVar("T")


def policy(cedar: str = DEFAULT_CEDAR) -> Policy:
    """Return a policy with this Cedar text; its rules play no part where facts carry their own."""
    return Policy(genesis=Digest.of(b"genesis"), epoch=1, predecessor=None, cedar=cedar, rules=(), models=())


def request_to(action: Action) -> Request:
    """Return a request whose window is open; what the decision doesn't look at is anything."""
    return Request(
        genesis=Digest.of(b"genesis"),
        action=action,
        requester=PersonId("dana"),
        model=ATLAS,
        version=1,
        manifest=Digest.of(b"manifest"),
        purpose=Purpose.EVALUATE,
        ticket="T-1",
        justification=None,
        image=ImageId("embedder"),
        measurement=Digest.of(b"measured"),
        platforms=(PlatformId("tpm-" + "1" * 64),),
        recipient=None,
        target=None,
        not_before=NOW - 10,
        expires=NOW + 10,
        max_uses=1,
        nonce=bytes(16),
        roster=Digest.of(b"roster"),
        policy=Digest.of(b"policy"),
        log=LogHead(size=1, root=Digest.of(b"root")),
    )


def someone(name: str, *roles: str) -> PersonFacts:
    """Return somebody whose vetting is good."""
    return PersonFacts(
        id=PersonId(name), org="research", active=True, tier=3, vetted_until=NOW + 100, roles=frozenset(roles)
    )


def good(action: Action = Action.OPEN_IN_ENCLAVE) -> Facts:
    """Return facts that allow."""
    return Facts(
        now=NOW,
        request=request_to(action),
        terms=ModelTerms(model=ATLAS, level=SecurityLevel.SL3, least_isolation="vm-simulated"),
        rule=Rule(
            action=action,
            level=SecurityLevel.SL3,
            requester_role="asker",
            factors=(Factor(role="red", count=1), Factor(role="green", count=1)),
            requester_tier=2,
            approver_tier=2,
            max_window=60,
            max_uses=3,
        ),
        requester=someone("dana", "asker"),
        approvers=(someone("sam", "red"), someone("rina", "green")),
        repeated=frozenset(),
        denied=False,
        frozen=False,
        uses_left=1,
        enclave=EnclaveFacts(isolation=1, least_isolation=1, measurement_current=True, platform_named=True)
        if action is Action.OPEN_IN_ENCLAVE
        else None,
    )


def mostly(usual: T, *others: T) -> st.SearchStrategy[T]:
    """Draw the usual value most of the time: else nearly every drawn case would be refused for ten reasons."""
    return st.sampled_from([usual] * (3 * len(others)) + list(others))


@st.composite
def any_facts(draw: st.DrawFn) -> Facts:
    """Draw facts, many of them allowed, most of the others refused for few reasons."""
    facts = good(draw(st.sampled_from(Action)))

    def person(name: str, *roles: str) -> PersonFacts:
        return replace(
            someone(name),
            active=draw(mostly(True, False)),  # noqa: FBT003 - a choice among values
            tier=draw(mostly(3, 1, 2)),
            vetted_until=draw(mostly(NOW + 1, NOW, NOW - 1)),
            roles=draw(mostly(frozenset(roles), frozenset(), frozenset(ROLES))),
        )

    requester = person("dana", "asker", "red")
    crowd = [person("sam", "red"), person("rina", "green"), person("tess", "red", "green"), requester]
    chosen = draw(mostly(crowd[:2], crowd[:1], crowd[:3], crowd[1:3], crowd[1:], crowd[:0]))
    request = replace(
        facts.request,
        not_before=draw(mostly(NOW, NOW + 1, NOW - 100)),
        expires=draw(mostly(NOW + 1, NOW)),
        max_uses=draw(mostly(1, 4)),
    )
    rule = replace(
        facts.rule,
        requester_role=draw(mostly("asker", "red")),
        factors=draw(mostly(facts.rule.factors, (), facts.rule.factors[:1], (Factor(role="red", count=2),))),
    )
    enclave = EnclaveFacts(
        isolation=draw(mostly(1, 0, 2)),
        least_isolation=draw(mostly(1, 2)),
        measurement_current=draw(mostly(True, False)),  # noqa: FBT003
        platform_named=draw(mostly(True, False)),  # noqa: FBT003
    )
    level = draw(st.sampled_from([SecurityLevel.SL2, SecurityLevel.SL3]))
    return replace(
        facts,
        request=request,
        rule=rule,
        terms=replace(facts.terms, level=level),
        requester=requester,
        approvers=tuple(chosen),
        denied=draw(mostly(False, True)),  # noqa: FBT003
        frozen=draw(mostly(False, True)),  # noqa: FBT003
        uses_left=draw(mostly(1, 0, -1)),
        enclave=draw(mostly(enclave, None)),
    )
