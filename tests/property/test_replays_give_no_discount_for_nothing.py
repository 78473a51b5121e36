"""Whatever either engine says, and whenever one ends: a discount is given once, for tokens that were reproduced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import NotFoundError
from strongroom.egress.bits import MILLI, Output, end_bits, verdict_bits
from strongroom.enclave.gateway import replay as module
from strongroom.enclave.gateway.errors import ChannelBreachError, ReplayLackingError
from strongroom.enclave.gateway.meter import Ask, Meter
from strongroom.enclave.gateway.replay import REPLAY_SECONDS, Replays, Verdict, drawn
from strongroom.enclave.metered import OPENING, Code, Frame, Kind, Orders
from strongroom.release.lease import Sampling
from support.egress import ATLAS, LOTS, VERIFIED_BY, governor, policy
from support.logs import AT

READY = Frame(OPENING, Code.READY).to_bytes()
RULES = policy(
    parameters=LOTS,
    model_day_bits=10**6,
    fleet_day_bits=10**6,
    principal_day_bits=10**6,
    residual_millibits_per_token=75,
    verified_by=VERIFIED_BY,
)


class Scene:
    """A meter whose answers are all replayed, and the second engine's side of it."""

    def __init__(self, *, ready: bool = True, draw: Callable[[], int] = lambda: 0, differences: int = 1000) -> None:
        rules = replace(VERIFIED_BY, differences_per_million=differences)
        self.replays = Replays(ATLAS, rules, draw)
        self.governor = governor(RULES, vouched=10**6)
        self.meter = Meter(self.governor, ATLAS, 1024, self.replays)
        self.meter.received(READY, AT)
        if ready:
            self.replays.received(READY)

    def say(self, tokens: int, *, most: int | None = None) -> int | None:
        """Answer; returns what was charged at once, or None where it waits."""
        begun = self.meter.begin("dana", Ask(prompt=(1,), most=most or tokens), seed=7, now=AT)
        said = b"".join(Frame(begun.answer, Code.TOKEN, 5).to_bytes() for _ in range(tokens))
        end = Code.LENGTH if tokens == (most or tokens) else Code.STOPPED
        *_tokens, heard = self.meter.received(said + Frame(begun.answer, end).to_bytes(), AT)
        return heard.settled.bits if heard.settled else None

    def judge(self, agreed: int) -> Verdict:
        """Have the next one replayed."""
        assert self.replays.next() is not None
        (verdict,) = self.replays.received(Frame(0, Code.AGREED, agreed).to_bytes() + Frame(0, Code.LENGTH).to_bytes())
        return verdict

    @property
    def stopped(self) -> str | None:
        """Why nothing is replayed any more."""
        return self.replays.stopped

    def settle(self, verdict: Verdict) -> int:
        return self.meter.replayed(verdict, AT).bits


def test_the_second_engine_is_shown_the_question_and_the_answer_and_nobody_s_name() -> None:
    scene = Scene()
    assert scene.say(3) is None
    (order,) = Orders().feed(scene.replays.next() or b"")
    assert (order.kind, order.answer, order.most, order.seed, order.prompt) == (Kind.REPLAY, 0, 3, 7, (1, 5, 5, 5))
    assert scene.replays.next() is None


@given(st.integers(1, 60), st.integers(0, 20), st.data())
def test_what_was_reproduced_costs_the_residual_and_the_rest_all_of_it(
    tokens: int, spare: int, data: st.DataObject
) -> None:
    scene, agreed = Scene(), data.draw(st.integers(0, tokens))
    most = tokens + spare
    assert scene.say(tokens, most=most) is None
    held = scene.governor.level(ATLAS, AT).held
    assert held == 10 * most + end_bits(most) + verdict_bits(most)
    charged = scene.settle(scene.judge(agreed))
    exact = (tokens - agreed) * 10_000 + agreed * 75
    assert charged == -(-exact // MILLI) + end_bits(most) + verdict_bits(most) <= held
    level = scene.governor.level(ATLAS, AT)
    assert (level.held, level.settled) == (0, charged)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.binary(max_size=40))
def test_whatever_the_second_engine_says_is_a_verdict_or_a_breach(answers: list[int], noise: bytes) -> None:
    scene = Scene()
    for tokens in answers:
        scene.say(tokens)
    verdicts: list[Verdict] = []
    try:
        for at in range(0, len(noise), 5):
            scene.replays.next()
            verdicts += scene.replays.received(noise[at : at + 5])
    except ChannelBreachError:
        assert scene.replays.stopped is not None
    verdicts += scene.replays.stop("gone")
    assert len({verdict.number for verdict in verdicts}) == len(verdicts) == len(answers)
    for verdict in verdicts:
        scene.settle(verdict)
        with pytest.raises(NotFoundError):
            scene.settle(verdict)
    assert scene.governor.level(ATLAS, AT).held == 0


FRAMES = st.sampled_from([Code.AGREED, Code.LENGTH, Code.FAILED, Code.TOKEN, Code.STOPPED, Code.CANCELLED])
SAID = st.lists(st.tuples(st.integers(0, 1), FRAMES, st.integers(0, 12)), max_size=30)


