"""A feed of an operator's own is heard about the events that its settings list, and can pass for nothing else."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.canonical import Json, parse
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.detection.rules import Certainty
from strongroom.detection.sensors.feeds import feed_reader
from strongroom.detection.sensors.readers import reader_of
from strongroom.detection.sensors.reading import MAX_LINE, MAX_TEXT
from strongroom.detection.vocabulary import COUNTS, FLAGS, JUDGED, SCORES, VOCABULARY
from strongroom.detection.wiring import cases_of, shipped_rules
from strongroom.responder.acting import Outcome
from strongroom.responder.deciding import Why
from strongroom.responder.decoys import Decoys
from strongroom.responder.health import Health
from strongroom.responder.sensing import wiring
from strongroom.responder.sensing.wiring import Senses, listening
from strongroom.responder.settings import ResponderSettings, SensorSocket, SensorWebhook
from unit.test_hostile_events_break_no_responder import SETTINGS, taking

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operate" / "detection.md"
SECRET = "s" * 32
BADGE = {"event": "facility:badge:missing", "host": "w2", "person": "dana", "site": "hall-2"}
EVENTS = ("facility:badge:missing", "facility:alarm:raised", "host:clock:jumped", "host:login:opened")
FEED: dict[str, Json] = {
    "name": "badges",
    "kind": "strongroom",
    "socket": "/run/badges.sock",
    "user": 992,
    "events": [*EVENTS],
}
HOOK: dict[str, Json] = {
    "name": "idp",
    "kind": "strongroom",
    "address": "127.0.0.1:8100",
    "secret": "/etc/strongroom/idp",
    "events": ["identity:factor:reset"],
}


def line(told: object) -> bytes:
    return json.dumps(told).encode()


def settings_of(**more: object) -> ResponderSettings:
    whole: dict[str, object] = {
        "v": 1,
        "host": "w1",
        "models": ["atlas"],
        "watched": [],
        "readers": [],
        "gates": [],
        "sensors": [],
        "acting": ["guard"],
        "freezes_an_hour": 6,
    }
    with Fields(parse(line(whole | more)), "responder") as fields:
        return ResponderSettings.read(fields)


# --- lines ------------------------------------------------------------------------------------------------------------


def test_a_listed_event_is_read_as_it_stands() -> None:
    assert feed_reader(EVENTS)(line(BADGE)).events == (BADGE,)


@pytest.mark.parametrize(
    "told",
    [
        {**BADGE, "event": "facility:quorum:lost", "person": "x"},
        {"event": "facility:module:tampered"},
        {"event": "scanner:copy:found", "path": "/x"},
        {"event": "detector:log:broken", "cause": "x"},
        {"event": "release:granted"},
        {"event": ["facility:badge:missing"]},
        {"event": "FACILITY:badge:missing"},
        {"person": "dana"},
        {**BADGE, "badge": "7"},
        {**BADGE, "index": 3},
        {**BADGE, "decoy_model": "atlas"},
        {**BADGE, "person": "x" * (MAX_TEXT + 1)},
        {**BADGE, "person": 7},
        {**BADGE, "person": None},
        {**BADGE, "person": ["dana", "eve"]},
        {**BADGE, "host": True},
        {"event": "host:login:opened", "badged": "false"},
        {"event": "host:login:opened", "badged": 0},
        {"event": "host:clock:jumped", "seconds": "9"},
        {"event": "host:clock:jumped", "seconds": True},
        {"event": "host:clock:jumped", "seconds": 1 << 53},
        {"event": "host:clock:jumped", "seconds": 1.5},
        [BADGE],
    ],
    ids=lambda told: str(told)[:60],
)
def test_a_line_of_anything_else_is_refused(told: object) -> None:
    with pytest.raises(MalformedError):
        feed_reader(EVENTS)(line(told))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"event": "host:clock:jumped", "event": "host:clock:jumped"}',
        b'{"event": "facility:alarm:raised", "site": "' + b"x" * MAX_LINE + b'"}',
    ],
)
def test_what_is_no_object_or_too_long_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        feed_reader(EVENTS)(data)


@given(st.binary(max_size=300) | st.dictionaries(st.sampled_from(sorted(BADGE)), st.text(max_size=40)).map(line))
def test_any_line_is_read_or_refused(data: bytes) -> None:
    try:
        (event,) = feed_reader(EVENTS)(data).events
    except MalformedError:
        return
    assert event["event"] in EVENTS


@pytest.mark.parametrize("score", [b"NaN", b"Infinity", b"1e400", b"1" + b"0" * 400, b"true", b'"3"'])
def test_a_score_is_a_number_within_bounds(score: bytes) -> None:
    read = feed_reader(("gateway:outputs:drifted",))
    with pytest.raises(MalformedError):
        read(b'{"event": "gateway:outputs:drifted", "score": ' + score + b"}")
    assert read(b'{"event": "gateway:outputs:drifted", "score": 3.5}').events


def test_each_event_of_the_rules_cases_that_a_feed_may_tell_has_the_types_of_its_lines() -> None:
    read = feed_reader(tuple(event for event in VOCABULARY if event not in JUDGED))
    told = [step.event for case in cases_of(shipped_rules()) for step in case.story]
    allowed = [event for event in told if event["event"] in VOCABULARY and event["event"] not in JUDGED]
    assert len(allowed) > 50
    for event in allowed:
        assert read(line(event)).events == (event,)


def test_no_field_has_two_types_or_is_unknown() -> None:
    fields = {field for names in VOCABULARY.values() for field in names}
    assert fields >= FLAGS | COUNTS | SCORES
    assert len(FLAGS) + len(COUNTS) + len(SCORES) == len(FLAGS | COUNTS | SCORES)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_list_what_a_socket_or_a_webhook_may_tell() -> None:
    made = settings_of(sensors=[FEED], webhooks=[HOOK])
    assert made.sensors[0].events == EVENTS
    assert made.webhooks[0].events == ("identity:factor:reset",)
    # Without a list it is what it was: our own searches.
    alone = settings_of(sensors=[{name: value for name, value in FEED.items() if name != "events"}]).sensors[0]
    assert alone.events == ()
    assert reader_of(alone.kind, alone.events)(line(BADGE)).unknown == "facility:badge:missing"


@pytest.mark.parametrize("event", sorted(JUDGED))
def test_what_only_the_product_can_know_is_refused_in_a_feed_s_list(event: str) -> None:
    assert event in VOCABULARY
    with pytest.raises(MalformedError, match=f"no feed may tell `{event}`: only the product itself"):
        settings_of(sensors=[{**FEED, "events": ["facility:alarm:raised", event]}])
    with pytest.raises(MalformedError, match="only the product itself"):
        settings_of(webhooks=[{**HOOK, "events": [event]}])


@pytest.mark.parametrize("event", ["vault:release:granted", "incident:entry:recorded", "facility:badge:lost", "", "*"])
def test_the_log_s_own_events_and_unknown_ones_are_refused_in_a_feed_s_list(event: str) -> None:
    with pytest.raises(MalformedError, match="isn't an event of the sensors' vocabulary"):
        settings_of(sensors=[{**FEED, "events": [event]}])


@pytest.mark.parametrize(
    "more",
    [
        {"sensors": [{**FEED, "events": []}]},
        {"sensors": [{**FEED, "events": ["facility:alarm:raised"] * 2}]},
        {"sensors": [{**FEED, "events": "facility:alarm:raised"}]},
        {"sensors": [{**FEED, "events": [7]}]},
        {"sensors": [{**FEED, "kind": "falco"}]},
        {"sensors": [{**FEED, "name": "log"}]},
        {"sensors": [{**FEED, "name": "detector"}]},
        {"webhooks": [{**HOOK, "kind": "falco"}]},
        {"webhooks": [{name: value for name, value in HOOK.items() if name != "events"}]},
    ],
)
def test_settings_of_another_form_are_refused(more: dict[str, Json]) -> None:
    with pytest.raises(MalformedError):
        settings_of(**more)


# --- the responder ----------------------------------------------------------------------------------------------------


def taken(tmp_path: Path, settings: ResponderSettings, lines: list[bytes], rule: str) -> list[Outcome]:
    """Write lines to the feed, by its socket or its webhook; returns what was told once ``rule`` alarmed."""

    async def run() -> list[Outcome]:
        responder, record, heard = taking(tmp_path / "record")
        decoys = Decoys(genesis=Digest.of(b"g"))
        senses = Senses(settings, decoys, None, responder, Health({}, 0.0), frozenset())  # type: ignore[arg-type]
        async with listening(senses) as tasks:
            for data in lines:
                await (says if settings.sensors else posts)(tmp_path, data)
            while rule not in {one.decision.alert.rule for one in heard}:  # noqa: ASYNC110 - what is heard is a list
                await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        await responder.rest()
        record.close()
        return heard

    return asyncio.run(asyncio.wait_for(run(), 30))


async def says(tmp_path: Path, data: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(tmp_path / "feed.sock")
    writer.write(data + b"\n")
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()


async def posts(tmp_path: Path, data: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(tmp_path / "feed.sock")
    writer.write(f"POST /{SECRET} HTTP/1.1\r\nHost: w1\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    await reader.read()
    writer.close()


def by_socket(tmp_path: Path) -> ResponderSettings:
    socket = str(tmp_path / "feed.sock")
    feed = SensorSocket(
        name="badges",
        kind="strongroom",
        socket=socket,
        user=os.getuid(),
        silent_seconds=0,
        hosts=("w1", "w2"),
        events=EVENTS,
    )
    return replace(SETTINGS, sensors=(feed,))


def by_webhook(tmp_path: Path) -> ResponderSettings:
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o600)
    hook = SensorWebhook(
        name="badges",
        kind="strongroom",
        address=str(tmp_path / "feed.sock"),
        secret=str(tmp_path / "secret"),
        silent_seconds=0,
        hosts=("w1", "w2"),
        events=EVENTS,
    )
    return replace(SETTINGS, webhooks=(hook,))


both_ways = pytest.mark.parametrize("way", [by_socket, by_webhook])


@pytest.mark.integration  # an event loop holds a socket pair of its own
@both_ways
def test_an_honest_line_alarms(tmp_path: Path, way: Callable[[Path], ResponderSettings]) -> None:
    (told,) = taken(tmp_path, way(tmp_path), [line({**BADGE, "source": "log"})], "console-without-badge")
    event = told.decision.alert.event
    assert (event["host"], event["person"], event["source"]) == ("w2", "dana", "badges")


@pytest.mark.integration  # an event loop holds a socket pair of its own
@both_ways
@pytest.mark.parametrize(
    "more",
    [
        {"event": "facility:quorum:lost", "person": "x"},
        {"badge": "7"},
        {"person": "x" * (MAX_TEXT + 1)},
        {"host": "w9"},
        {"host": ""},
        {"event": "detector:log:broken"},
    ],
    ids=["event", "field", "long", "host", "no host", "detector"],
)
def test_what_is_refused_is_seen(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Callable[[Path], ResponderSettings],
    more: dict[str, str],
) -> None:
    monkeypatch.setattr(wiring, "LOOK_SECONDS", 0.01)
    (told,) = taken(tmp_path, way(tmp_path), [line(BADGE | more)], "state-evicted")
    assert told.decision.alert.event["count"] == 1


@pytest.mark.integration  # an event loop holds a socket pair of its own
def test_a_feed_freezes_nothing_unless_the_settings_let_it_act(tmp_path: Path) -> None:
    duress = line({"event": "facility:alarm:raised", "host": "w1", "site": "hall-2", "kind": "duress"})
    (told,) = taken(tmp_path, by_socket(tmp_path), [duress], "duress")
    assert told.decision.alert.about.certainty is Certainty.SURE
    assert (told.decision.why, told.decision.models, told.stopped) == (Why.NOT_TRUSTED, (), {})
    # The stand-in lets the sensor of this name act.
    place = tmp_path / "acting"
    place.mkdir()
    made = by_socket(place)
    (told,) = taken(place, replace(made, sensors=(replace(made.sensors[0], name="falco"),)), [duress], "duress")
    assert told.decision.why is Why.SURE
    assert told.decision.models


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.integration  # an event loop holds a socket pair of its own
def test_the_page_s_settings_and_line_alarm_as_written(tmp_path: Path) -> None:
    part = PAGE.read_text().split("## Feeds of your own\n")[1].split("\n## ")[0]
    shown = json.loads(part.split("```json\n")[1].split("```")[0])
    (written,) = part.split("```jsonl\n")[1].split("```")[0].splitlines()
    made = settings_of(**shown)
    feed = replace(made.sensors[0], socket=str(tmp_path / "feed.sock"), user=os.getuid())
    (told,) = taken(tmp_path, replace(SETTINGS, sensors=(feed,)), [written.encode()], "console-without-badge")
    assert told.decision.alert.event["host"] == "w2"
    assert f"`{told.decision.alert.rule}` alarms" in part
