"""A gateway with a second engine: what that reproduces costs less, what it says goes nowhere, nobody waits for it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from strongroom.egress.bits import MILLI, Output, end_bits, verdict_bits
from strongroom.enclave.engine.adapters.channel import serve as serve_engine
from strongroom.enclave.engine.schedule import Generating
from strongroom.enclave.gateway.adapters.replayer import Replayer
from strongroom.enclave.gateway.errors import ChannelBreachError
from strongroom.enclave.metered import OPENING, Code, Frame, Order, Orders
from support.egress import VERIFIED_BY
from support.file_odometer import FileOdometer
from support.gateways import VOCABULARY, Engine, Live, gateway, honest
from support.replays import RESIDUAL, second, verifying

pytestmark = pytest.mark.integration
POLICY = verifying()
READY = Frame(OPENING, Code.READY).to_bytes()


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def open_before(replayer: Replayer, live: Live) -> None:
    """Wait until the second engine is open: what is said before costs its full price."""
    until(lambda: replayer.replays.ready)
    assert live.url


class Stuffing:
    """A model that was taken over: every token is a byte of the weights, as far as one looks."""

    def begin(self, _order: Order) -> Generating:
        """Begin."""
        return _Stuffs()


class _Stuffs:
    def __init__(self) -> None:
        self._weights = iter(b"the weights, a byte in every token, for as long as anybody asks" * 99)

    def step(self) -> int:
        """Return the next byte."""
        return next(self._weights)


def stuffing() -> Engine:
    def run(channel: socket.socket) -> None:
        serve_engine(channel, Stuffing())

    return run


def says(data: bytes) -> Engine:
    """Return a second engine that answers every order so."""

    def run(channel: socket.socket) -> None:
        channel.sendall(READY)
        orders = Orders()
        while got := channel.recv(65536):
            for _order in orders.feed(got):
                channel.sendall(data)

    return run


def test_what_a_second_engine_reproduces_costs_less(tmp_path: Path) -> None:
    verified = POLICY.replayed_cost(200, verified=200, most=200)
    assert verified == -(-200 * RESIDUAL // MILLI) + end_bits(200) + verdict_bits(200) == 33
    # Two answers at their full price, and no third.
    purse = 2 * POLICY.cost(Output.TOKENS, 200, most=200) + 100
    rules = replace(POLICY, principal_day_bits=purse)
    with second(honest()) as (replayer, _other), gateway(tmp_path, honest(), rules, replayer=replayer) as live:
        open_before(replayer, live)
        for n in range(1, 21):
            answer = live.complete(most=200)
            assert answer.status_code == 200
            assert answer.json()["usage"]["completion_tokens"] == 200
            until(lambda said=200 * n: replayer.replays.compared == said)  # type: ignore[misc]  # of this round
        assert (replayer.replays.differed, replayer.replays.stopped) == (0, None)
    (tmp_path / "without").mkdir()
    with gateway(tmp_path / "without", honest(), rules) as live:
        assert [live.complete(most=200).status_code for _ in range(3)] == [200, 200, 429]


def test_a_client_gets_the_same_bytes_with_and_without_it(tmp_path: Path) -> None:
    said = []
    for name, frames in (("agrees", Frame(0, Code.AGREED, 7)), ("differs", Frame(0, Code.AGREED, 1))):
        data = frames.to_bytes() + Frame(0, Code.LENGTH).to_bytes()
        (tmp_path / name).mkdir()
        with (
            second(says(data)) as (replayer, _other),
            gateway(tmp_path / name, policy=POLICY, replayer=replayer) as live,
        ):
            open_before(replayer, live)
            answer = live.complete(most=7)
            said.append(({**answer.json(), "id": "", "created": 0}, sorted(answer.headers), len(answer.content)))
            until(lambda made=replayer: made.replays.compared > 0)  # type: ignore[misc]  # of this round
    (tmp_path / "without").mkdir()
    with gateway(tmp_path / "without", policy=POLICY) as live:
        answer = live.complete(most=7)
        said.append(({**answer.json(), "id": "", "created": 0}, sorted(answer.headers), len(answer.content)))
    assert said[0] == said[1] == said[2]


def test_an_engine_that_stuffs_bits_into_its_tokens_is_caught(tmp_path: Path) -> None:
    with (
        second(honest()) as (replayer, other),
        gateway(tmp_path, stuffing(), POLICY, replayer=replayer) as live,
    ):
        open_before(replayer, live)
        # It may be gone before the next one asks, or in the middle of an answer.
        with suppress(httpx2.TransportError):
            for _ in range(10):
                if live.complete(most=50).status_code != 200:
                    break
        assert live.stopped.wait(60)
        assert other.stopped.wait(60)
    assert isinstance(live.error, ChannelBreachError)
    assert live.error.found == "replay-diverged"
    assert (live.state / "atlas.frozen.json").exists()


def test_a_second_engine_that_ends_costs_the_discount_alone(tmp_path: Path) -> None:
    def ends(channel: socket.socket) -> None:
        channel.sendall(READY)
        channel.recv(65536)

    with second(ends) as (replayer, other), gateway(tmp_path, honest(), POLICY, replayer=replayer) as live:
        open_before(replayer, live)
        assert live.complete(most=50).status_code == 200
        assert other.stopped.wait(60)
        assert replayer.replays.stopped == "gone"
        for _ in range(3):
            assert live.complete(most=50).status_code == 200
        assert not live.stopped.is_set()
    assert live.error is None or not isinstance(live.error, ChannelBreachError)


@pytest.mark.parametrize(
    ("found", "data"),
    [
        ("replay-malformed", b"the weights, of a second engine that was taken over"),
        ("replay-false-end", Frame(0, Code.TOKEN, 7).to_bytes()),
        ("replay-false-end", Frame(0, Code.AGREED, 51).to_bytes()),
        ("replay-no-demand", (Frame(0, Code.AGREED, 50).to_bytes() + Frame(0, Code.LENGTH).to_bytes()) * 2),
    ],
)
def test_whatever_a_second_engine_stuffs_into_frames(found: str, data: bytes, tmp_path: Path) -> None:
    with second(says(data)) as (replayer, other), gateway(tmp_path, honest(), POLICY, replayer=replayer) as live:
        open_before(replayer, live)
        answer = live.complete(most=50)
        # The answer had left before, and has nothing of it.
        assert answer.json()["choices"][0]["text"].split() == [f"w{(6 + n) % VOCABULARY}" for n in range(50)]
        assert live.stopped.wait(60)
        assert other.stopped.wait(60)
    assert isinstance(live.error, ChannelBreachError)
    assert live.error.found == found


def test_nobody_waits_for_a_replay(tmp_path: Path) -> None:
    go_on = threading.Event()

    def slow(channel: socket.socket) -> None:
        channel.sendall(READY)
        go_on.wait(30)

    with second(slow) as (replayer, _other), gateway(tmp_path, honest(), POLICY, replayer=replayer) as live:
        open_before(replayer, live)
        began = time.monotonic()
        for _ in range(5):
            assert live.complete(most=20).status_code == 200
        # Five answers, none of which was replayed when the last one was there.
        assert replayer.replays.compared == 0
        assert time.monotonic() - began < 20
        go_on.set()


def test_answers_that_are_not_drawn_cost_their_full_price(tmp_path: Path) -> None:
    rules = verifying(replay_permille=1)
    made = rules.verified_by
    assert made is not None
    with (
        second(honest(), made, draw=1) as (replayer, _other),
        gateway(tmp_path, honest(), rules, replayer=replayer) as live,
    ):
        open_before(replayer, live)
        assert live.complete(most=50).status_code == 200
        time.sleep(0.5)
        assert replayer.replays.compared == 0
    assert rules.cost(Output.TOKENS, 50, most=50) > rules.replayed_cost(50, verified=50, most=50)
    assert VERIFIED_BY.replay_permille == 1000


def test_a_policy_that_is_adopted_reaches_a_running_gateway(tmp_path: Path) -> None:
    day = 240_000
    loose = replace(POLICY, model_day_bits=day, fleet_day_bits=day, principal_day_bits=day)
    in_force = [loose]
    log = FileOdometer(tmp_path / "log.jsonl", loose)
    with (
        second(honest()) as (replayer, other),
        gateway(tmp_path, honest(), loose, odometer=log, replayer=replayer, in_force=lambda: in_force[0]) as live,
    ):
        open_before(replayer, live)
        assert live.complete(most=20).status_code == 200
        # Two root holders take the second engine away, and leave one principal next to nothing.
        in_force[0] = log.policy = replace(loose, principal_day_bits=1000, verified_by=None)
        # One that is larger than an hour's block makes it ask the log, which names the new policy.
        assert live.complete(most=2000).status_code == 429
        until(lambda: replayer.replays.stopped == "policy")
        assert other.stopped.wait(60)
        assert [live.complete(most=most).status_code for most in (150, 50)] == [429, 200]
        assert not live.stopped.is_set()


def test_a_broker_that_hides_a_new_policy_keeps_no_discount_alive(tmp_path: Path) -> None:
    day = 240_000
    loose = replace(POLICY, model_day_bits=day, fleet_day_bits=day, principal_day_bits=day)
    log = FileOdometer(tmp_path / "log.jsonl", loose)
    with (
        second(honest()) as (replayer, other),
        # Whatever the log says, it shows the policy of before.
        gateway(tmp_path, honest(), loose, odometer=log, replayer=replayer, in_force=lambda: loose) as live,
    ):
        open_before(replayer, live)
        assert live.complete(most=20).status_code == 200
        log.policy = replace(loose, verified_by=None)
        # One that is larger than an hour's block makes it ask the log, which names the new policy.
        live.complete(most=2000)
        until(lambda: replayer.replays.stopped == "policy")
        assert other.stopped.wait(60)
        assert live.complete(most=20).status_code == 200
        assert not live.stopped.is_set()
