"""The quorum's matching agrees with trying every assignment; more people never hurt; one person fills one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from strongroom.access.policy import Factor, Unit
from strongroom.access.quorum import fill, missing
from strongroom.core.ids import PersonId

ROLES = ("red", "green", "blue")
ASKING, OWNING = "asking", "owning"


@dataclass(frozen=True)
class Somebody:
    """Roles and unit: what a place of a factor looks at."""

    roles: frozenset[str]
    unit: str = ASKING


People = Mapping[PersonId, Somebody]
factors = st.lists(
    st.builds(
        lambda role, count, unit: Factor(role=role, count=count, unit=unit),
        st.sampled_from(ROLES),
        st.integers(1, 2),
        st.sampled_from(Unit),
    ),
    max_size=3,
).map(tuple)
somebody = st.builds(Somebody, st.frozensets(st.sampled_from(ROLES)), st.sampled_from([ASKING, OWNING, "third"]))
people = st.dictionaries(st.sampled_from([PersonId(name) for name in "abcdef"]), somebody, max_size=5)


def may(known: People) -> Callable[[PersonId, Factor], bool]:
    def fits(person: PersonId, factor: Factor) -> bool:
        one = known[person]
        unit = {Unit.ANY: True, Unit.OWNER: one.unit == OWNING, Unit.OTHER: one.unit != ASKING}[factor.unit]
        return unit and factor.role in one.roles

    return fits


def filled_by(wanted: tuple[Factor, ...], known: People) -> dict[PersonId, Factor] | None:
    return fill(wanted, known, may(known))


def places(wanted: tuple[Factor, ...]) -> list[Factor]:
    return [factor for factor in wanted for _ in range(factor.count)]


def brute(wanted: tuple[Factor, ...], known: People) -> bool:
    needed, fits = places(wanted), may(known)
    return any(
        all(fits(person, factor) for person, factor in zip(chosen, needed, strict=True))
        for chosen in permutations(known, len(needed))
    )


@given(factors, people)
def test_filling_agrees_with_trying_everything(wanted: tuple[Factor, ...], known: dict[PersonId, Somebody]) -> None:
    filled = filled_by(wanted, known)
    assert (filled is not None) == brute(wanted, known)
    if filled is not None:
        # A mapping from people: nobody fills two places. Every place is filled, each by somebody whom it wants.
        assert sorted(map(repr, filled.values())) == sorted(map(repr, places(wanted)))
        assert all(may(known)(person, factor) for person, factor in filled.items())


@given(factors, people, somebody)
def test_one_more_approver_never_breaks_a_quorum(
    wanted: tuple[Factor, ...], known: dict[PersonId, Somebody], more: Somebody
) -> None:
    if filled_by(wanted, known) is not None:
        assert filled_by(wanted, {**known, PersonId("zoe"): more}) is not None


@given(factors, people)
def test_one_approver_less_never_makes_a_quorum(wanted: tuple[Factor, ...], known: dict[PersonId, Somebody]) -> None:
    if filled_by(wanted, known) is None:
        for person in known:
            assert filled_by(wanted, {name: one for name, one in known.items() if name != person}) is None


@given(factors, people)
def test_somebody_listed_twice_fills_one_place(wanted: tuple[Factor, ...], known: dict[PersonId, Somebody]) -> None:
    assert fill(wanted, [*known, *known], may(known)) == filled_by(wanted, known)


@given(factors, people)
def test_what_is_missing_is_just_enough(wanted: tuple[Factor, ...], known: dict[PersonId, Somebody]) -> None:
    empty = missing(wanted, known, may(known))
    assert (not empty) == (filled_by(wanted, known) is not None)
    units = {Unit.ANY: ASKING, Unit.OWNER: OWNING, Unit.OTHER: "third"}
    helpers = {
        PersonId(f"helper{n}"): Somebody(frozenset({factor.role}), units[factor.unit]) for n, factor in enumerate(empty)
    }
    assert filled_by(wanted, {**known, **helpers}) is not None
    for name in helpers:
        assert filled_by(wanted, {**known, **{k: v for k, v in helpers.items() if k != name}}) is None


def test_no_factors_need_nobody() -> None:
    assert filled_by((), {}) == {}
