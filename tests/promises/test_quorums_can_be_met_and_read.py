"""Whatever a policy asks for can be met and read: as many approvals as it may ask for are looked at, kept and told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from strongroom.access.invariants import factors_of
from strongroom.access.legitimate import legitimate
from strongroom.access.policy import MAX_APPROVALS, MAX_FACTORS, MAX_QUORUM, Factor, Rule
from strongroom.access.request import Action, Purpose
from strongroom.client.api import BrokerApi
from strongroom.core.errors import MalformedError
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.release.decided import Decided
from strongroom.release.dossier import Dossier
from support.policies import EVERY_LEVEL, PolicyDeployment, Stored
from support.stories import hire, hire_vetted, someone

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration
LARGEST = (Factor(role="approver-security", count=16), Factor(role="approver-research", count=MAX_QUORUM - 16))
MORE = 70
"""People who approve: more than once were read, and than are looked at."""


def name(number: int) -> str:
    return f"approver-{number:055}"


def asking(rule: Rule, *factors: Factor) -> Rule:
    with Fields(replace(rule, factors=factors).to_json(), "rule") as fields:
        return Rule.read(fields)


def test_a_rule_asks_for_no_more_people_than_can_approve() -> None:
    (rule, *_others) = EVERY_LEVEL.rules
    assert asking(rule, *LARGEST).quorum == MAX_QUORUM
    one = Factor(role="lead", count=1)
    for factors in ((*LARGEST, one), (Factor(role="lead", count=16),) * MAX_FACTORS):
        with pytest.raises(MalformedError, match=f"{MAX_QUORUM} are the most"):
            asking(rule, *factors)


def test_what_is_asked_for_beyond_the_largest_rule_can_be_met_too() -> None:
    (rule, *_others) = EVERY_LEVEL.rules
    destroy = replace(asking(rule, *LARGEST), action=Action.DESTROY)
    facts = legitimate(destroy, EVERY_LEVEL.models[0], EVERY_LEVEL.caps, Purpose.EVALUATE)
    worst = replace(facts, review_overdue=True, approver_more=True)
    assert sum(factor.count for factor in factors_of(worst)) == MAX_APPROVALS


@pytest.fixture
def deployment() -> Iterator[PolicyDeployment]:
    made = PolicyDeployment()
    made.run(made.room.furnish())
    yield made
    made.close()


def test_a_grant_of_the_largest_quorum_is_explained_however_many_approved(deployment: PolicyDeployment) -> None:
    room = deployment.room
    roles = ("approver-security", "approver-research")
    people = [someone(name(number), roles[number % 2]) for number in range(MORE)]

    async def story() -> Stored:
        await hire_vetted(room, *people)
        rules = tuple(
            replace(rule, factors=LARGEST) if rule.action is Action.OPEN_IN_ENCLAVE else rule
            for rule in room.policy.rules
        )
        await room.next_policy(rules=rules)
        request = await room.ask(max_uses=9)
        approvals = await room.approvals(request, *(person.id for person in people))
        dossier = room.bare(request, *approvals[:MAX_APPROVALS])
        assert Dossier.read(Fields(dossier.to_json(), "dossier")) == dossier
        assert await room.keeper.grant(dossier) is not None
        return Stored(request, dossier.approvals)

    stored = deployment.run(story())
    deployment.requests[str(stored.request.digest)] = stored
    assert len(room.keeper.journal.ledger.approvals[stored.request.digest]) == MORE
    told = BrokerApi(deployment).explain(stored.request.digest)
    assert told.grant is not None
    assert told.grant.approvers == tuple(name(number) for number in range(MAX_APPROVALS))
    assert told.grant.approvers == room.log.last(EventName.GRANT_ISSUED).texts("approvers")


def test_a_refusal_with_as_many_approvers_who_lack_something_is_explained_and_kept(
    deployment: PolicyDeployment,
) -> None:
    room = deployment.room
    people = [someone(name(number), "nothing") for number in range(MAX_APPROVALS)]

    async def story() -> Stored:
        await hire(room, *people)
        request = await room.ask()
        return Stored(request, await room.approvals(request, *(person.id for person in people)))

    stored = deployment.run(story())
    deployment.requests[str(stored.request.digest)] = stored
    told = BrokerApi(deployment).explain(stored.request.digest)
    assert not told.allowed
    # The first of them is why the step refused.
    assert [reason for reason, _remedy in told.others].count("approver-not-vetted") == MAX_APPROVALS - 1
    verdict = room.keeper.explain(room.bare(stored.request, *stored.approvals))
    decided = Decided.of(verdict)
    assert decided is not None
    assert Decided.parse(decided.to_bytes()) == decided
