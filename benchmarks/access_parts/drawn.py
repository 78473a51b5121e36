"""Facts to decide on: the same random ones for every engine, and what an engine is given of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Final, TypeVar

from strongroom.access.engine import _entities, _request
from strongroom.access.facts import EnclaveFacts, Facts, PersonFacts
from strongroom.access.policy import Factor, Rule, Unit
from strongroom.access.request import OPENS, Action, Purpose
from strongroom.core.canonical import Json
from strongroom.framework.levels import SecurityLevel
from support.facts import FLAWS, NOW, good, someone

SEED: Final = 20
ACTIONS: Final = (Action.OPEN_IN_ENCLAVE, Action.EXPORT_PLAINTEXT)
T = TypeVar("T")


class _Draw:
    """Random choices that mostly are the usual one: else every case would be refused for ten reasons."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - cases for a benchmark, the same each time

    def mostly(self, usual: T, *others: T) -> T:
        """Return the usual value in 14 of 15 draws."""
        return usual if self._random.random() < 14 / 15 else self._random.choice(others)

    def any(self, *values: T) -> T:
        """Return one of the values."""
        return self._random.choice(values)

    def person(self, name: str, *roles: str) -> PersonFacts:
        """Return somebody, sometimes with a flaw."""
        person = someone(name, *roles)
        if self._random.random() < 1 / 8:
            person = replace(person, **self._random.choice(FLAWS))  # type: ignore[arg-type]  # members of the class
        return person

    def rule(self, rule: Rule) -> Rule:
        """Return a rule for the same action."""
        one = rule.factors[:1]
        factors = self.mostly(
            rule.factors,
            (),
            one,
            (Factor(role="red", count=2),),
            (*one, Factor(role="green", count=1, unit=Unit.OTHER)),
            (*one, Factor(role="green", count=1, unit=Unit.OWNER)),
        )
        return replace(
            rule,
            requester_role=self.mostly("asker", "red"),
            factors=factors,
            delay=self.mostly(0, 5, 6),
            hardware=self.any(True, False),  # noqa: FBT003 - a choice among values
            nda=self.any(True, False),  # noqa: FBT003
        )

    def facts(self) -> Facts:
        """Return facts to decide on."""
        facts = good(self.any(*ACTIONS))
        requester = self.person("dana", "asker", "red")
        crowd = (self.person("sam", "red"), self.person("rina", "green"), self.person("tess", "red", "green"))
        approvers = self.mostly(crowd[:2], crowd, crowd[1:], crowd[:1], (), (*crowd[1:], requester))
        request = replace(
            facts.request,
            purpose=self.any(Purpose.EVALUATE, Purpose.RESEARCH),
            not_before=self.mostly(NOW, NOW + 1, NOW - 30),
            expires=self.mostly(NOW + 1, NOW),
        )
        enclave = EnclaveFacts(
            isolation=self.mostly(2, 0, 1),
            least_isolation=self.any(1, 2),
            level_cap=self.mostly(5, 0, 3),
            measurement_current=self.mostly(True, False),  # noqa: FBT003
            platform_named=self.mostly(True, False),  # noqa: FBT003
        )
        level = self.mostly(SecurityLevel.SL3, SecurityLevel.SL2, SecurityLevel.SL4, SecurityLevel.SL5)
        terms = replace(
            facts.terms,
            level=level,
            owner=self.mostly("research", ""),
            export=self.mostly(True, False),  # noqa: FBT003
        )
        return replace(
            facts,
            request=request,
            rule=self.rule(facts.rule),
            terms=terms,
            requester=requester,
            approvers=approvers,
            recorded_at=self.mostly(NOW - 6, NOW - 5, NOW - 4),
            denied=self.mostly(False, True),  # noqa: FBT003
            frozen=self.mostly(False, True),  # noqa: FBT003
            uses_left=self.mostly(1, 0, -1),
            holders=self.mostly(1, 21, 51, 101),
            enclave=self.mostly(enclave, None) if request.action in OPENS else None,
        )


def drawn(count: int, seed: int = SEED) -> Iterator[Facts]:
    """Yield random facts of both actions; about a third of them are allowed."""
    draw = _Draw(seed)
    for _ in range(count):
        yield draw.facts()


def changing(count: int, approvers: int = 2) -> list[Facts]:
    """Return facts that are all allowed and differ in a date of a person, so that each has entities of its own."""
    facts = good()
    half = -(-approvers // 2)
    people = [someone(f"red-{n}", "red") for n in range(half)] + [someone(f"green-{n}", "green") for n in range(half)]
    return [
        replace(
            facts,
            requester=replace(facts.requester, vetted_until=NOW + 100 + number),
            approvers=tuple(people[:approvers]) if approvers > 2 else facts.approvers,
        )
        for number in range(count)
    ]


def crowded(count: int, factors: int) -> Facts:
    """Return facts with so many approvers of two roles under so many factors."""
    facts = good()
    people = tuple(someone(f"p{n:02}", "red" if n % 2 else "green") for n in range(count))
    wanted = tuple(Factor(role="red" if n % 2 else "green", count=1) for n in range(factors))
    return replace(facts, approvers=people, rule=replace(facts.rule, factors=wanted))


def document(facts: Facts) -> dict[str, Json]:
    """Return what our engine is given, in one object: the others are asked with the very same values."""
    asked = _request(facts)
    entities = {_name(entity["uid"]): entity for entity in _entities(facts) if isinstance(entity, dict)}
    principal, context = entities[_name(asked["principal"])], dict(_object(asked["context"]))
    role = _object(_object(context["requesterRole"])["__entity"])["id"]
    return {
        "principal": {
            **_object(principal["attrs"]),
            "human": facts.requester.human,
            "roles": [*sorted(facts.requester.roles)],
        },
        "action": facts.request.action.value,
        "resource": entities[_name(asked["resource"])]["attrs"],
        "context": {**context, "requesterRole": role},
    }


def _name(uid: Json) -> tuple[str, str]:
    found = _object(uid)
    return str(found["type"]), str(found["id"])


def _object(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict)
    return value
