"""Who acts in incidents, and who sees them: the same people for the responder and for whatever shows incidents."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from strongroom.access.policy import Policy
from strongroom.client.trust import Trust
from strongroom.core.ids import PersonId
from strongroom.personnel.roster import Person, PersonKind
from strongroom.responder.people import may_act, may_see, who_may_act
from support.deployment import person, rules, signer

DANA, SAM, EVE = PersonId("dana"), PersonId("sam"), PersonId("eve")


def somebody(name: PersonId, *roles: str, **members: object) -> Person:
    made = Person(id=name, org="security", active=True, roles=frozenset(roles), keys=(signer(name).public_key,))
    return replace(made, **members)  # type: ignore[arg-type]


def trust(*people: Person, suspended: tuple[PersonId, ...] = ()) -> Trust:
    policy = cast("Policy", SimpleNamespace(rules=rules()))
    roster = SimpleNamespace(people=people)
    return cast("Trust", SimpleNamespace(roster=roster, policy=policy, suspended=suspended))


def test_responders_and_approvers_of_a_resume_act() -> None:
    known = trust(person("dana"), person("sam"), person("rina"))
    assert set(who_may_act(known)) == {"dana", "sam", "rina"}
    assert all(may_act(known, one) and may_see(known, one) for one in (DANA, SAM))


@pytest.mark.parametrize(
    "other",
    [
        somebody(EVE, "requester"),
        somebody(EVE, "publisher", "vetting-officer"),
        somebody(EVE, "responder", active=False),
        somebody(EVE, "responder", kind=PersonKind.AGENT, sponsor=SAM),
        somebody(EVE, "auditor", kind=PersonKind.AGENT, sponsor=SAM),
        somebody(EVE),
    ],
)
def test_others_neither_act_nor_see(other: Person) -> None:
    known = trust(person("dana"), other)
    assert not may_act(known, EVE)
    assert not may_see(known, EVE)
    assert EVE not in who_may_act(known)


def test_auditors_see_and_do_not_act() -> None:
    known = trust(somebody(EVE, "auditor"))
    assert (may_act(known, EVE), may_see(known, EVE)) == (False, True)
    assert not may_see(trust(somebody(EVE, "auditor", active=False)), EVE)


def test_who_is_suspended_or_unknown_sees_nothing() -> None:
    known = trust(person("dana"), somebody(EVE, "auditor"), suspended=(DANA, EVE))
    assert not any(may_see(known, one) or may_act(known, one) for one in (DANA, EVE, SAM))


def test_without_documents_nobody_does() -> None:
    empty = cast("Trust", SimpleNamespace(roster=None, policy=None, suspended=()))
    assert who_may_act(None) == who_may_act(empty) == {}
    assert not may_see(empty, DANA)
