"""A key's state says what may be done with it, and nothing comes back to life (SP 800-57 part 1)."""

from __future__ import annotations

import pytest

from strongroom.keys.periods import PERIODS, Layer, due
from strongroom.keys.states import (
    PROCESSES,
    PROTECTS,
    TRANSITIONS,
    KeyState,
    KeyStateError,
    KeyUnusableError,
    require_processes,
    require_protects,
    step,
)


def reachable(state: KeyState) -> set[KeyState]:
    found, wave = set[KeyState](), {state}
    while wave:
        wave = {after for one in wave for after in TRANSITIONS[one]} - found
        found |= wave
    return found


def test_every_state_has_its_row_and_leads_to_destruction() -> None:
    assert set(TRANSITIONS) == set(KeyState)
    assert all(KeyState.DESTROYED in reachable(state) for state in set(KeyState) - {KeyState.DESTROYED})


def test_nothing_leads_back_from_an_end() -> None:
    assert not TRANSITIONS[KeyState.DESTROYED]
    for ended in (KeyState.DEACTIVATED, KeyState.COMPROMISED):
        assert not reachable(ended) & PROTECTS
    assert all(KeyState.PRE_ACTIVE not in after for after in TRANSITIONS.values())


@pytest.mark.parametrize("state", KeyState)
def test_what_is_protected_can_be_opened_by_the_same_key(state: KeyState) -> None:
    assert PROTECTS <= PROCESSES
    for check, allowed in ((require_protects, PROTECTS), (require_processes, PROCESSES)):
        if state in allowed:
            check("k", state)
        else:
            with pytest.raises(KeyUnusableError, match=state.value):
                check("k", state)


@pytest.mark.parametrize("before", KeyState)
@pytest.mark.parametrize("after", KeyState)
def test_a_step_is_in_the_table_or_refused(before: KeyState, after: KeyState) -> None:
    if after in TRANSITIONS[before]:
        assert step("k", before, after) is after
    else:
        with pytest.raises(KeyStateError, match=f"{before.value}: it can't become {after.value}"):
            step("k", before, after)


@pytest.mark.parametrize("layer", Layer)
def test_a_key_is_due_when_its_period_is_over(layer: Layer) -> None:
    assert PERIODS[layer] <= 730 * 86_400
    assert not due(layer, 1_000, 1_000 + PERIODS[layer] - 1)
    assert due(layer, 1_000, 1_000 + PERIODS[layer])
