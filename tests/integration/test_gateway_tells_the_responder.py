"""A client tries what reads weights out, the gateway refuses it, and the responder's rules hear of it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import pytest

from strongroom.detection.detector import Detector
from strongroom.detection.engine import Engine
from strongroom.detection.sensors.own import read_own
from strongroom.detection.sensors.reading import Event
from strongroom.detection.wiring import linear_regex, shipped_pack
from strongroom.responder.adapters.line_socket import LineSocket
from support.gateways import KEY, OTHER_KEY, gateway, honest

pytestmark = pytest.mark.integration
NOW: Final = 1_800_000_000
SECRET: Final = "w301"
TRIES: Final = 60


class Responder:
    """The responder's socket for a sensor of kind `strongroom`, in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path, self.heard, self.missed = path, list[Event](), 0
        self._ready, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join(60)

    async def _serve(self) -> None:
        socket = LineSocket("gateway", os.geteuid(), read_own, self.heard.append, lambda: None)
        await socket.start(self.path)
        self._ready.set()
        await asyncio.to_thread(self._stop.wait)
        self.missed = socket.missed
        await socket.stop()

    def of(self, name: str) -> list[Event]:
        """Return what was heard of one kind."""
        return [event for event in self.heard if event["event"] == name]


def alerts(events: list[Event]) -> set[tuple[str, str]]:
    """Return the rules that match, and about whom."""
    made = Detector(Engine(shipped_pack(), regex=linear_regex), lambda _person: "")
    return {(alert.rule, alert.subject) for event in events for alert in made.observe(event, NOW)}


def until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread does; the suite's own limit ends it where it never comes."""
    while not holds():
        time.sleep(0.02)


def test_rules_about_forbidden_parameters_hear_of_each_principal_that_tries_them(tmp_path: Path) -> None:
    with Responder(tmp_path / "own.sock") as responder:
        with gateway(tmp_path, honest(), tell=responder.path) as live:
            unknown = {"model": live.model, "prompt": SECRET, SECRET: SECRET}
            tried = live.complete(SECRET, logprobs=5)
            assert (tried.status_code, tried.json()["error"]["code"]) == (400, "field-refused")
            assert live.post("/v1/completions", unknown, OTHER_KEY).status_code == 400
            assert live.complete(SECRET, key="sk-strongroom-nobody", logit_bias={}).status_code == 401
            assert live.complete(SECRET, most=8).status_code == 200
            until(lambda: len(responder.of("gateway:request:refused")) == 2)
            assert alerts(responder.heard) == {("extraction-parameter-tried", "principal:dana")}
        until(lambda: bool(responder.of("gateway:usage:counted")))
        assert responder.missed == 0
    told = {(event["principal"], event["parameter"]) for event in responder.of("gateway:request:refused")}
    assert told == {("dana", "logprobs"), ("kim", "other")}
    used = responder.of("gateway:usage:counted")
    assert {event["principal"] for event in used} == {"dana"}
    assert sum(int(str(event["tokens"])) for event in used) == 8
    # Neither prompt nor answer nor key.
    assert not {SECRET, "w302", KEY, OTHER_KEY} & {str(value) for event in responder.heard for value in event.values()}
    assert SECRET not in json.dumps(responder.heard)


def test_whoever_tries_often_is_found(tmp_path: Path) -> None:
    with Responder(tmp_path / "own.sock") as responder, gateway(tmp_path, honest(), tell=responder.path) as live:
        for _ in range(TRIES):
            live.complete(SECRET, logit_bias={"1": 100})
        until(lambda: len(responder.of("gateway:request:refused")) == TRIES)
        assert "extraction-tried-often" in {rule for rule, _subject in alerts(responder.heard)}


def test_a_gateway_serves_where_no_responder_listens(tmp_path: Path) -> None:
    with gateway(tmp_path, honest(), tell=tmp_path / "nobody.sock") as live:
        assert live.complete(SECRET, logprobs=5).status_code == 400
        assert live.complete(SECRET, most=2).status_code == 200
