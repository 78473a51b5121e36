"""Do these people fill these factors? A bipartite match: every place is filled by a different person.

One person with two roles, or two keys, is one person. Counting approvals for each role on its own would let
somebody who is in both teams approve twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from strongroom.access.policy import Factor
from strongroom.core.ids import PersonId


def fill(factors: tuple[Factor, ...], roles: Mapping[PersonId, AbstractSet[str]]) -> dict[PersonId, str] | None:
    """Assign distinct people to the factors' places (augmenting paths).

    :param roles: the roles of each person whose approval counts.
    :returns: person -> role filled, or None when no assignment fills every place.
    """
    places = [factor.role for factor in factors for _ in range(factor.count)]
    holder: dict[int, PersonId] = {}

    def place(person: PersonId, seen: set[int]) -> bool:
        for index, role in enumerate(places):
            if role in roles[person] and index not in seen:
                seen.add(index)
                if index not in holder or place(holder[index], seen):
                    holder[index] = person
                    return True
        return False

    for person in sorted(roles):
        place(person, set())
    if len(holder) < len(places):
        return None
    return {person: places[index] for index, person in holder.items()}


def missing(factors: tuple[Factor, ...], roles: Mapping[PersonId, AbstractSet[str]]) -> tuple[str, ...]:
    """Name the roles of the places that the best match leaves empty, for explaining a refusal."""
    places = tuple(Factor(role=factor.role, count=1) for factor in factors for _ in range(factor.count))
    filled: tuple[Factor, ...] = ()
    empty: list[str] = []
    for candidate in places:
        if fill((*filled, candidate), roles) is None:
            empty.append(candidate.role)
        else:
            filled = (*filled, candidate)
    return tuple(empty)
