"""Researchers take out what their quota and everybody's allow within any year, and no more people than may."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import UsageError
from strongroom.core.ids import PersonId
from strongroom.egress.errors import Limit, LimitReachedError
from strongroom.egress.workspace import YEAR, Drop, check_drop
from support.egress import policy
from support.logs import AT

# 400,000 bits counted: 4,000 a year for all.
RULES = policy(workspace_person_bits=1500, quota_holders=3)


def drop(person: str, bits: int, at: int = AT) -> Drop:
    return Drop(person=PersonId(person), bits=bits, at=at)


def refused(drops: list[Drop], one: Drop, **changes: Any) -> LimitReachedError:
    with pytest.raises(LimitReachedError) as caught:
        check_drop(policy(**{"workspace_person_bits": 1500, "quota_holders": 3, **changes}), drops, one)
    return caught.value


def test_a_person_has_a_quota_that_comes_back_after_a_year() -> None:
    taken = [drop("dana", 1000), drop("dana", 400, AT + 10)]
    check_drop(RULES, taken, drop("dana", 100, AT + 20))
    error = refused(taken, drop("dana", 101, AT + 20))
    assert (error.limit, error.seen, error.wanted) == (Limit.WORKSPACE_PERSON_YEAR, 100, 101)
    assert error.passes_at == AT + YEAR
    refused(taken, drop("dana", 101, AT + YEAR - 1))
    check_drop(RULES, taken, drop("dana", 101, AT + YEAR))


def test_everybody_together_has_one_hundredth_of_the_size() -> None:
    taken = [drop("dana", 1500), drop("eli", 1500)]
    check_drop(RULES, taken, drop("fay", 1000))
    assert refused(taken, drop("fay", 1001)).limit is Limit.WORKSPACE_YEAR


def test_only_so_many_people_hold_a_quota() -> None:
    taken = [drop(person, 1) for person in ("dana", "eli", "fay")]
    check_drop(RULES, taken, drop("fay", 1))
    error = refused(taken, drop("gil", 1))
    assert error.limit is Limit.QUOTA_HOLDERS
    assert "0 people left" in error.message
    check_drop(RULES, taken, drop("gil", 1, AT + YEAR))


def test_a_workspace_without_quota_lets_nothing_out() -> None:
    closed = {"workspace_year_permille": 0, "workspace_person_bits": 0}
    assert refused([], drop("dana", 1), **closed).passes_at is None


def test_a_drop_of_nothing_has_no_meaning() -> None:
    with pytest.raises(UsageError):
        check_drop(RULES, [], drop("dana", 0))


def test_a_clock_that_went_back_frees_nothing() -> None:
    assert refused([drop("dana", 1500, AT + 100)], drop("dana", 1)).limit is Limit.WORKSPACE_PERSON_YEAR


@given(
    st.lists(
        st.tuples(st.sampled_from(["dana", "eli", "fay", "gil"]), st.integers(1, 1600), st.integers(0, YEAR // 3)),
        max_size=40,
    )
)
def test_no_year_has_more_than_its_share(asked: list[tuple[str, int, int]]) -> None:
    drops: list[Drop] = []
    now = AT
    for person, bits, passed in asked:
        now += passed
        one = drop(person, bits, now)
        try:
            check_drop(RULES, drops, one)
        except LimitReachedError:
            continue
        drops.append(one)
    for last in drops:
        year = [one for one in drops if last.at - YEAR < one.at <= last.at]
        assert sum(one.bits for one in year) <= RULES.workspace_year_bits
        assert len({one.person for one in year}) <= RULES.quota_holders
