"""What the suite's numbers say is counted from results: nothing that broke or wasn't run counts for anything."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from strongroom.assurance.attack_results import AttackResult, AttackRun, LayerTrial, Outcome
from strongroom.attacks.summary import acted_out, by_capacity, independent, totals
from strongroom.framework.catalogue import load
from strongroom.framework.ids import VectorId
from strongroom.framework.levels import OperationalCapacity

VECTORS = sorted(load().vectors)


def result(
    outcome: Outcome, *, detected: bool = False, capacity: str = "OC2", vectors: Sequence[str] = ("CEC-4",)
) -> AttackResult:
    return AttackResult(
        attack="x",
        title="X",
        vectors=tuple(VectorId(one) for one in vectors),
        capacity=OperationalCapacity(capacity),
        outcome=outcome,
        refusal="",
        detected=detected,
        signal="",
        measures=(),
        layers=(),
        micros=1,
    )


results = st.lists(
    st.builds(
        result,
        st.sampled_from(Outcome),
        detected=st.booleans(),
        capacity=st.sampled_from([one.value for one in OperationalCapacity]),
        vectors=st.lists(st.sampled_from(VECTORS), min_size=1, max_size=3),
    ),
    max_size=20,
)


@given(results)
def test_every_result_is_counted_once(found: list[AttackResult]) -> None:
    counted = totals(found)
    assert counted.executed + counted.broken + counted.not_run == len(found)
    assert counted.blocked + counted.unblocked == counted.executed
    assert counted.unseen <= counted.unblocked
    assert counted.detected <= counted.executed


@given(results)
def test_coverage_is_of_what_was_executed(found: list[AttackResult]) -> None:
    acted = acted_out(found, load())
    assert set(acted) == {vector for one in found if one.outcome.executed for vector in one.vectors}
    assert len(acted) == len(set(acted))


@given(results)
def test_a_stronger_attacker_can_try_all_that_a_weaker_can(found: list[AttackResult]) -> None:
    faced = by_capacity(found)
    assert [one.capacity for one in faced] == list(OperationalCapacity)
    assert [one.executed for one in faced] == sorted(one.executed for one in faced)
    assert faced[-1].executed == totals(found).executed


def test_unblocked_and_unseen_is_told_apart_from_unblocked_and_seen() -> None:
    counted = totals([result(Outcome.UNBLOCKED, detected=True), result(Outcome.UNBLOCKED)])
    assert (counted.unblocked, counted.unseen) == (2, 1)
    assert acted_out([result(Outcome.BROKEN), result(Outcome.NOT_RUN)], load()) == ()


def test_a_layer_without_trials_is_not_independent() -> None:
    trials = (
        LayerTrial(layer="a", stopped=("x",), passed=()),
        LayerTrial(layer="b", stopped=("x",), passed=("y",)),
        LayerTrial(layer="c", stopped=(), passed=()),
    )
    made = AttackRun(at=1_795_000_000, version="0", live=False, results=(), trials=trials)
    assert independent(made) == ("a",)
