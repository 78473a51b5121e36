"""Separation of duties, whatever the roster, the rule and the history: properties, not examples.

An allowance always has enough distinct, cleared people behind it who aren't the requester; and nothing that takes
standing away from anybody ever turns a refusal into an allowance.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from strongroom.access.clearance import eligible, fits
from strongroom.access.decision import decide
from strongroom.access.engine import DEFAULT_CEDAR, CedarEngine
from strongroom.access.facts import AccessClass, EnclaveFacts, Facts, PersonFacts, access_class
from strongroom.access.invariants import BREAK_GLASS_SECONDS, broken, factors_of, quorum
from strongroom.access.policy import Factor, ModelTerms, Policy, Rule, Unit
from strongroom.access.request import OPENS, Action, LogHead, Purpose, Request
from strongroom.core.digest import Digest
from strongroom.core.ids import ImageId, ModelId, PersonId, PlatformId
from strongroom.framework.levels import SecurityLevel
from support.examples import examples

NOW = 1_800_000_000
DAY = 86400
D = Digest.of(b"any")
ROLES = ("approver-security", "approver-research", "responder", "requester")
UNITS = ("research", "security", "audit")
MODEL = ModelId("atlas")
ENGINE = CedarEngine(Policy(genesis=D, epoch=1, predecessor=None, cedar=DEFAULT_CEDAR, rules=(), models=()))

names = st.sampled_from([PersonId(f"person-{n}") for n in range(6)])
levels = st.sampled_from(list(SecurityLevel))
# Mostly in order, so that allowances are met often enough to say something about them.
mostly = st.sampled_from([True, True, True, True, False])


@st.composite
def people(draw: st.DrawFn, name: PersonId, *, approves: bool) -> PersonFacts:
    """Return somebody, in order or not."""
    good = draw(mostly)
    if good:
        return PersonFacts(
            id=name,
            org=draw(st.sampled_from(UNITS)),
            roles=frozenset(ROLES),
            active=True,
            employment="active",
            tier=5,
            vetted_until=NOW + DAY,
            copy_until=NOW + DAY,
            nda=True,
            courses=frozenset({"weights-handling"}),
            hardware=True,
            approved_at=NOW - 60 if approves else None,
        )
    return PersonFacts(
        id=name,
        org=draw(st.sampled_from(UNITS)),
        roles=frozenset(draw(st.sets(st.sampled_from(ROLES), min_size=1))),
        human=draw(st.booleans()),
        active=draw(st.booleans()),
        employment=draw(st.sampled_from(["active", "notice", "leave", "left", ""])),
        tier=draw(st.integers(0, 5)),
        vetted_until=draw(st.sampled_from([0, NOW - 1, NOW, NOW + 1])),
        copy_until=draw(st.sampled_from([0, NOW, NOW + 1])),
        conflict=draw(st.booleans()),
        nda=draw(st.booleans()),
        courses=draw(st.sampled_from([frozenset(), frozenset({"weights-handling"})])),
        hardware=draw(st.booleans()),
        approved_at=draw(st.sampled_from([None, NOW - 60, NOW - 9 * DAY])) if approves else None,
    )


@st.composite
def rules(draw: st.DrawFn, action: Action, level: SecurityLevel) -> Rule:
    """Return a rule; some are weaker than any invariant allows."""
    factors = draw(
        st.lists(
            st.builds(
                Factor, role=st.sampled_from(ROLES[:3]), count=st.integers(1, 2), unit=st.sampled_from(list(Unit))
            ),
            max_size=3,
        )
    )
    return Rule(
        action=action,
        level=level,
        requester_role="requester",
        factors=tuple(factors),
        requester_tier=draw(st.integers(0, 5)),
        approver_tier=draw(st.integers(0, 5)),
        max_window=7 * DAY,
        max_uses=10,
        approval_life=DAY,
        delay=draw(st.sampled_from([0, 60, 9 * DAY])),
        hardware=draw(st.booleans()),
        nda=draw(st.booleans()),
        courses=draw(st.sampled_from([(), ("weights-handling",)])),
    )


@st.composite
def situations(draw: st.DrawFn) -> Facts:
    """Return everything that one decision is made on."""
    action = draw(st.sampled_from([Action.OPEN_IN_ENCLAVE, *Action]))
    level, requester = draw(levels), draw(names)
    opens = action in OPENS
    request = Request(
        genesis=D,
        action=action,
        requester=requester,
        model=MODEL,
        version=1 if opens or action in {Action.SEAL, Action.EXPORT_PLAINTEXT} else 0,
        manifest=D if opens or action is Action.EXPORT_PLAINTEXT else None,
        purpose=draw(st.sampled_from(list(Purpose))),
        ticket="",
        justification=None,
        image=ImageId("worker") if opens else None,
        measurement=D if opens else None,
        platforms=(PlatformId("tpm-" + "0" * 64),) if opens or action is Action.REVOKE_PLATFORM else (),
        recipient=D if action in {Action.SEAL, Action.EXPORT_PLAINTEXT} else None,
        target=D if action in {Action.REVOKE_GRANT, Action.LIFT} else None,
        not_before=NOW - 600,
        expires=NOW + draw(st.sampled_from([600, 600, 600, DAY, 9 * DAY, -1])),
        max_uses=draw(st.sampled_from([1, 1, 20])) if opens else 1,
        nonce=bytes(16),
        roster=D,
        policy=D,
        log=LogHead(size=1, root=D),
    )
    voices = draw(st.lists(names, unique=True, max_size=5))
    good = draw(mostly)
    return Facts(
        now=NOW,
        request=request,
        terms=ModelTerms(
            model=MODEL,
            level=level,
            least_isolation="vm",
            owner=draw(st.sampled_from(["", *UNITS])),
            export=draw(st.booleans()),
        ),
        rule=draw(rules(action, level)),
        requester=draw(people(requester, approves=False)),
        approvers=tuple(draw(people(name, approves=True)) for name in voices),
        repeated=frozenset(),
        recorded_at=NOW - draw(st.sampled_from([0, 60, 600])),
        granted_at=draw(st.sampled_from([None, None, NOW - 30])),
        denied=not good and draw(st.booleans()),
        frozen=not good and draw(st.booleans()),
        uses_left=1 if good else draw(st.integers(-1, 1)),
        holders=1 if good else draw(st.sampled_from([0, 20, 21, 50, 51, 100, 101])),
        review_overdue=draw(st.sampled_from([False, False, False, True])),
        approver_more=draw(st.sampled_from([False, False, False, True])),
        enclave=EnclaveFacts(
            isolation=3,
            least_isolation=2 if good else 4,
            level_cap=5 if good else 2,
            measurement_current=good,
            platform_named=good,
        )
        if opens
        else None,
    )


def allowed(facts: Facts) -> bool:
    """Decide, with the real engine."""
    return decide(facts, ENGINE).allowed


def one_of_each(facts: Facts) -> bool:
    """Tell, by trying every assignment, whether distinct eligible people fill every place."""
    places = [factor for factor in factors_of(facts) for _ in range(factor.count)]
    cleared = [person for person in facts.approvers if eligible(person, facts)]
    return any(
        all(fits(person, factor, facts) for person, factor in zip(chosen, places, strict=True))
        for chosen in itertools.permutations(cleared, len(places))
    )


@given(situations())
@settings(max_examples=examples(120))
def test_what_is_allowed_has_enough_people_behind_it(facts: Facts) -> None:
    if not allowed(facts):
        return
    assert one_of_each(facts)
    counted = [person for person in facts.approvers if eligible(person, facts)]
    assert facts.requester.id not in {person.id for person in facts.approvers}
    assert all(person.human and person.active and person.vetted_until > NOW for person in counted)
    if facts.terms.level.rank >= SecurityLevel.SL3.rank and facts.request.action is not Action.FREEZE:
        assert len({person.id for person in counted}) >= 2
    if facts.request.action in {Action.EXPORT_PLAINTEXT, Action.BREAK_GLASS, Action.RESUME}:
        assert len({person.id for person in counted}) >= 2
    if facts.terms.level.rank >= SecurityLevel.SL4.rank and facts.request.action is not Action.FREEZE:
        assert facts.requester.hardware
        assert all(person.hardware for person in counted)
    assert facts.requester.active
    assert facts.requester.vetted_until > NOW


@given(situations())
@settings(max_examples=examples(120))
def test_the_match_agrees_with_trying_every_assignment(facts: Facts) -> None:
    assert (quorum(facts) is not None) is one_of_each(facts)


@given(situations())
@settings(max_examples=examples(120))
def test_both_judges_agree_or_the_answer_is_no(facts: Facts) -> None:
    refusals = list(broken(facts))
    policies = ENGINE.allows(facts)
    assert allowed(facts) is (not refusals and policies is not None)
    # The default policies refuse nothing that the invariants allow: they are two writings of one rule.
    if not refusals:
        assert policies is not None


def _worse_person(person: PersonFacts, how: str) -> PersonFacts:
    changes: dict[str, dict[str, object]] = {
        "inactive": {"active": False},
        "lapsed": {"vetted_until": NOW},
        "unvetted": {"vetted_until": 0, "tier": 0, "employment": "", "courses": frozenset(), "nda": False},
        "tier": {"tier": 0},
        "left": {"employment": "left"},
        "conflict": {"conflict": True},
        "agent": {"human": False},
        "soft key": {"hardware": False},
        "screening": {"copy_until": 0},
        "no role": {"roles": frozenset()},
        "not recorded": {"approved_at": None},
    }
    return replace(person, **changes[how])  # type: ignore[arg-type]


@st.composite
def worsened(draw: st.DrawFn) -> tuple[Facts, Facts, str]:
    """Return a situation, and the same after somebody or something lost standing."""
    facts = draw(situations())
    how = draw(
        st.sampled_from(["inactive", "lapsed", "unvetted", "tier", "left", "conflict", "soft key", "no role", "agent"])
    )
    whats = ["requester", "approver", "withdrawn", "denied", "frozen", "overdue", "watched", "caps", "spent"]
    what = draw(st.sampled_from(whats))
    if what == "requester":
        # An agent may ask: being one takes nothing away from a requester.
        assume(how != "agent")
        return facts, replace(facts, requester=_worse_person(facts.requester, how)), f"{what} {how}"
    if what in {"approver", "withdrawn"}:
        assume(facts.approvers)
        place = draw(st.integers(0, len(facts.approvers) - 1))
        before, after = facts.approvers[:place], facts.approvers[place + 1 :]
        # Without an approval of their own, one reason to refuse is gone: that isn't a loss of standing.
        assume(facts.approvers[place].id != facts.requester.id)
        kept = () if what == "withdrawn" else (_worse_person(facts.approvers[place], how),)
        return facts, replace(facts, approvers=(*before, *kept, *after)), f"{what} {how}"
    changes: dict[str, dict[str, object]] = {
        "denied": {"denied": True},
        "frozen": {"frozen": True},
        "overdue": {"review_overdue": True},
        "watched": {"approver_more": True},
        "caps": {"holders": facts.holders + 200},
        "spent": {"uses_left": facts.uses_left - 1},
    }
    return facts, replace(facts, **changes[what]), what  # type: ignore[arg-type]


@given(worsened())
@settings(max_examples=examples(200))
def test_losing_standing_never_opens_what_was_shut(case: tuple[Facts, Facts, str]) -> None:
    before, after, _how = case
    if allowed(after):
        assert allowed(before)


@given(situations(), mostly)
@settings(max_examples=examples(60))
def test_nobody_agrees_to_a_request_of_their_own(facts: Facts, first: bool) -> None:  # noqa: FBT001 - hypothesis passes it
    own = replace(facts.requester, approved_at=NOW - 60, hardware=True)
    others = tuple(person for person in facts.approvers if person.id != own.id)
    assert not allowed(replace(facts, approvers=(own, *others) if first else (*others, own)))


@given(situations())
@settings(max_examples=examples(60))
def test_break_glass_is_short_and_never_an_export(facts: Facts) -> None:
    if facts.request.action is Action.BREAK_GLASS and allowed(facts):
        assert facts.request.expires - facts.request.not_before <= BREAK_GLASS_SECONDS
        assert access_class(facts.request) is not AccessClass.COPY
    if facts.request.action is Action.EXPORT_PLAINTEXT and facts.terms.level is SecurityLevel.SL5:
        assert not allowed(facts)


@given(situations())
@settings(max_examples=examples(60))
def test_facts_have_one_form(facts: Facts) -> None:
    assume(facts.uses_left >= 0)
    assert Facts.parse(facts.to_bytes()) == facts


def test_allowances_are_met_at_all() -> None:
    # Else the properties above would say nothing.
    met: set[Action] = set()

    @given(situations())
    @settings(max_examples=300, database=None, derandomize=True)
    def look(facts: Facts) -> None:
        if allowed(facts):
            met.add(facts.request.action)

    look()
    assert met >= {Action.OPEN_IN_ENCLAVE, Action.FREEZE}
