"""Why a second engine's release ended is raised to nobody: answers go on without it. So the gateway's log says it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from structlog.testing import capture_logs

from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.errors import DeniedError
from strongroom.core.ids import ModelId
from strongroom.enclave.gateway.adapters.relaying import relayed


class Agent:
    """An agent that asks for a release, and waits."""

    def __init__(self) -> None:
        self.sent: list[Json] = []
        self.killed = 0

    def send(self, message: Json, *, timeout: float) -> None:
        assert timeout > 0
        self.sent.append(message)

    def receive(self, *, timeout: float) -> Json:
        assert timeout > 0
        return {"ask": {"platform": "tpm-" + "1" * 64}}

    def kill(self) -> None:
        self.killed += 1


class Refusing:
    def challenge(self, *_asked: object) -> object:
        raise DeniedError("model `atlas` is frozen, says a long story", reason="frozen")


def test_a_refused_release_is_logged_by_its_code() -> None:
    agent: Any = Agent()
    order: Any = SimpleNamespace(request=Digest.of(b"request"), model=ModelId("atlas"), to_json=lambda: {"order": {}})
    broker: Any = Refusing()
    with capture_logs() as lines, relayed(agent, order, broker) as relaying:
        error = relaying.why()
    assert error is not None
    assert agent.killed
    (line,) = lines
    assert line == {
        "event": "an engine's release ended",
        "log_level": "info",
        "model": "atlas",
        "reason": "frozen",
    }
