"""How a policy differs is said, and whether it guards less: easier to get and harder to stop are both looser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from strongroom.access.clearance import ANYONE
from strongroom.access.engine import DEFAULT_CEDAR
from strongroom.access.policy import Caps, DeadMan, Factor, LevelAge, ModelTerms, Policy, Unit, Weights, Witnesses
from strongroom.access.request import Action
from strongroom.core.ids import ModelId, PersonId
from strongroom.framework.levels import SecurityLevel
from strongroom.release.policy_diff import Mark, cedar_diff, differences, may_be_looser
from support.cosigners import witness
from support.policies import policy

LEVEL = SecurityLevel.SL4
OPEN = Action.OPEN_IN_ENCLAVE
SECURITY, RESEARCH = (Factor(role=f"approver-{name}", count=1, unit=Unit.OTHER) for name in ("security", "research"))
_DEFAULT = policy()
BEFORE = replace(
    _DEFAULT,
    rules=tuple(replace(one, factors=(SECURITY, RESEARCH)) if one.action is OPEN else one for one in _DEFAULT.rules),
)


def rule(action: Action = OPEN, **members: Any) -> Policy:
    rules = tuple(
        replace(one, **members) if (one.action, one.level) == (action, LEVEL) else one for one in BEFORE.rules
    )
    return replace(BEFORE, rules=rules)


def without(action: Action) -> Policy:
    return replace(BEFORE, rules=tuple(one for one in BEFORE.rules if (one.action, one.level) != (action, LEVEL)))


def model(**members: Any) -> Policy:
    return replace(BEFORE, models=tuple(replace(one, **members) for one in BEFORE.models))


def witnessed(quorum: str, **members: Any) -> Policy:
    """Return the policy with three witnesses under other names each time."""
    lines = "".join(f"witness {quorum[0]}{n} {witness(n).key} http://w{n}\n" for n in (1, 2, 3))
    rule = {"A": "group q all A1 A2 A3", "T": "group q 2 T1 T2 T3", "N": "group q any N1 N2 N3", "O": "group q 1 O1"}
    text = f"{lines}{rule[quorum[0]]}\nquorum q\n"
    return replace(BEFORE, witnesses=Witnesses(policy=text, **members))


def _renamed() -> str:
    """Return the same quorum by other names, without addresses, in another order."""
    lines = "".join(f"witness X{n} {witness(n).key}\n" for n in (3, 1, 2))
    return f"# who saw it\n{lines}group two-of 2 X1 X2 X3\nquorum two-of\n"


def watched(*names: str, **members: int) -> Policy:
    return replace(BEFORE, dead_man=DeadMan(responders=tuple(map(PersonId, names)), **members))


def many(count: int, quorum: str) -> Policy:
    lines = "".join(f"witness W{n} {witness(n).key}\n" for n in range(count))
    return replace(BEFORE, witnesses=Witnesses(policy=f"{lines}quorum {quorum}\n"))


CASES: list[tuple[Policy, Policy, list[Mark]]] = [
    (BEFORE, BEFORE, []),
    (BEFORE, witnessed("T"), [Mark.TIGHTER]),
    (witnessed("T"), BEFORE, [Mark.LOOSER]),
    (witnessed("T"), witnessed("A"), [Mark.TIGHTER]),
    (witnessed("T"), witnessed("N"), [Mark.LOOSER]),
    (witnessed("O"), witnessed("N"), [Mark.LOOSER]),
    (witnessed("T"), witnessed("O"), [Mark.CHANGED]),
    (witnessed("T"), replace(BEFORE, witnesses=Witnesses(policy=_renamed())), []),
    (witnessed("T"), replace(BEFORE, witnesses=Witnesses(policy="nonsense")), [Mark.CHANGED]),
    (witnessed("T"), witnessed("T", max_age_seconds=901), [Mark.LOOSER] * 5),
    (witnessed("T"), witnessed("T", levels=(LevelAge(level=LEVEL, max_age_seconds=60),)), [Mark.TIGHTER]),
    (witnessed("T", levels=(LevelAge(level=LEVEL, max_age_seconds=60),)), witnessed("T"), [Mark.LOOSER]),
    (BEFORE, watched("warden"), [Mark.TIGHTER]),
    (watched("warden"), BEFORE, [Mark.LOOSER]),
    (watched("warden"), watched("warden"), []),
    (watched("warden"), watched("other"), [Mark.LOOSER, Mark.TIGHTER]),
    (watched("warden"), watched("warden", max_age_seconds=61), [Mark.LOOSER]),
    (watched("warden"), watched("warden", max_age_seconds=59), [Mark.TIGHTER]),
    (many(15, "W1"), many(15, "W2"), [Mark.CHANGED]),
    (many(14, "W1"), many(14, "W1"), []),
    (BEFORE, rule(requester_tier=2), [Mark.LOOSER]),
    (BEFORE, rule(approver_tier=5), [Mark.TIGHTER]),
    (BEFORE, rule(max_window=7 * 86400), [Mark.LOOSER]),
    (BEFORE, rule(max_uses=1), [Mark.TIGHTER]),
    (BEFORE, rule(approval_life=7 * 86400), [Mark.LOOSER]),
    (BEFORE, rule(delay=3600), [Mark.TIGHTER]),
    (rule(delay=3600), BEFORE, [Mark.LOOSER]),
    (BEFORE, rule(hardware=False, nda=False), [Mark.LOOSER, Mark.LOOSER]),
    (BEFORE, rule(courses=()), [Mark.LOOSER]),
    (BEFORE, rule(courses=("weights-handling", "ethics")), [Mark.TIGHTER]),
    (BEFORE, rule(courses=("ethics",)), [Mark.TIGHTER, Mark.LOOSER]),
    (BEFORE, rule(requester_role="anybody"), [Mark.CHANGED]),
    (BEFORE, rule(factors=(SECURITY,)), [Mark.LOOSER]),
    (BEFORE, rule(factors=(SECURITY, RESEARCH, RESEARCH)), [Mark.TIGHTER]),
    (BEFORE, rule(factors=(RESEARCH, SECURITY)), []),
    (BEFORE, rule(factors=(SECURITY, replace(RESEARCH, unit=Unit.ANY))), [Mark.LOOSER]),
    (BEFORE, rule(factors=(SECURITY, replace(RESEARCH, unit=Unit.OWNER))), [Mark.CHANGED]),
    (BEFORE, rule(factors=(Factor(role=ANYONE, count=2, unit=Unit.OTHER),)), [Mark.LOOSER]),
    (BEFORE, rule(factors=(SECURITY, SECURITY)), [Mark.CHANGED]),
    (BEFORE, without(OPEN), [Mark.TIGHTER]),
    (without(OPEN), BEFORE, [Mark.LOOSER]),
    # What only stops is the other way round.
    (BEFORE, without(Action.FREEZE), [Mark.LOOSER]),
    (BEFORE, rule(Action.FREEZE, requester_tier=5), [Mark.LOOSER]),
    (BEFORE, rule(Action.FREEZE, factors=(SECURITY,)), [Mark.LOOSER]),
    (BEFORE, rule(Action.FREEZE, requester_tier=0), [Mark.CHANGED]),
    (BEFORE, rule(Action.REVOKE_GRANT, delay=60), [Mark.LOOSER]),
    (BEFORE, rule(Action.RESUME, delay=60), [Mark.TIGHTER]),
    (BEFORE, model(level=SecurityLevel.SL3), [Mark.LOOSER]),
    (BEFORE, model(level=SecurityLevel.SL5), [Mark.TIGHTER]),
    (BEFORE, model(least_isolation="process"), [Mark.LOOSER]),
    (BEFORE, model(weights=Weights.TEST), [Mark.LOOSER]),
    (model(weights=Weights.TEST), BEFORE, [Mark.TIGHTER]),
    (BEFORE, model(least_isolation="cvm"), [Mark.TIGHTER]),
    (BEFORE, model(export=False), [Mark.TIGHTER]),
    (model(export=False), BEFORE, [Mark.LOOSER]),
    (BEFORE, model(owner="sales", collection="c"), [Mark.CHANGED, Mark.CHANGED]),
    (BEFORE, replace(BEFORE, models=()), [Mark.TIGHTER]),
    (BEFORE, replace(BEFORE, caps=Caps(copy=5)), [Mark.TIGHTER]),
    (replace(BEFORE, caps=Caps(copy=5)), BEFORE, [Mark.LOOSER]),
    (BEFORE, replace(BEFORE, cedar=DEFAULT_CEDAR + "// more\n"), [Mark.CHANGED]),
]


@pytest.mark.parametrize(("before", "after", "marks"), CASES)
def test_each_difference_is_marked(before: Policy, after: Policy, marks: list[Mark]) -> None:
    found = differences(before, after)
    assert sorted(one.mark for one in found) == sorted(marks)
    assert may_be_looser(found) is bool({Mark.LOOSER, Mark.CHANGED} & set(marks))
    assert all(one.text.isprintable() for one in found)


def test_a_new_model_is_new_and_loosens_nothing() -> None:
    more = ModelTerms(model=ModelId("zeta"), level=LEVEL, least_isolation="cvm")
    found = differences(BEFORE, replace(BEFORE, models=(*BEFORE.models, more)))
    assert [(one.mark, one.text) for one in found] == [(Mark.NEW, "model `zeta` at SL4")]
    assert not may_be_looser(found)


def test_a_difference_says_what_was_and_what_becomes() -> None:
    def said(change: Callable[[], Policy]) -> str:
        (one,) = differences(BEFORE, change())
        return one.text

    assert said(lambda: rule(max_window=60)) == "open-in-enclave at SL4: longest window, in seconds 60, was 86400"
    assert said(lambda: rule(hardware=False)) == "open-in-enclave at SL4: security keys no, was yes"
    assert (
        said(lambda: model(least_isolation="cvm")) == "model `model-sl4`: isolation at least `cvm`, was `vm-simulated`"
    )
    assert said(lambda: replace(BEFORE, caps=Caps(output=7))) == "most people with output-limited access 7, was 100"


def test_the_cedar_texts_are_compared_line_by_line() -> None:
    after = replace(BEFORE, cedar=DEFAULT_CEDAR.replace("context.usesLeft > 0", "context.usesLeft > 1", 1))
    lines = cedar_diff(BEFORE, after)
    assert sum(line.startswith("+") for line in lines) == 2
    assert cedar_diff(BEFORE, BEFORE) == ()
