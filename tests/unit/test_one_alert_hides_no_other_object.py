"""The same alert is told once an hour, and about each object: a harmless file hides none that is touched after it."""

from __future__ import annotations

import pytest

from strongroom.detection import detector as detector_module
from strongroom.detection.detector import AGAIN_AFTER, MOST_OBJECTS, Alert, Detector
from strongroom.detection.engine import Engine, read_event
from strongroom.detection.vocabulary import fields_of
from strongroom.detection.wiring import linear_regex, shipped_pack

NOW = 1_795_000_000
OBJECTS = detector_module._OBJECTS


@pytest.fixture
def detector() -> Detector:
    return Detector(Engine(shipped_pack(), regex=linear_regex), lambda _person: "")


def changed(path: str, host: str = "w1", source: str = "wazuh") -> dict[str, object]:
    return {"event": "host:file:changed", "host": host, "path": path, "source": source}


def told(detector: Detector, event: dict[str, object], after: int = 0) -> tuple[Alert, ...]:
    return detector.observe(read_event(event), NOW + after)


def test_a_second_file_of_a_host_is_told_and_the_same_one_is_told_once(detector: Detector) -> None:
    assert [one.event["path"] for one in told(detector, changed("/etc/motd"))] == ["/etc/motd"]
    assert [one.event["path"] for one in told(detector, changed("/etc/shadow"), 1)] == ["/etc/shadow"]
    assert told(detector, changed("/etc/shadow"), 2) == ()
    assert len(told(detector, changed("/etc/shadow", host="w2"), 3)) == 1
    assert len(told(detector, changed("/etc/shadow", source="osquery"), 4)) == 1
    assert len(told(detector, changed("/etc/shadow"), 1 + AGAIN_AFTER)) == 1


def test_a_second_copy_device_and_measure_are_told(detector: Detector) -> None:
    for event in (
        {"event": "scanner:copy:found", "host": "w1", "model": "atlas", "registered": False, "path": "/%d"},
        {"event": "register:copy:troubled", "host": "w1", "model": "atlas", "copy": "c%d"},
        {"event": "host:device:added", "host": "w1", "kind": "usb", "device": "d%d"},
        {"event": "assessor:measure:lost", "host": "w1", "measure": "SL1-WST-0%d"},
        {"event": "host:file:opened", "host": "w1", "kind": "shard", "broker": False, "path": "/w%d"},
    ):
        field = OBJECTS[str(event["event"])]
        each = [{**event, field: str(event[field]) % number} for number in (1, 2, 1)]
        assert [len(told(detector, one)) for one in each] == [1, 1, 0], event


def test_so_many_objects_are_told_an_hour_and_the_rest_is_counted_and_said(detector: Detector) -> None:
    for number in range(MOST_OBJECTS):
        assert len(told(detector, changed(f"/f{number}"), number)) == 1
    for number in range(5):
        assert told(detector, changed(f"/more{number}"), 100 + number) == ()
    # Another rule's, host's and sensor's objects have room of their own.
    assert len(told(detector, changed("/more", host="w2"), 200)) == 1
    assert len(told(detector, changed("/more", source="osquery"), 200)) == 1
    (said,) = told(detector, {"event": "nothing"}, AGAIN_AFTER)
    assert (said.rule, said.subject) == ("state-evicted", "host:w1")
    assert (said.event["rule"], said.event["count"]) == ("guarded-file-changed", 5)
    # And from now on there is room again.
    assert [one.rule for one in told(detector, changed("/more0"), AGAIN_AFTER + 1)] == ["guarded-file-changed"]
    assert told(detector, {"event": "nothing"}, 3 * AGAIN_AFTER) == ()


def test_what_each_of_two_rules_left_out_is_said(detector: Detector) -> None:
    for number in range(MOST_OBJECTS + 2):
        told(detector, changed(f"/f{number}"))
        told(detector, {"event": "host:device:added", "kind": "usb", "host": "w1", "device": f"d{number}"})
    said = told(detector, {"event": "nothing"}, AGAIN_AFTER)
    assert {(one.event["rule"], one.event["count"]) for one in said} == {
        ("guarded-file-changed", 2),
        ("device-added", 2),
    }


def test_what_is_forgotten_for_want_of_room_is_said_first(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector_module, "MOST_REMEMBERED", 2)
    for number in range(MOST_OBJECTS + 1):
        told(detector, changed(f"/f{number}", host="w1"))
    said = [one for host in ("w2", "w3", "w4") for one in told(detector, changed("/x", host=host))]
    assert [one.event["count"] for one in said if one.rule == "state-evicted"] == [1]


@pytest.mark.parametrize("path", [["/a", "/b"], 7, None, "\ud800" * 4096])
def test_an_object_of_any_form_breaks_nothing(detector: Detector, path: object) -> None:
    event = {**changed("/a"), "path": path}
    assert [len(told(detector, event)) for _again in range(2)] == [1, 0]


def test_each_object_is_a_field_of_its_event() -> None:
    assert all(field in (fields_of(event) or ()) for event, field in OBJECTS.items())
