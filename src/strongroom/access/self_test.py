"""What every policy must pass before it may come into force: denials that it must make, and a few allowances.

Cedar skips what errors, so a policy that lost a condition loads without a word. Each vector takes facts in which
everything is in order, breaks one thing, and asks the Cedar policies alone: were they to allow, Cedar would no longer
agree with the plain-Python invariants, and one mistake more would be enough. The allowances keep a deployment from
locking itself: somebody can stop a model, the rules can still be changed, and what has a rule can be done. Whoever and
whatever the Cedar text names plays a part as well: a way in for one name is found by that name.

This samples, it doesn't prove: the invariants hold beside it, whatever the text says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Final

import cedarpy

from strongroom.access.brakes import AGREES, BRAKES
from strongroom.access.decision import PolicyEngine, decide, may_change, may_speak
from strongroom.access.engine import NAMESPACE, CedarEngine, InvalidPolicyError
from strongroom.access.facts import Facts
from strongroom.access.governance import CHANGE_DELAY, CHANGE_DELAY_LEVEL, Change, ChangeFacts, Voice, VoiceFacts
from strongroom.access.legitimate import ASKER, ASKING_UNIT, AT, DAY, OTHER_UNIT, cleared, legitimate
from strongroom.access.policy import Caps, ModelTerms, NoRuleError, Policy, Rule
from strongroom.access.request import Action, Purpose
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId, PersonId
from strongroom.framework.levels import SecurityLevel

MOST_MODELS: Final = 20
"""One at each level, exported or not, of production or test weights."""
MOST_NAMES: Final = 8
"""People, and models, whom the text names; each person meets each model."""
APPROVER: Final = PersonId("the-approver")
THRESHOLD: Final = 2
_STOCK_ROLE: Final = "asker"
_ANY: Final = Digest.of(b"")
_WORDS: Final = frozenset(purpose.value for purpose in Purpose) | {"active", "notice", "leave", "left"}
"""Literal strings of a policy that name nobody."""


class PolicyUnsafeError(InvalidPolicyError):
    """The policies allow what they must deny, or deny what a deployment can't live without."""

    code = "policy-unsafe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """One question to a policy and the answer that it must give. ``name`` says what happens, for a person."""

    name: str
    allow: bool
    ask: Callable[[PolicyEngine], bool]


def safe_engine(policy: Policy) -> CedarEngine:
    """Return the engine of a policy that passed every vector: the only way in which a policy comes into force.

    :raises InvalidPolicyError: the Cedar text doesn't fit the schema.
    :raises PolicyUnsafeError: a vector came out otherwise than it must; it is named.
    """
    return _tested(policy.cedar, policy.rules, policy.models, policy.caps)


def failures(policy: Policy, engine: PolicyEngine) -> Iterator[Vector]:
    """Yield every vector that comes out otherwise than it must."""
    return (vector for vector in vectors(policy) if vector.ask(engine) is not vector.allow)


def vectors(policy: Policy) -> Iterator[Vector]:
    """Yield what a policy is asked: first what it must allow, then what it must deny."""
    yield from _allowances(policy)
    yield from _governing()
    yield from _speaking()
    names = _mentioned(policy.cedar)
    for terms in _cast(policy, names):
        for rule in _rules(policy, terms.level):
            yield from _denials(policy, rule, terms, names)


# A policy is looked at when it is drafted, shown, signed and adopted, and the answer depends on nothing else.
@lru_cache(maxsize=16)
def _tested(cedar: str, rules: tuple[Rule, ...], models: tuple[ModelTerms, ...], caps: Caps) -> CedarEngine:
    policy = Policy(genesis=_ANY, epoch=1, predecessor=None, cedar=cedar, rules=rules, models=models, caps=caps)
    engine = CedarEngine(policy)
    failed = next(failures(policy, engine), None)
    if failed is None:
        return engine
    if failed.allow:
        raise PolicyUnsafeError(
            f"under this policy nobody could ever do this: {failed.name}",
            remedy="let the rules and the Cedar policies allow it; all failures: strongroom policy test",
        )
    raise PolicyUnsafeError(
        f"the Cedar policies allow what must be denied: {failed.name}",
        remedy="every `permit` needs this condition; see the default policies, and strongroom policy test",
    )


# --- what must be possible --------------------------------------------------------------------------------------------


def _allowances(policy: Policy) -> Iterator[Vector]:
    for level in SecurityLevel:
        known = [terms for terms in policy.models if terms.level is level]
        freezes = _rule(policy, Action.FREEZE, level)
        if known or freezes:
            yield _possible(f"a cleared responder freezes a model at {level.value}", policy, Action.FREEZE, level)
        if _rule(policy, Action.OPEN_IN_ENCLAVE, level):
            text = f"a cleared requester opens a model at {level.value}, everybody agreeing"
            yield _possible(text, policy, Action.OPEN_IN_ENCLAVE, level)
    change = replace(_change(policy.level), change=Change.POLICY, proposed_at=AT - 366 * DAY)
    yield Vector(
        name=f"the root quorum changes the policy, its models being at {policy.level.value}, after a year's wait",
        allow=True,
        ask=partial(_may_change, change),
    )
    for voice, text in ((Voice.REQUEST, "an active person asks"), (Voice.APPROVE, "an active person approves")):
        yield Vector(name=text, allow=True, ask=partial(_may_speak, _voice(voice)))


def _possible(name: str, policy: Policy, action: Action, level: SecurityLevel) -> Vector:
    # One model and one purpose for which it is possible are enough: a policy may well close the others.
    rule = _rule(policy, action, level)
    cast = [terms for terms in policy.models if terms.level is level][:MOST_MODELS] or [_model_at(level)]
    tries = [legitimate(rule, terms, policy.caps, purpose) for terms in cast for purpose in Purpose if rule]
    return Vector(name=name, allow=True, ask=partial(_any_allowed, tries))


# --- what must be denied ----------------------------------------------------------------------------------------------


def _governing() -> Iterator[Vector]:
    for change in Change:
        for level in SecurityLevel:
            facts = replace(_change(level), change=change, proposed_at=AT - 366 * DAY)
            broken = {
                "too few root holders signed it": replace(facts, signatures=THRESHOLD - 1),
                "an approver stopped it": replace(facts, stopped=True),
            }
            if level.rank >= CHANGE_DELAY_LEVEL.rank:
                broken["it was proposed less than a day ago"] = replace(facts, proposed_at=AT - CHANGE_DELAY + 1)
            for although, one in broken.items():
                yield Vector(
                    name=f"`{change.value}` at {level.value}, although {although}",
                    allow=False,
                    ask=partial(_cedar_changes, one),
                )


def _speaking() -> Iterator[Vector]:
    asking, approving = _voice(Voice.REQUEST), _voice(Voice.APPROVE)
    broken = {
        "somebody asks who isn't active": replace(asking, person=replace(asking.person, active=False)),
        "somebody approves who isn't active": replace(approving, person=replace(approving.person, active=False)),
        "somebody approves their own request": replace(approving, requester=approving.person.id),
        "an agent approves": replace(approving, person=replace(approving.person, human=False)),
    }
    for name, one in broken.items():
        yield Vector(name=name, allow=False, ask=partial(_cedar_speaks, one))


def _denials(policy: Policy, rule: Rule, terms: ModelTerms, names: frozenset[str]) -> Iterator[Vector]:
    exported = replace(terms, export=True) if rule.action is Action.EXPORT_PLAINTEXT else terms
    for number, purpose in enumerate(_purposes(names)):
        plain = legitimate(rule, exported, policy.caps, purpose)
        # The keeper waits for this: each name plays its part once, not once for each purpose.
        for facts in _played(plain, names) if number == 0 else (plain,):
            what = f"`{rule.action.value}` of `{terms.model}` at {terms.level.value} to {purpose.value}"
            by = "" if facts.requester.id == ASKER else f" by `{facts.requester.id}`"
            for brake in BRAKES:
                if brake.holds(facts):
                    name = f"{what}{by}, although {brake.although}"
                    yield Vector(name=name, allow=False, ask=partial(_cedar_allows, brake.broken(facts)))


def _played(facts: Facts, names: frozenset[str]) -> Iterator[Facts]:
    """Yield the facts with a nameless requester, with one who has every role that is named, and with each name."""
    who = facts.requester
    yield facts
    spoken = names - _WORDS
    if spoken:
        yield replace(facts, requester=replace(who, roles=who.roles | spoken))
    for name in sorted(spoken)[:MOST_NAMES]:
        person = PersonId(name)
        yield replace(facts, requester=replace(who, id=person), request=replace(facts.request, requester=person))


# --- asking -----------------------------------------------------------------------------------------------------------


def _any_allowed(tries: list[Facts], engine: PolicyEngine) -> bool:
    return any(decide(facts, engine).allowed for facts in tries)


def _may_change(facts: ChangeFacts, engine: PolicyEngine) -> bool:
    return may_change(facts, engine) is None


def _may_speak(facts: VoiceFacts, engine: PolicyEngine) -> bool:
    return may_speak(facts, engine) is None


def _cedar_allows(facts: Facts, engine: PolicyEngine) -> bool:
    return engine.allows(facts) is not None


def _cedar_changes(facts: ChangeFacts, engine: PolicyEngine) -> bool:
    return engine.allows_change(facts) is not None


def _cedar_speaks(facts: VoiceFacts, engine: PolicyEngine) -> bool:
    return engine.allows_voice(facts) is not None


# --- the cast ---------------------------------------------------------------------------------------------------------


def _rule(policy: Policy, action: Action, level: SecurityLevel) -> Rule | None:
    try:
        return policy.rule(action, level)
    except NoRuleError:
        return None


def _rules(policy: Policy, level: SecurityLevel) -> Iterator[Rule]:
    """Yield a rule for each action at a level: the policy's, or where it has none, one that asks for little.

    Without a rule nothing is allowed, whatever Cedar says; but a rule may come, and Cedar be believed then.
    """
    for action in Action:
        yield _rule(policy, action, level) or Rule(
            action=action,
            level=level,
            requester_role=_STOCK_ROLE,
            factors=AGREES,
            requester_tier=1,
            approver_tier=1,
            max_window=DAY,
            max_uses=1,
        )


def _cast(policy: Policy, names: frozenset[str]) -> tuple[ModelTerms, ...]:
    """Return models to ask about: one of each kind that the policy has, and those named in the text.

    Without any model nothing is released; then one at the highest level that has a rule stands for all.
    """
    chosen: dict[tuple[object, ...], ModelTerms] = {}
    named: dict[tuple[object, ...], ModelTerms] = {}
    for terms in policy.models:
        # What the text doesn't name it can't tell apart.
        spoken = tuple(name if name in names else "" for name in (terms.collection, terms.owner, terms.model))
        # The named ones have places of their own: a crowd of others must not hide them.
        taken = named if any(spoken) else chosen
        if len(taken) < (MOST_NAMES if any(spoken) else MOST_MODELS):
            taken.setdefault((terms.level, terms.export, terms.weights, *spoken), terms)
    highest = max((rule.level for rule in policy.rules), key=lambda level: level.rank, default=SecurityLevel.SL3)
    return (*named.values(), *chosen.values()) or (_model_at(highest),)


def _model_at(level: SecurityLevel) -> ModelTerms:
    return ModelTerms(model=ModelId("any-model"), level=level, least_isolation="", owner=OTHER_UNIT)


def _purposes(names: frozenset[str]) -> tuple[Purpose, ...]:
    """Return the purposes that the text names, and one of each class of access: the others it can't tell apart."""
    return tuple(p for p in Purpose if p.value in names or p in {Purpose.EVALUATE, Purpose.RESEARCH})


