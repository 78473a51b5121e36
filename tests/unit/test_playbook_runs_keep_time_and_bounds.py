"""Timeouts, delays, loops, exceptions and called playbooks: what a run does when the clock or an answer goes wrong."""

from __future__ import annotations

import pytest

from strongroom.core.errors import NotFoundError
from strongroom.response.actions import ActionName, Command
from strongroom.response.cacao import Playbook
from strongroom.response.executor import MAX_ROUNDS, Answer, RunError, answer, begin, due, tick
from strongroom.response.run import Outcome, Pending, Run, RunStatus
from support.playbooks import END, START, A, B, C, act, ask, playbook, sid
from support.responses import NOW, TERMS


def start(*books: Playbook) -> tuple[Run, dict[str, Playbook]]:
    library = {book.id: book for book in books}
    run = begin(library, books[0].id, incident="inc-1", variables={"model": "model:atlas"}, terms=TERMS, now=NOW)
    return run, library


def said(run: Run, value: str = "yes", outcome: Outcome = Outcome.DONE) -> Answer:
    (one,) = due(run)
    found = {"said": value} if isinstance(one, Pending) and outcome is Outcome.DONE else {}
    return Answer(key=one.key, outcome=outcome, found=found, by="eli")


def test_an_unanswered_step_fails_at_its_deadline_and_not_before() -> None:
    book = playbook(
        {
            START: {"type": "start", "on_completion": A},
            A: ask("", on_success=END, on_failure=B, timeout=90_001),
            B: act(END),
            END: {"type": "end"},
        }
    )
    run, library = start(book)
    # 90,001 ms are 91 whole seconds: nothing fails before its time.
    assert tick(run, library, NOW + 90) == run
    late = tick(run, library, NOW + 91)
    (command,) = due(late)
    assert isinstance(command, Command)
    assert late.failures == (A,)
    with pytest.raises(RunError):
        answer(late, library, Answer(key="0" * 32, outcome=Outcome.DONE), NOW)
    # What is told too late is no news.
    (old,) = run.pending
    assert answer(late, library, Answer(key=old.key, outcome=Outcome.DONE, by="eli"), NOW + 99) == late


def test_a_delay_is_waited_for() -> None:
    book = playbook(
        {START: {"type": "start", "on_completion": A}, A: act(END, delay=5000), END: {"type": "end"}},
    )
    run, library = start(book)
    assert not due(run)
    assert not due(tick(run, library, NOW + 4))
    assert len(due(tick(run, library, NOW + 5))) == 1


def loop() -> Playbook:
    again, inner = sid("while-condition", 21), sid("end", 22)
    return playbook(
        {
            START: {"type": "start", "on_completion": again},
            again: {
                "type": "while-condition",
                "condition": "__said__:value != 'yes'",
                "on_true": A,
                "on_success": END,
                "on_failure": B,
            },
            A: ask(inner),
            inner: {"type": "end"},
            B: act(END),
            END: {"type": "end"},
        }
    )


def test_a_loop_ends_when_its_condition_does() -> None:
    run, library = start(loop())
    for value in ("no", "no", "yes"):
        run = answer(run, library, said(run, value), NOW)
    assert run.status is RunStatus.ENDED
    assert not run.failures
    assert len({one.key for one in run.answered}) == 3


def test_a_loop_that_never_ends_is_stopped_and_told() -> None:
    run, library = start(loop())
    for _round in range(MAX_ROUNDS):
        run = answer(run, library, said(run, "no"), NOW)
    (command,) = due(run)
    assert isinstance(command, Command)
    assert run.failures == (sid("while-condition", 21),)
    assert run.status is RunStatus.RUNNING


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.REFUSED, Outcome.TIMED_OUT])
def test_a_failure_that_nobody_planned_for_goes_to_the_exception(outcome: Outcome) -> None:
    steps = {
        START: {"type": "start", "on_completion": A},
        A: act("", on_success=END),
        B: act(END, action="snapshot-evidence"),
        END: {"type": "end"},
    }
    run, library = start(playbook(steps, workflow_exception=B))
    run = answer(run, library, said(run, outcome=outcome), NOW)
    (command,) = due(run)
    assert isinstance(command, Command)
    assert command.action is ActionName.SNAPSHOT_EVIDENCE
    # Without one, the run has failed, and sends nothing more.
    del steps[B]
    run, library = start(playbook(steps))
    run = answer(run, library, said(run, outcome=outcome), NOW)
    assert run.status is RunStatus.FAILED
    assert due(run) == ()