@given(st.lists(st.integers(1, 9), max_size=12), SAID)
def test_no_order_of_frames_makes_more_of_an_answer_than_it_was(
    answers: list[int], said: list[tuple[int, Code, int]]
) -> None:
    scene = Scene()
    length: dict[int, int] = {}
    for tokens in answers:
        scene.say(tokens)
        length[len(length) + 1] = tokens
    try:
        for answer, code, value in said:
            scene.replays.next()
            carries = code in {Code.AGREED, Code.TOKEN}
            for verdict in scene.replays.received(Frame(answer, code, value if carries else 0).to_bytes()):
                assert verdict.verified is None or verdict.verified <= length.pop(verdict.number)
                scene.settle(verdict)
    except ChannelBreachError:
        with_rest = scene.replays.stop("breach")
        assert all(verdict.verified is None for verdict in with_rest)


@pytest.mark.parametrize(
    ("found", "data"),
    [
        ("replay-opened-twice", READY),
        ("replay-no-demand", Frame(1, Code.AGREED, 1).to_bytes()),
        ("replay-false-end", Frame(0, Code.TOKEN, 1).to_bytes()),
        ("replay-false-end", Frame(0, Code.AGREED, 4).to_bytes()),
        ("replay-false-end", Frame(0, Code.LENGTH).to_bytes()),
        ("replay-false-end", Frame(0, Code.AGREED, 1).to_bytes() * 2),
        ("replay-false-end", Frame(0, Code.AGREED, 1).to_bytes() + Frame(0, Code.FAILED).to_bytes()),
        ("replay-no-demand", (Frame(0, Code.AGREED, 3).to_bytes() + Frame(0, Code.LENGTH).to_bytes()) * 2),
        ("replay-malformed", b"\xff" * 5),
    ],
)
def test_what_is_no_outcome_of_a_replay_is_a_breach(found: str, data: bytes) -> None:
    scene = Scene()
    scene.say(3)
    scene.replays.next()
    with pytest.raises(ChannelBreachError) as caught:
        scene.replays.received(data)
    assert caught.value.found == found


def test_what_nobody_can_replay_is_charged_in_full() -> None:
    full = 30 + end_bits(3)
    assert Scene(ready=False).say(3) == full
    assert Scene(draw=lambda: 999).say(3) is None
    rare = Scene(draw=lambda: 500)
    rare.replays.rules = replace(VERIFIED_BY, replay_permille=500)
    assert rare.say(3) == full
    scene = Scene()
    scene.say(3)
    scene.replays.next()
    (verdict,) = scene.replays.received(Frame(0, Code.FAILED).to_bytes())
    assert scene.settle(verdict) == full
    # And once it is stopped, at once.
    scene.say(3)
    assert [scene.settle(one) for one in scene.replays.stop("gone")] == [full]
    assert scene.say(3) == full
    assert scene.replays.next() is None


def test_an_empty_answer_shows_nothing_to_replay() -> None:
    scene = Scene()
    begun = scene.meter.begin("dana", Ask(prompt=(1,), most=3), seed=7, now=AT)
    (heard,) = scene.meter.received(Frame(begun.answer, Code.STOPPED).to_bytes(), AT)
    assert heard.settled is not None
    assert heard.settled.bits == end_bits(3)


def test_which_answers_are_replayed_is_drawn_after_they_ended() -> None:
    draws: list[str] = []

    def draw() -> int:
        draws.append("drawn")
        return 0

    scene = Scene(draw=draw)
    begun = scene.meter.begin("dana", Ask(prompt=(1,), most=2), seed=7, now=AT)
    scene.meter.received(Frame(begun.answer, Code.TOKEN, 5).to_bytes(), AT)
    assert draws == []
    scene.meter.received(Frame(begun.answer, Code.STOPPED).to_bytes(), AT)
    assert draws == ["drawn"]


@given(st.integers(0, (1 << 64) - 1))
def test_a_draw_is_below_a_thousand(word: int) -> None:
    assert 0 <= drawn(word) < 1000


def test_what_is_kept_is_bounded_and_given_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 20)
    scene = Scene()
    full = 90 + end_bits(9)
    assert scene.say(9) is None
    assert scene.say(9) is None
    # There is no room for a third, whatever is drawn; the first one's end makes some.
    assert scene.say(9) == full
    scene.settle(scene.judge(9))
    assert scene.say(9) is None
    assert [scene.settle(one) for one in scene.replays.stop("gone")] == [full, full]
    assert scene.replays._kept == 0


