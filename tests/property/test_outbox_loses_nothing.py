"""Whatever a receiver does, each notice is taken, given up after three days, or still waits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from strongroom.broker.notices import Notice, Priority
from strongroom.broker.outbox import CAPACITY, GIVE_UP_SECONDS, MOST_SECONDS, Failure, Outbox, backoff
from support.logs import AT
from support.notices import notice

outcomes = st.lists(
    st.tuples(
        st.sampled_from([None, *Failure]),
        st.floats(0, 4000),
        st.floats(0, 1),
        st.integers(0, 2),
        st.booleans(),
    ),
    max_size=80,
)


@given(outcomes)
def test_a_place_never_passes_what_still_waits(steps: list[tuple[Failure | None, float, float, int, bool]]) -> None:
    outbox, now, place = Outbox(), 0.0, 10
    waiting: list[Notice] = []
    settled_before = 10
    for outcome, passed, chance, new, loud in steps:
        now += passed
        for _ in range(new):
            place += 1
            offered = notice(place, loud=loud)
            outbox.offer(offered)
            waiting.append(offered)
        due = outbox.next(now)
        pause = outbox.pause(now)
        # Something is due exactly when there is nothing to wait for.
        assert (due is not None) == (pause == 0.0)
        assert (pause is None) == (not waiting)
        assert pause is None or pause <= MOST_SECONDS
        if due is not None:
            assert due in waiting
            if outcome is None:
                outbox.delivered(due)
                waiting.remove(due)
            elif outbox.failed(due, outcome, now=now, at=AT + int(now), chance=chance):
                assert now >= GIVE_UP_SECONDS - 1
                waiting.remove(due)
        settled = outbox.settled(place)
        assert settled == min((each.index - 1 for each in waiting), default=place)
        assert settled >= settled_before
        settled_before = settled
        assert len(outbox) == len(waiting)


@given(st.integers(1, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_pauses_grow_up_to_a_bound(attempts: int, one: float, other: float) -> None:
    assert 0.5 <= backoff(attempts, one) <= MOST_SECONDS
    assert backoff(attempts + 2, one) >= min(backoff(attempts, other), MOST_SECONDS / 2)


@given(st.permutations([False] * 5 + [True] * 2))
def test_pages_go_first_then_the_oldest(loud: list[bool]) -> None:
    outbox = Outbox()
    for index, each in enumerate(loud):
        outbox.offer(notice(index, loud=each))
    sent = []
    while (due := outbox.next(0.0)) is not None:
        outbox.delivered(due)
        sent.append(due)
    assert sent == sorted(sent, key=lambda each: (each.priority is not Priority.PAGE, each.index))
    assert len(sent) == len(loud)


def test_a_refused_notice_holds_back_only_itself() -> None:
    outbox = Outbox()
    for index in (1, 2):
        outbox.offer(notice(index))
    first = outbox.next(0.0)
    assert first is not None
    outbox.failed(first, Failure.REFUSED, now=0.0, at=AT, chance=1.0)
    second = outbox.next(0.0)
    assert second == notice(2)
    outbox.delivered(second)
    assert outbox.settled(2) == 0
    assert outbox.next(0.5) is None
    assert outbox.next(1.0) == first


def test_an_unreachable_receiver_holds_back_everything() -> None:
    outbox = Outbox()
    for index in (1, 2):
        outbox.offer(notice(index))
    outbox.failed(notice(1), Failure.UNREACHABLE, now=0.0, at=AT, chance=1.0)
    assert outbox.next(0.5) is None
    outbox.offer(notice(3, loud=True))
    assert outbox.next(0.5) is None
    assert outbox.next(1.0) == notice(3, loud=True)


def test_a_late_notice_is_tried_once_before_it_is_given_up() -> None:
    outbox = Outbox()
    outbox.offer(notice(1))
    late = AT + 2 * GIVE_UP_SECONDS
    assert outbox.next(0.0) == notice(1)
    assert outbox.failed(notice(1), Failure.UNREACHABLE, now=0.0, at=late, chance=0.0)
    assert len(outbox) == 0


def test_it_is_full_at_its_capacity() -> None:
    outbox = Outbox()
    for index in range(CAPACITY):
        assert not outbox.full
        outbox.offer(notice(index))
    assert outbox.full
