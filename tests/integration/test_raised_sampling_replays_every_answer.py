"""While the keeper's lease asks for it, a gateway replays every answer; no relay makes one up, or takes one away."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import UnavailableError
from strongroom.core.fields import Fields
from strongroom.core.ids import PlatformId
from strongroom.core.signature import Ed25519Signer
from strongroom.enclave.gateway.adapters.relaying import Relaying, relayed
from strongroom.enclave.gateway.adapters.replayer import Replayer
from strongroom.enclave.launch.relay import Challenged, Released
from strongroom.keys.recipient import RecipientKey
from strongroom.release.delivery import DELIVERY_TYPE
from strongroom.release.lease import LEASE_TYPE, Sampling
from support.egress import VERIFIED_BY
from support.gateways import Live, gateway, honest
from support.replays import second, verifying
from unit.test_delivery_fits_together import ATLAS, GENESIS, KEEPER, REQUEST, THIEF, delivery_to
from unit.test_lease_prolongs_only_what_was_asked import ASK, LEASE, PLATFORM

pytestmark = pytest.mark.integration
RARELY = verifying(replay_permille=1)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def rarely_replaying(tmp_path: Path) -> Iterator[tuple[Replayer, Live]]:
    """A gateway whose every draw spares the answer."""
    with (
        second(honest(), replace(VERIFIED_BY, replay_permille=1), draw=999) as (replayer, _other),
        gateway(tmp_path, honest(), RARELY, replayer=replayer) as live,
    ):
        until(lambda: replayer.replays.ready)
        yield replayer, live


def raised(live: Live, replayer: Replayer, sampling: Sampling) -> None:
    live.sampling = sampling
    until(lambda: replayer.replays.sampling is sampling)


def test_every_answer_is_replayed_until_it_is_lowered(tmp_path: Path) -> None:
    with rarely_replaying(tmp_path) as (replayer, live):
        assert [live.complete(most=20).status_code for _ in range(5)] == [200] * 5
        assert replayer.replays.compared == 0
        raised(live, replayer, Sampling.WHOLE)
        assert [live.complete(most=20).status_code for _ in range(5)] == [200] * 5
        until(lambda: replayer.replays.compared == 100)
        raised(live, replayer, Sampling.POLICY)
        assert live.complete(most=20).status_code == 200
        assert replayer.replays.compared == 100


def test_without_its_second_engine_a_gateway_answers_nothing_until_it_is_lowered(tmp_path: Path) -> None:
    with rarely_replaying(tmp_path) as (replayer, live):
        raised(live, replayer, Sampling.WHOLE)
        assert live.complete().status_code == 200
        until(lambda: replayer.replays.compared > 0)
        replayer._loop.call_soon_threadsafe(replayer.end, "gone")
        until(lambda: replayer.replays.stopped is not None)
        refused = live.complete()
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "replay-lacking"
        # Nothing is frozen: people lower it, and it serves at the full price.
        live.sampling = Sampling.POLICY
        until(lambda: live.complete().status_code == 200)
        assert live.error is None


@dataclass
class Agent:
    """An agent that has its key, and asks for one lease."""

    heard: list[Json] = field(default_factory=list)
    _said: queue.SimpleQueue[Json] = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        self._said.put({"ask": {"platform": PLATFORM}})
        self._said.put({"evidence": to_base64(b"evidence")})

    def send(self, message: Json, *, timeout: float) -> None:
        assert timeout > 0
        self.heard.append(message)
        with Fields(message, "message") as fields:
            if fields.optional("delivery"):
                self._said.put({"renew": dict(ASK.to_json())})
            elif fields.optional("lease"):
                self._said.put({"ended": {"code": 0, "signal": None}})
            for name in fields.names(most=8):
                fields.value(name)

    def receive(self, *, timeout: float) -> Json:
        # As a real agent's channel: silence for too long is an error that the relay knows.
        try:
            return self._said.get(timeout=min(timeout, 20))
        except queue.Empty:
            raise UnavailableError("the agent says nothing") from None

    def kill(self) -> None:
        """Nothing of it is left."""


class Broker:
    """A broker that answers every asking for a lease with one envelope."""

    def __init__(self, lease: Envelope, first: Sampling) -> None:
        self._lease, self._first = lease, first

    def challenge(self, *_asked: object) -> Challenged:
        return Challenged("challenge", b"n" * 32)

    def release(self, *_asked: object) -> Released:
        delivery = replace(delivery_to(RecipientKey()), sampling=self._first)
        return Released(sign(DELIVERY_TYPE, delivery.to_bytes(), KEEPER), "result")

    def renew(self, *_asked: object) -> Envelope:
        return self._lease

    def lease_end(self, *_asked: object, wait: int) -> str:
        time.sleep(min(wait, 0.5))
        return ""


def lease(signer: Ed25519Signer = KEEPER, **changes: Any) -> Envelope:
    return sign(LEASE_TYPE, replace(LEASE, **{"sampling": Sampling.WHOLE, **changes}).to_bytes(), signer)


def heard_of(envelope: Envelope, *, first: Sampling = Sampling.POLICY) -> tuple[Relaying, Agent]:
    agent = Agent()
    order: Any = SimpleNamespace(genesis=GENESIS, request=REQUEST, model=ATLAS, to_json=lambda: {"order": {}})
    shown: Any = agent
    with relayed(shown, order, Broker(envelope, first)) as relaying:
        relaying.join(20)
        assert not relaying.is_alive()
    return relaying, agent


def test_what_the_keeper_signed_for_this_asking_reaches_the_gateway_and_the_agent_alike() -> None:
    relaying, agent = heard_of(lease())
    assert relaying.error is None
    assert relaying.sampling is Sampling.WHOLE
    assert [message for message in agent.heard if isinstance(message, dict) and "lease" in message]


def test_what_the_delivery_says_holds_until_the_keeper_s_first_lease() -> None:
    assert heard_of(lease(THIEF), first=Sampling.WHOLE)[0].sampling is Sampling.WHOLE
    assert heard_of(lease(sampling=Sampling.POLICY), first=Sampling.WHOLE)[0].sampling is Sampling.POLICY


OLD = replace(ASK, nonce=b"o" * 32)


@pytest.mark.parametrize(
    "envelope",
    [
        lease(THIEF),
        lease(ask=OLD),
        lease(request=Digest.of(b"x")),
        lease(platform=PlatformId("tpm-" + "2" * 64)),
        replace(lease(sampling=Sampling.POLICY), payload=lease().payload),
        sign(LEASE_TYPE, b"{}", KEEPER),
    ],
    ids=["another-s", "an-old-one", "another-request", "another-platform", "changed", "no-lease"],
)
def test_what_a_broker_makes_up_says_nothing(envelope: Envelope) -> None:
    relaying, _agent = heard_of(envelope)
    assert relaying.sampling is Sampling.POLICY
