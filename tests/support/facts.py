"""Facts of a decision: good ones to start from, and random ones for properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from hypothesis import strategies as st

from strongroom.access.engine import DEFAULT_CEDAR
from strongroom.access.facts import DESTROY_DELAYS, WAITS_AGREED, EnclaveFacts, Facts, PersonFacts
from strongroom.access.invariants import CUSTODIAN
from strongroom.access.policy import Factor, ModelTerms, Policy, Rule, Unit, Weights
from strongroom.access.request import OPENS, Action, LogHead, Purpose, Request
from strongroom.core.digest import Digest
from strongroom.core.ids import ImageId, ModelId, PersonId, PlatformId
from strongroom.framework.levels import SecurityLevel

NOW = 1_795_000_000
ATLAS = ModelId("atlas")
ROLES = ("red", "green")
COURSE = "weights-handling"
AGREED = NOW - max(DESTROY_DELAYS.values())
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
        target=Digest.of(b"target") if action in {Action.REVOKE_GRANT, Action.LIFT} else None,
        not_before=NOW - 10,
        expires=NOW + 10,
        max_uses=1,
        nonce=bytes(16),
        roster=Digest.of(b"roster"),
        policy=Digest.of(b"policy"),
        log=LogHead(size=1, root=Digest.of(b"root")),
    )


def someone(name: str, *roles: str) -> PersonFacts:
    """Return somebody who lacks nothing that the rule below wants, and who approved a while ago."""
    return PersonFacts(
        id=PersonId(name),
        org="research",
        roles=frozenset(roles),
        active=True,
        employment="active",
        tier=3,
        vetted_until=NOW + 100,
        copy_until=NOW + 100,
        nda=True,
        courses=frozenset({COURSE}),
        hardware=True,
        approved_at=NOW - 5,
    )


def good(action: Action = Action.OPEN_IN_ENCLAVE) -> Facts:
    """Return facts that allow, under a rule that wants everything there is to want."""
    return Facts(
        now=NOW,
        request=request_to(action),
        terms=ModelTerms(model=ATLAS, level=SecurityLevel.SL3, least_isolation="vm-simulated", export=True),
        rule=Rule(
            action=action,
            level=SecurityLevel.SL3,
            requester_role="asker",
            factors=(Factor(role="red", count=1), Factor(role="green", count=1)),
            requester_tier=2,
            approver_tier=2,
            max_window=60,
            max_uses=3,
            approval_life=60,
            hardware=True,
            nda=True,
            courses=(COURSE,),
        ),
        requester=someone("dana", "asker"),
        approvers=(someone("sam", "red"), someone("rina", "green", *custodian_for(action))),
        repeated=frozenset(),
        recorded_at=NOW - 10,
        granted_at=AGREED if action in WAITS_AGREED else None,
        denied=False,
        frozen=False,
        uses_left=1,
        holders=1,
        enclave=EnclaveFacts(isolation=1, least_isolation=1, level_cap=5, measurement_current=True, platform_named=True)
        if action in OPENS
        else None,
    )


def custodian_for(action: Action) -> tuple[str, ...]:
    """Return the role that a destruction asks for whatever the rule says."""
    return (CUSTODIAN,) if action is Action.DESTROY else ()


def mostly(usual: T, *others: T) -> st.SearchStrategy[T]:
    """Draw the usual value most of the time: else nearly every drawn case would be refused for ten reasons."""
    return st.sampled_from([usual] * (3 * len(others)) + list(others))


FLAWS: tuple[dict[str, object], ...] = (
    {"active": False},
    {"employment": "notice"},
    {"employment": "leave"},
    {"tier": 1},
    {"tier": 2},
    {"vetted_until": NOW},
    {"vetted_until": 0, "employment": "", "tier": 0, "copy_until": 0},
    {"copy_until": NOW},
    {"conflict": True},
    {"nda": False},
    {"courses": frozenset()},
    {"hardware": False},
    {"approved_at": None},
    {"approved_at": NOW - 61},
    {"human": False},
    {"roles": frozenset()},
    {"roles": frozenset(ROLES)},
    {"org": "security"},
)
"""What may be otherwise about somebody. Not all of it is worse."""


@st.composite
def any_person(draw: st.DrawFn, name: str, *roles: str) -> PersonFacts:
    """Draw somebody, mostly without a flaw."""
    flaws = draw(mostly(0, 1, 2))
    person = someone(name, *roles)
    for flaw in draw(st.lists(st.sampled_from(FLAWS), min_size=flaws, max_size=flaws)):
        person = replace(person, **flaw)  # type: ignore[arg-type]  # members of the class
    return person


@st.composite
def any_rule(draw: st.DrawFn, rule: Rule) -> Rule:
    """Draw a rule for the same action."""
    one = rule.factors[:1]
    return replace(
        rule,
        requester_role=draw(mostly("asker", "red")),
        factors=draw(
            mostly(
                rule.factors,
                (),
                one,
                (Factor(role="red", count=2),),
                (*one, Factor(role="green", count=1, unit=Unit.OTHER)),
                (*one, Factor(role="green", count=1, unit=Unit.OWNER)),
            )
        ),
        delay=draw(mostly(0, 5)),
        hardware=draw(st.booleans()),
        nda=draw(st.booleans()),
        courses=draw(st.sampled_from([(), (COURSE,)])),
    )


@st.composite
def any_facts(draw: st.DrawFn, actions: Sequence[Action] = tuple(Action)) -> Facts:
    """Draw facts about one of some actions, many of them allowed, most of the others refused for few reasons."""
    facts = good(draw(st.sampled_from(actions)))
    requester = draw(any_person("dana", "asker", "red"))
    crowd = [
        draw(any_person("sam", "red")),
        draw(any_person("rina", "green", *custodian_for(facts.request.action))),
        draw(any_person("tess", "red", "green")),
        requester,
    ]
    chosen = draw(mostly(crowd[:2], crowd[:1], crowd[:3], crowd[1:3], crowd[1:], crowd[:0]))
    request = replace(
        facts.request,
        purpose=draw(mostly(Purpose.EVALUATE, Purpose.RESEARCH)),
        not_before=draw(mostly(NOW, NOW + 1, NOW - 100)),
        expires=draw(mostly(NOW + 1, NOW)),
        max_uses=draw(mostly(1, 4)),
    )
    enclave = EnclaveFacts(
        isolation=draw(mostly(1, 0, 2)),
        least_isolation=draw(mostly(1, 2)),
        level_cap=draw(mostly(5, 0, 2, 3)),
        measurement_current=draw(mostly(True, False)),  # noqa: FBT003 - a choice among values
        platform_named=draw(mostly(True, False)),  # noqa: FBT003
    )
    terms = replace(
        facts.terms,
        level=draw(st.sampled_from(list(SecurityLevel)[1:])),
        weights=draw(st.sampled_from(Weights)),
        owner=draw(mostly("research", "")),
        export=draw(mostly(True, False)),  # noqa: FBT003
    )
    return replace(
        facts,
        request=request,
        rule=draw(any_rule(facts.rule)),
        terms=terms,
        requester=requester,
        approvers=tuple(chosen),
        repeated=draw(mostly(frozenset(), frozenset({PersonId("sam")}))),
        recorded_at=draw(mostly(NOW - 5, NOW - 4)),
        granted_at=draw(mostly(facts.granted_at, NOW - 5, None)),
        denied=draw(mostly(False, True)),  # noqa: FBT003
        frozen=draw(mostly(False, True)),  # noqa: FBT003
        uses_left=draw(mostly(1, 0, -1)),
        holders=draw(mostly(1, 21, 51, 101)),
        review_overdue=draw(mostly(False, True)),  # noqa: FBT003
        approver_more=draw(mostly(False, True)),  # noqa: FBT003
        enclave=draw(mostly(enclave, None)),
    )
