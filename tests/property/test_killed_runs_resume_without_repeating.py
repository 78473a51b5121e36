"""A response that is killed at any step goes on from disk to the same end, and no action happens twice."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.response_port import Fuse, KilledError, ResponsePort
from strongroom.response.actions import Command
from strongroom.response.cacao import Playbook
from strongroom.response.executor import Answer, agree, answer, begin, due, withheld
from strongroom.response.run import Outcome, Run, RunStatus
from strongroom.response.wiring import shipped_playbooks
from support.examples import examples
from support.responses import NOW, TERMS, Response, token, variables_of

BOOKS = tuple(shipped_playbooks().values())
SAID = {
    "What is exposed?": {"exposed": "yes"},
    "Is the cause gone?": {"cleared": "yes"},
    "How deep?": {"root": "yes"},
    "Does it speak?": {"heard": "yes"},
    "What are the grounds?": {"grounds": "hostile"},
}


def response(playbook: Playbook, port: ResponsePort | None = None) -> Response:
    return Response(shipped_playbooks(), port or ResponsePort(token=token(playbook.name)), SAID)


def begun(playbook: Playbook) -> Run:
    return begin(
        shipped_playbooks(),
        playbook.id,
        incident="inc-1",
        variables=variables_of(playbook),
        terms=TERMS,
        now=NOW,
    )


def killed_at(playbook: Playbook, places: list[int]) -> Response:
    """Run with a kill at each of the places, counted from the start or the last resumption."""
    kept = response(playbook)
    for place in places:
        kept.port.fuse = Fuse(at=place)
        try:
            _go(kept, playbook)
        except KilledError:
            continue
        break
    kept.port.fuse = Fuse()
    _go(kept, playbook)
    return kept


def _go(kept: Response, playbook: Playbook) -> None:
    if kept.disk.run:
        kept.resume()
    else:
        kept.start(playbook, variables_of(playbook))


@pytest.mark.parametrize("playbook", BOOKS, ids=lambda book: book.name)
def test_a_kill_at_every_step_ends_the_same(playbook: Playbook) -> None:
    whole = response(playbook)
    whole.start(playbook, variables_of(playbook))
    steps = whole.port.fuse.steps
    assert steps > 20
    for place in range(1, steps + 1):
        kept = killed_at(playbook, [place])
        assert kept.disk.run == whole.disk.run
        assert kept.port.world == whole.port.world
        assert kept.port.journal == whole.port.journal
        assert set(kept.port.effects.values()) == {1}


@given(st.sampled_from(BOOKS), st.lists(st.integers(1, 60), max_size=12))
@settings(max_examples=examples(60), deadline=None)
def test_many_kills_end_the_same(playbook: Playbook, places: list[int]) -> None:
    whole, kept = response(playbook), killed_at(playbook, places)
    whole.start(playbook, variables_of(playbook))
    assert kept.disk.run == whole.disk.run
    assert kept.port.effects == whole.port.effects


@given(st.sampled_from(BOOKS), st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=examples(80), deadline=None)
def test_no_order_of_answers_changes_keys_or_world(
    playbook: Playbook,
    chance: random.Random,
    again: bool,  # noqa: FBT001 - hypothesis gives it
) -> None:
    whole, kept = response(playbook), response(playbook)
    whole.start(playbook, variables_of(playbook))
    run = begun(playbook)
    while run.status is RunStatus.RUNNING:
        run = agreed(run)
        ready = list(due(run))
        one = chance.choice(ready)
        told = kept.send(one) if isinstance(one, Command) else kept.ask(run, one)
        run = answer(run, kept.library, told, NOW)
        if again:
            # An answer that comes twice changes nothing.
            assert answer(run, kept.library, told, NOW) == run
        run = Run.parse(run.to_bytes())
    assert kept.port.journal == whole.port.journal
    assert kept.port.world == whole.port.world


def agreed(run: Run) -> Run:
    for one in withheld(run):
        for person in ("dana", "eli"):
            run = agree(run, one.key, person, NOW)
    return run


@given(st.sampled_from(BOOKS), st.randoms(use_true_random=False))
@settings(max_examples=examples(100), deadline=None)
def test_any_answers_end_the_run(playbook: Playbook, chance: random.Random) -> None:
    # Whatever fails, times out or is said, a run ends: it is bounded, and says what failed.
    run, kept = begun(playbook), response(playbook)
    while run.status is RunStatus.RUNNING:
        run = agreed(run)
        one = chance.choice(due(run))
        outcome = chance.choice(list(Outcome))
        step = kept.library[playbook.id].steps[_step_of(run, one.key)]
        found = {name: chance.choice(["yes", "no", ""]) for name in step.out}
        run = answer(run, kept.library, Answer(key=one.key, outcome=outcome, found=found, by="eli"), NOW)
        assert Run.parse(run.to_bytes()) == run
    assert not run.pending
    failed = [one.step for one in run.answered if one.outcome is not Outcome.DONE]
    assert set(failed) <= set(run.failures)
    assert due(run) == ()


def _step_of(run: Run, key: str) -> str:
    thread = next(one.thread for one in run.pending if one.key == key)
    return next(one.step for one in run.threads if one.id == thread)