def test_a_failing_branch_fails_the_step_around_it() -> None:
    both, one, two = sid("parallel", 23), sid("end", 24), sid("end", 25)
    book = playbook(
        {
            START: {"type": "start", "on_completion": both},
            both: {"type": "parallel", "next_steps": [A, B], "on_success": END, "on_failure": C},
            A: act("", on_success=one),
            B: act(two, action="snapshot-evidence"),
            one: {"type": "end"},
            two: {"type": "end"},
            C: ask(END),
            END: {"type": "end"},
        }
    )
    run, library = start(book)
    first, second = due(run)
    # The snapshot is of an earlier wave than the notice.
    assert [getattr(one, "action", None) for one in (first, second)] == [
        ActionName.SNAPSHOT_EVIDENCE,
        ActionName.NOTIFY,
    ]
    run = answer(run, library, Answer(key=second.key, outcome=Outcome.FAILED), NOW)
    assert due(run) == (first,)
    run = answer(run, library, Answer(key=first.key, outcome=Outcome.DONE), NOW)
    (asked,) = due(run)
    assert isinstance(asked, Pending)
    assert asked.action is None


def raced(order: tuple[int, ...]) -> set[tuple[str, str]]:
    """Run two branches of two steps each, answered in an order; return step and key of each command."""
    both, one, two = sid("parallel", 23), sid("end", 24), sid("end", 25)
    later = sid("action", 26)
    book = playbook(
        {
            START: {"type": "start", "on_completion": both},
            both: {"type": "parallel", "next_steps": [A, B], "on_completion": END},
            A: act(C),
            C: act(one),
            B: act(later),
            later: act(two),
            one: {"type": "end"},
            two: {"type": "end"},
            END: {"type": "end"},
        }
    )
    run, library = start(book)
    for place in order:
        ready = sorted(due(run), key=lambda given: given.key)
        key = ready[min(place, len(ready) - 1)].key
        run = answer(run, library, Answer(key=key, outcome=Outcome.DONE), NOW)
    assert run.status is RunStatus.ENDED
    return {(given.step, given.key) for given in run.answered}


@pytest.mark.parametrize("order", [(1, 1, 0, 0), (0, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 0)])
def test_keys_are_the_same_whichever_branch_is_faster(order: tuple[int, ...]) -> None:
    straight = raced((0, 0, 0, 0))
    assert len(straight) == len({key for _step, key in straight}) == 4
    assert raced(order) == straight


def call(number: int, other: int) -> Playbook:
    step = sid("playbook-action", 26)
    return playbook(
        {
            START: {"type": "start", "on_completion": step},
            step: {"type": "playbook-action", "playbook_id": sid("playbook", other), "on_completion": END},
            END: {"type": "end"},
        },
        number=number,
    )


def test_a_called_playbook_runs_within() -> None:
    called = playbook({START: {"type": "start", "on_completion": A}, A: act(END), END: {"type": "end"}}, number=8)
    run, library = start(call(9, 8), called)
    run = answer(run, library, said(run), NOW)
    assert run.status is RunStatus.ENDED
    with pytest.raises(NotFoundError):
        start(call(9, 8))
    with pytest.raises(RunError):
        start(call(9, 8), call(8, 9))


def test_a_run_goes_on_under_its_own_text_only() -> None:
    steps = {START: {"type": "start", "on_completion": A}, A: act(END), END: {"type": "end"}}
    run, _library = start(playbook(steps))
    other = playbook(steps, description="another text")
    with pytest.raises(RunError):
        answer(run, {other.id: other}, said(run), NOW)


def test_answers_set_only_what_their_step_may_set() -> None:
    book = playbook({START: {"type": "start", "on_completion": A}, A: ask(END), END: {"type": "end"}})
    run, library = start(book)
    (one,) = due(run)
    for found in ({"model": "model:other"}, {"said": "a\nb"}, {"said": "x" * 257}):
        with pytest.raises(RunError):
            answer(run, library, Answer(key=one.key, outcome=Outcome.DONE, found=found, by="eli"), NOW)
    # And what people are asked has a person's name to it.
    with pytest.raises(RunError):
        answer(run, library, Answer(key=one.key, outcome=Outcome.DONE, found={"said": "yes"}), NOW)


@pytest.mark.parametrize("variables", [{}, {"model": "model:a", "said": "yes"}, {"model": "model:a\x00"}])
def test_a_run_begins_with_its_external_variables_only(variables: dict[str, str]) -> None:
    book = playbook({START: {"type": "start", "on_completion": A}, A: ask(END), END: {"type": "end"}})
    with pytest.raises(RunError):
        begin({book.id: book}, book.id, incident="inc-1", variables=variables, terms=TERMS, now=NOW)


def test_a_subject_that_is_none_fails_the_step() -> None:
    book = playbook({START: {"type": "start", "on_completion": A}, A: act(END), END: {"type": "end"}})
    run = begin({book.id: book}, book.id, incident="inc-1", variables={"model": "whatever"}, terms=TERMS, now=NOW)
    assert run.status is RunStatus.ENDED
    assert run.failures == (A,)
