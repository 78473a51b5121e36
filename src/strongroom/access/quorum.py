"""Do these people fill these factors? A bipartite match: every place is filled by a different person.

One person with two roles, or two keys, is one person. Counting approvals for each role on its own would let
somebody who is in both teams approve twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from strongroom.access.policy import Factor
from strongroom.core.ids import PersonId

Fits = Callable[[PersonId, Factor], bool]
"""(person, factor) -> whether the person's approval may fill a place of that factor."""


def fill(factors: tuple[Factor, ...], people: Iterable[PersonId], fits: Fits) -> dict[PersonId, Factor] | None:
    """Assign distinct people to the factors' places (augmenting paths).

    :param people: those whose approval counts.
    :returns: person -> factor filled, or None when no assignment fills every place.
    """
    places = [factor for factor in factors for _ in range(factor.count)]
    holder: dict[int, PersonId] = {}

    def place(person: PersonId, seen: set[int]) -> bool:
        for index, factor in enumerate(places):
            if index not in seen and fits(person, factor):
                seen.add(index)
                if index not in holder or place(holder[index], seen):
                    holder[index] = person
                    return True
        return False

    for person in sorted(set(people)):
        place(person, set())
    if len(holder) < len(places):
        return None
    return {person: places[index] for index, person in holder.items()}


def missing(factors: tuple[Factor, ...], people: Iterable[PersonId], fits: Fits) -> tuple[Factor, ...]:
    """Name the places that the best match leaves empty, for explaining a refusal."""
    known = tuple(people)
    places = tuple(Factor(role=one.role, count=1, unit=one.unit) for one in factors for _ in range(one.count))
    filled: tuple[Factor, ...] = ()
    empty: list[Factor] = []
    for candidate in places:
        if fill((*filled, candidate), known, fits) is None:
            empty.append(candidate)
        else:
            filled = (*filled, candidate)
    return tuple(empty)
