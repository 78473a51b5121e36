"""The quorum's matching agrees with trying every assignment; more people never hurt; one person fills one place."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from strongroom.access.policy import Factor
from strongroom.access.quorum import fill, missing
from strongroom.core.ids import PersonId

ROLES = ("red", "green", "blue")
factors = st.lists(
    st.builds(lambda role, count: Factor(role=role, count=count), st.sampled_from(ROLES), st.integers(1, 2)), max_size=3
).map(tuple)
people = st.dictionaries(
    st.sampled_from([PersonId(name) for name in "abcdef"]), st.frozensets(st.sampled_from(ROLES)), max_size=5
)


def places(wanted: tuple[Factor, ...]) -> list[str]:
    return [factor.role for factor in wanted for _ in range(factor.count)]


def brute(wanted: tuple[Factor, ...], roles: Mapping[PersonId, frozenset[str]]) -> bool:
    needed = places(wanted)
    return any(
        all(role in roles[person] for person, role in zip(chosen, needed, strict=True))
        for chosen in permutations(roles, len(needed))
    )


@given(factors, people)
def test_filling_agrees_with_trying_everything(
    wanted: tuple[Factor, ...], roles: dict[PersonId, frozenset[str]]
) -> None:
    filled = fill(wanted, roles)
    assert (filled is not None) == brute(wanted, roles)
    if filled is not None:
        # A mapping from people: nobody fills two places. Every place is filled, each by a holder of its role.
        assert sorted(filled.values()) == sorted(places(wanted))
        assert all(role in roles[person] for person, role in filled.items())


@given(factors, people, st.frozensets(st.sampled_from(ROLES)))
def test_one_more_approver_never_breaks_a_quorum(
    wanted: tuple[Factor, ...], roles: dict[PersonId, frozenset[str]], more: frozenset[str]
) -> None:
    if fill(wanted, roles) is not None:
        assert fill(wanted, {**roles, PersonId("zoe"): more}) is not None


@given(factors, people)
def test_one_approver_less_never_makes_a_quorum(
    wanted: tuple[Factor, ...], roles: dict[PersonId, frozenset[str]]
) -> None:
    if fill(wanted, roles) is None:
        for person in roles:
            assert fill(wanted, {name: held for name, held in roles.items() if name != person}) is None


@given(factors, people)
def test_what_is_missing_is_just_enough(wanted: tuple[Factor, ...], roles: dict[PersonId, frozenset[str]]) -> None:
    empty = missing(wanted, roles)
    assert (not empty) == (fill(wanted, roles) is not None)
    helpers = {PersonId(f"helper{n}"): frozenset({role}) for n, role in enumerate(empty)}
    assert fill(wanted, {**roles, **helpers}) is not None
    for name in helpers:
        assert fill(wanted, {**roles, **{k: v for k, v in helpers.items() if k != name}}) is None


def test_no_factors_need_nobody() -> None:
    assert fill((), {}) == {}
