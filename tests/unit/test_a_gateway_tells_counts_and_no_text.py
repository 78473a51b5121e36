"""What the responder is told of a gateway: names and numbers, few lines however many requests, and bounded."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from strongroom.core.clock import SystemClock
from strongroom.core.errors import MalformedError, NotFoundError, StrongroomError, UnavailableError
from strongroom.detection.sensors.own import read_own
from strongroom.detection.sensors.reading import Event
from strongroom.enclave.gateway import telling
from strongroom.enclave.gateway.adapters.telling import telling as tells
from strongroom.enclave.gateway.errors import FieldRefusedError
from strongroom.enclave.gateway.telling import EACH, MAX_LINES, MAX_WAITING, SUMMARY_SECONDS, Tally
from strongroom.responder.adapters.line_socket import LineSocket
from support.gateways import ATLAS

NOW = 1_800_000_000


def tally() -> Tally:
    made = Tally(ATLAS, "w1")
    made.take(NOW, 0.0)  # the first minute begins
    return made


def refused(field: str) -> FieldRefusedError:
    return FieldRefusedError(field, f"`{field}` can't be asked for here")


def test_a_refusal_is_a_line_that_the_responder_reads() -> None:
    made = tally()
    made.refused("dana", refused("logprobs"))
    (line,) = made.take(NOW, 1.0)
    (event,) = read_own(json.dumps(line).encode()).events
    assert {**event, "at": ""} == {
        "event": "gateway:request:refused",
        "at": "",
        "source": "strongroom",
        "host": "w1",
        "principal": "dana",
        "code": "field-refused",
        "parameter": "logprobs",
        "model": "atlas",
        "times": 1,
    }
    assert made.take(NOW, 2.0) == []


@pytest.mark.parametrize("said", ["my secret prompt", "sk-strongroom-x", "x" * 96, "logprobs ", "", "Logprobs"])
def test_a_member_s_name_that_isnt_known_is_told_as_other(said: str) -> None:
    made = tally()
    made.refused("dana", refused(said))
    assert [line["parameter"] for line in made.take(NOW, 1.0)] == ["other"]


def test_of_a_member_within_another_the_outer_one_is_told() -> None:
    made = tally()
    made.refused("dana", refused("messages.0.my secret prompt"))
    assert [line["parameter"] for line in made.take(NOW, 1.0)] == ["messages"]


def test_a_refusal_for_something_else_has_a_code_and_no_parameter() -> None:
    made = tally()
    for error in (MalformedError("the body isn't JSON"), NotFoundError("no", reason="model_not_found")):
        made.refused("dana", error)
    assert [(line["code"], line["parameter"]) for line in made.take(NOW, 1.0)] == [
        (MalformedError("").reason, ""),
        ("model_not_found", ""),
    ]


def test_what_failed_on_our_side_isnt_the_asker_s() -> None:
    made = tally()
    made.refused("dana", UnavailableError("the model isn't open yet"))
    assert made.take(NOW, SUMMARY_SECONDS) == []


def test_a_flood_makes_as_many_lines_as_a_rule_counts_and_then_one_a_minute() -> None:
    made = tally()
    for second in range(1, 60):
        for _ in range(1000):
            made.refused("dana", refused("logit_bias"))
        lines = made.take(NOW, float(second))
        assert len(lines) == (EACH.burst if second == 1 else 0)
    (line,) = made.take(NOW, SUMMARY_SECONDS)
    assert line["times"] == 59 * 1000 - EACH.burst


def test_a_flood_of_one_parameter_hides_no_other() -> None:
    made = tally()
    for _ in range(1000):
        made.refused("dana", refused("user"))
    made.take(NOW, 1.0)
    made.refused("dana", refused("logprobs"))
    made.refused("kim", refused("user"))
    assert [(line["principal"], line["parameter"]) for line in made.take(NOW, 2.0)] == [
        ("dana", "logprobs"),
        ("kim", "user"),
    ]


def test_what_was_used_is_told_once_a_minute_for_each_principal() -> None:
    made = tally()
    for _ in range(100):
        made.used("dana", 3)
    made.used("kim", 5)
    assert made.take(NOW, SUMMARY_SECONDS - 1) == []
    assert [
        (line["event"], line["principal"], line["model"], line["tokens"]) for line in made.take(NOW, SUMMARY_SECONDS)
    ] == [("gateway:usage:counted", "dana", "atlas", 300), ("gateway:usage:counted", "kim", "atlas", 5)]


def test_what_doesnt_fit_is_told_as_one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "MAX_WAITING", 4)
    made = tally()
    for number in range(6):
        made.refused(f"p{number}", refused("n"))
        made.used(f"p{number}", 1)
    lines = made.take(NOW, SUMMARY_SECONDS)
    assert [line["count"] for line in lines if line["event"] == "detector:state:evicted"] == [4]
    assert len([line for line in lines if line["event"] == "gateway:request:refused"]) == 4
    assert all(read_own(json.dumps(line).encode()).events for line in lines)
    assert made.rest(NOW) == []


def test_so_many_lines_are_taken_at_once_and_the_others_wait() -> None:
    made = tally()
    for number in range(MAX_WAITING):
        made.refused(f"p{number}", refused("n"))
    counts = []
    while lines := made.take(NOW, 1.0):
        counts.append(len(lines))
    assert max(counts) == MAX_LINES
    assert sum(counts) == MAX_WAITING


def test_an_error_of_another_kind_has_no_field_of_its_own() -> None:
    made = tally()

    class HostileError(StrongroomError):
        code = "hostile"
        http_status = 400
        field = "my secret prompt"

    made.refused("dana", HostileError("x"))
    assert [line["parameter"] for line in made.take(NOW, 1.0)] == [""]


@pytest.mark.integration
def test_a_responder_that_is_away_is_told_when_it_comes_and_nothing_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strongroom.enclave.gateway.adapters.telling.EVERY_SECONDS", 0.01)
    path, heard = tmp_path / "own.sock", list[Event]()

    async def story() -> int:
        made, both = Tally(ATLAS, "w1"), asyncio.Event()

        def take(event: Event) -> None:
            heard.append(event)
            if len(heard) == 2:
                both.set()

        async with tells(path, made, SystemClock()):
            made.refused("dana", refused("echo"))
            await asyncio.sleep(0.1)
            assert not heard
            made.refused("dana", refused("n"))
            socket = LineSocket("gateway", os.geteuid(), read_own, take, lambda: None)
            await socket.start(path)
            await both.wait()
            # What is left at the end is told, too.
            made.used("dana", 7)
        await socket.stop()
        return socket.missed

    assert asyncio.run(asyncio.wait_for(story(), 60)) == 0
    assert [event.get("parameter") for event in heard[:2]] == ["echo", "n"]
    assert sum(int(str(event.get("tokens", 0))) for event in heard) == 7


@pytest.mark.integration
def test_a_responder_that_never_comes_keeps_no_gateway_from_ending(tmp_path: Path) -> None:
    async def story() -> None:
        made = Tally(ATLAS, "w1")
        async with tells(tmp_path / "nobody.sock", made, SystemClock()):
            made.refused("dana", refused("echo"))

    asyncio.run(asyncio.wait_for(story(), 60))
