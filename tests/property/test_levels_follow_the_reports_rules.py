"""The level that findings carry: cumulative, never an average, never SL5, and nothing that wasn't found."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from strongroom.assurance.findings import Basis, Finding, State
from strongroom.assurance.levels import gaps, held
from strongroom.framework.catalogue import load
from strongroom.framework.ids import MeasureId
from strongroom.framework.levels import SecurityLevel

MEASURES = tuple(load().measures)


def found(state: State, **others: State) -> dict[MeasureId, Finding]:
    """Return findings of one state, but for the measures that are named, with `_` for `-`."""
    named = {name.replace("_", "-"): one for name, one in others.items()}
    return {
        name: Finding(measure=name, state=named.get(name, state), basis=Basis.AUTOMATIC, why="seen")
        for name in MEASURES
    }


def test_everything_met_is_sl4_and_never_sl5() -> None:
    assert held(found(State.MET), load()) is SecurityLevel.SL4
    assert held(found(State.NOT_APPLICABLE), load()) is SecurityLevel.SL4


@given(st.sampled_from(MEASURES), st.sampled_from([State.PARTLY, State.NOT_MET, State.NOT_ASSESSED]))
def test_one_measure_that_doesnt_hold_keeps_its_level_from_being_held(name: MeasureId, state: State) -> None:
    findings = found(State.MET, **{name.replace("-", "_"): state})
    level = load().measures[name].level
    below = {1: None, 2: SecurityLevel.SL1, 3: SecurityLevel.SL2, 4: SecurityLevel.SL3, 5: SecurityLevel.SL4}
    assert held(findings, load()) is below[level.rank]
    assert [gap.measure for gap in gaps(findings, load(), SecurityLevel.SL5)] == [name]
    del findings[name]
    assert held(findings, load()) is below[level.rank]


@given(st.lists(st.sampled_from(list(State)), min_size=len(MEASURES), max_size=len(MEASURES)))
def test_a_level_is_held_only_with_every_measure_at_and_below_it(states: list[State]) -> None:
    findings: Mapping[MeasureId, Finding] = {
        name: Finding(measure=name, state=state, basis=Basis.NOTHING, why="")
        for name, state in zip(MEASURES, states, strict=True)
    }
    level = held(findings, load())
    for measure in () if level is None else load().measures_of(level, cumulative=True):
        assert findings[measure.id].state.holds
    assert len(gaps(findings, load(), SecurityLevel.SL5)) == sum(not state.holds for state in states)


def test_the_lowest_level_and_the_cheapest_step_come_first() -> None:
    ranks = [gap.measure[:3] for gap in gaps(found(State.NOT_ASSESSED), load(), SecurityLevel.SL3)]
    assert ranks == sorted(ranks)
    assert len(ranks) == 111