def test_while_sampling_is_raised_no_draw_spares_an_answer() -> None:
    scene = Scene(draw=lambda: 999)
    scene.replays.rules = replace(VERIFIED_BY, replay_permille=1)
    assert scene.say(3) is not None
    # One that is under way when it is raised is drawn when it ends: it doesn't slip through.
    begun = scene.meter.begin("dana", Ask(prompt=(1,), most=3), seed=7, now=AT)
    scene.meter.sample(Sampling.WHOLE)
    said = b"".join(Frame(begun.answer, Code.TOKEN, 5).to_bytes() for _ in range(3))
    *_tokens, heard = scene.meter.received(said + Frame(begun.answer, Code.LENGTH).to_bytes(), AT)
    assert heard.settled is None
    assert [scene.say(3) for _ in range(20)] == [None] * 20
    scene.meter.sample(Sampling.POLICY)
    assert scene.say(3) is not None


def test_while_sampling_is_raised_what_cannot_be_replayed_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(ready=False)
    scene.meter.sample(Sampling.WHOLE)
    with pytest.raises(ReplayLackingError):
        scene.say(3)
    scene.replays.received(READY)
    monkeypatch.setattr(module, "MAX_KEPT", 20)
    assert scene.say(9) is None
    with pytest.raises(ReplayLackingError):
        scene.say(15)
    assert scene.say(3) is None
    # Whoever ends the second engine ends the answers with it.
    scene.replays.stop("gone")
    with pytest.raises(ReplayLackingError):
        scene.say(3)
    assert scene.governor.level(ATLAS, AT).answers == 2
    scene.meter.sample(Sampling.POLICY)
    assert scene.say(3) == 30 + end_bits(3)


@pytest.mark.parametrize(("seconds", "answers"), [(10, 5), (1, 30)])
def test_while_sampling_is_raised_no_more_waits_than_the_second_engine_has_time_for(
    monkeypatch: pytest.MonkeyPatch, seconds: int, answers: int
) -> None:
    # Else an engine that is sized for a share would fall behind, be ended for it, and every answer with it.
    monkeypatch.setattr(module, "AT_ONCE", 9)
    monkeypatch.setattr(module, "REPLAY_SECONDS", 22)
    scene = Scene()
    scene.meter.sample(Sampling.WHOLE)
    # Nothing waits: one answer may begin, however long it is.
    assert scene.say(10) is None
    with pytest.raises(ReplayLackingError):
        scene.say(1)
    scene.settle(scene.judge(10))
    scene.replays.took(seconds)
    # Each holds two tokens: of 11 in so many seconds, and 11 seconds' worth of that.
    assert [scene.say(1) for _ in range(answers)] == [None] * answers
    with pytest.raises(ReplayLackingError):
        scene.say(1)
    # Under the policy's share there is room: most of it isn't waited for.
    scene.meter.sample(Sampling.POLICY)
    assert scene.say(9) is None


def test_a_gateway_without_a_second_engine_serves_nothing_that_is_to_be_replayed() -> None:
    alone = Meter(governor(RULES, vouched=10**6), ATLAS, 1024)
    alone.received(READY, AT)
    alone.sample(Sampling.WHOLE)
    with pytest.raises(ReplayLackingError):
        alone.begin("dana", Ask(prompt=(1,), most=3), seed=7, now=AT)
    # Where the policy names nobody who could, nothing is asked of anybody.
    other = Meter(governor(replace(RULES, verified_by=None), vouched=10**6), ATLAS, 1024)
    other.received(READY, AT)
    other.sample(Sampling.WHOLE)
    other.begin("dana", Ask(prompt=(1,), most=3), seed=7, now=AT)


def test_a_replay_that_takes_too_long_is_seen() -> None:
    scene = Scene()
    assert not scene.replays.overdue(AT + REPLAY_SECONDS + 1)
    scene.say(3)
    assert not scene.replays.overdue(AT + REPLAY_SECONDS)
    assert scene.replays.overdue(AT + REPLAY_SECONDS + 1)
    scene.replays.next()
    assert scene.replays.overdue(AT + REPLAY_SECONDS + 1)


def test_more_differences_than_were_measured_end_the_discount() -> None:
    scene = Scene(differences=1000)
    # 100,000 tokens with a hundred differences are what was measured.
    for n in range(1000):
        scene.say(100)
        scene.settle(scene.judge(99 if n % 10 == 0 else 100))
    assert not scene.stopped
    waiting = 0
    while not scene.replays.stopped:
        scene.say(100)
        waiting += 1
        assert waiting < 200
        scene.replays.next()
        for verdict in scene.replays.received(Frame(0, Code.AGREED, 50).to_bytes() + Frame(0, Code.LENGTH).to_bytes()):
            scene.settle(verdict)
    assert scene.replays.stopped == "differs"
    assert scene.say(3) == 30 + end_bits(3)


def test_an_engine_that_says_what_it_likes_is_a_breach() -> None:
    scene = Scene()
    verdicts = []
    for _ in range(5):
        scene.say(50)
        verdicts.append(scene.judge(0))
    scene.say(50)
    with pytest.raises(ChannelBreachError) as caught:
        scene.judge(0)
    assert caught.value.found == "replay-diverged"
    full = RULES.cost(Output.TOKENS, 50, most=50)
    assert all(scene.settle(one) >= full for one in (*verdicts, *scene.replays.stop("diverged")))