def _mentioned(cedar: str) -> frozenset[str]:
    """Return every name in the text, as Cedar's own parser sees it: ids of entities, and literal strings."""
    found: set[str] = set()
    waiting: list[Json] = [json.loads(cedarpy.policies_to_json_str(cedar))["staticPolicies"]]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            kind, name, literal = value.get("type"), value.get("id"), value.get("Value")
            if isinstance(kind, str) and isinstance(name, str) and kind != f"{NAMESPACE}::Action":
                found.add(name)
            if isinstance(literal, str):
                found.add(literal)
            waiting += [one for key, one in value.items() if key != "annotations"]
    return frozenset(found)


def _change(level: SecurityLevel) -> ChangeFacts:
    return ChangeFacts(
        now=AT,
        change=Change.POLICY,
        level=level,
        loosens=True,
        signatures=THRESHOLD,
        threshold=THRESHOLD,
        proposed_at=AT,
        stopped=False,
    )


def _voice(voice: Voice) -> VoiceFacts:
    name = ASKER if voice is Voice.REQUEST else APPROVER
    return VoiceFacts(
        now=AT,
        voice=voice,
        person=cleared(name, org=ASKING_UNIT, roles=frozenset(), courses=()),
        requester=ASKER,
        model=ModelId("any-model"),
        level=SecurityLevel.SL1,
    )
