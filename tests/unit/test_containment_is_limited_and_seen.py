"""Who can trigger containment can't stop everything unseen; and no budget opens a door for a thief."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import MalformedError
from strongroom.response.action_list import ACTIONS
from strongroom.response.actions import ActionName, Authority, AuthorityError, Command
from strongroom.response.executor import Answer, RunError, agree, answer, begin, due, hold, withheld
from strongroom.response.grading import Certainty
from strongroom.response.limits import (
    ALWAYS,
    DAY,
    FREE,
    PER_SUBJECT,
    SUBJECTS_PER_SOURCE,
    Budget,
    Signal,
    Verdict,
    judge,
)
from strongroom.response.run import Outcome, Run
from strongroom.response.subjects import EVERYTHING, Subject
from strongroom.response.wiring import playbook_called, shipped_playbooks
from support.responses import NOW, TERMS

N = ActionName
STOP = (N.FREEZE_RELEASES, N.ZERO_EGRESS)
ALL = (*STOP, N.EXPIRE_LEASES, N.REVOKE_GRANTS, N.NOTIFY)


def signal(name: str = "atlas", *, source: str = "w1", certainty: Certainty = Certainty.SURE) -> Signal:
    return Signal(source=source, certainty=certainty, subject=Subject.parse(f"model:{name}"))


def after(count: int, wanted: tuple[ActionName, ...] = ALL) -> tuple[Verdict, Budget]:
    budget, verdict = Budget(), Verdict(acts=(), waits=(), tell="")
    for _ in range(count):
        verdict, budget = judge(budget, signal(), wanted, NOW)
    return verdict, budget


def test_a_sure_signal_begins_everything_that_may_begin() -> None:
    verdict, _budget = after(1)
    assert set(verdict.acts) == set(ALL)
    assert verdict.acts[:2] == STOP
    assert (verdict.waits, verdict.tell) == ((), "")


def test_a_flood_stops_its_model_for_ever_and_everything_else_waits_for_a_person() -> None:
    verdict, _budget = after(500)
    assert set(verdict.acts) == {*STOP, N.NOTIFY}
    assert set(verdict.waits) == {N.EXPIRE_LEASES, N.REVOKE_GRANTS}
    assert verdict.tell == "containment-waits"


def test_a_source_that_stops_many_is_seen_at_the_second_and_reaches_few() -> None:
    budget = Budget()
    told = []
    for i in range(SUBJECTS_PER_SOURCE + 3):
        verdict, budget = judge(budget, signal(f"m{i}"), ALL, NOW)
        # Failing closed: each model that a sure signal is about is stopped, the twentieth as well as the first.
        assert set(STOP) <= set(verdict.acts)
        assert (N.EXPIRE_LEASES in verdict.acts) is (i < SUBJECTS_PER_SOURCE)
        told.append(verdict.tell)
    assert told[0] == ""
    assert set(told[1:SUBJECTS_PER_SOURCE]) == {"source-stops-many"}
    assert set(told[SUBJECTS_PER_SOURCE:]) == {"containment-waits"}
    # Another source isn't hindered by it.
    verdict, _budget = judge(budget, signal("m9", source="w2"), ALL, NOW)
    assert verdict.waits == ()


@pytest.mark.parametrize("certainty", [Certainty.LIKELY, Certainty.HINT])
def test_what_is_not_sure_begins_nothing_that_stops(certainty: Certainty) -> None:
    verdict, budget = judge(Budget(), signal(certainty=certainty), ALL, NOW)
    assert set(verdict.acts) <= FREE
    assert budget.spent == {}


def test_the_whole_deployment_is_never_stopped_by_a_signal() -> None:
    everything = Signal(source="w1", certainty=Certainty.SURE, subject=EVERYTHING)
    verdict, _budget = judge(Budget(), everything, ALL, NOW)
    assert set(verdict.acts) <= FREE
    assert verdict.tell == "containment-waits"


def test_a_new_day_gives_a_new_budget_and_a_clock_put_back_none() -> None:
    _verdict, budget = after(PER_SUBJECT)
    assert judge(budget, signal(), ALL, NOW - 3 * DAY)[0].waits
    assert judge(budget, signal(), ALL, NOW + DAY)[0].waits == ()


def test_a_restart_gives_nothing_back() -> None:
    _verdict, budget = after(3)
    assert Budget.parse(budget.to_bytes()) == budget
    assert Budget.parse(Budget().to_bytes()) == Budget()
    row = b'{"count":1,"source":"w1","subject":"model:a"}'
    with pytest.raises(MalformedError):
        Budget.parse(b'{"day":1,"spent":[' + row + b"," + row + b'],"v":1}')


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["w1", "w2", "w3"]),
            st.sampled_from(["model:a", "model:b", "person:p", "host:h", "deployment:all"]),
            st.sampled_from(Certainty),
            st.lists(st.sampled_from(ActionName), max_size=6, unique=True),
            st.integers(0, 3 * DAY),
        ),
        max_size=60,
    )
)
def test_no_sequence_opens_a_door_or_spends_more_than_a_day_allows(
    story: list[tuple[str, str, Certainty, list[ActionName], int]],
) -> None:
    budget = Budget()
    harm: dict[tuple[int, str, str], int] = {}
    for source, subject, certainty, wanted, at in story:
        one = Signal(source=source, certainty=certainty, subject=Subject.parse(subject))
        verdict, budget = judge(budget, one, tuple(wanted), at)
        assert sorted((*verdict.acts, *verdict.waits)) == sorted(wanted)
        if certainty is Certainty.SURE and subject.startswith("model:"):
            assert ALWAYS & set(wanted) <= set(verdict.acts)
        assert all(ACTIONS[name].authority is Authority.AUTOMATIC for name in verdict.acts)
        for name in verdict.acts:
            key = (budget.day, source, subject)
            harm[key] = harm.get(key, 0) + (name not in FREE | ALWAYS)
    assert all(count <= PER_SUBJECT for count in harm.values())


def test_what_waits_is_not_due_until_one_person_agrees() -> None:
    book = playbook_called("insider")
    run = begin(
        shipped_playbooks(),
        book.id,
        incident="inc-1",
        variables={"person": "person:rina"},
        terms=TERMS,
        now=NOW,
    )
    asked = {one.key: one.action for one in due(run) if isinstance(one, Command)}
    budget = Budget(day=NOW // DAY, spent={("idp", "person:rina"): PER_SUBJECT})
    one = Signal(source="idp", certainty=Certainty.SURE, subject=Subject.parse("person:rina"))
    verdict, _budget = judge(budget, one, tuple(asked.values()), NOW)
    assert set(verdict.waits) == set(asked.values())
    for key in asked:
        run = hold(run, key)
    assert due(run) == ()
    run = Run.parse(run.to_bytes())
    assert {kept.key for kept in withheld(run)} == set(asked)
    key = next(iter(asked))
    with pytest.raises(AuthorityError):
        answer(run, shipped_playbooks(), Answer(key=key, outcome=Outcome.DONE), NOW)
    assert [kept.key for kept in due(agree(run, key, "eli", NOW)) if isinstance(kept, Command)] == [key]
    with pytest.raises(RunError):
        hold(run, "0" * 32)
