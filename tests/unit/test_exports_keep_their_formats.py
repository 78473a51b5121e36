"""What is exported as CloudEvents, OTLP and CSV is what these formats allow, for every event of the log."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit.entries import read_entry
from strongroom.audit.export.cloudevents import CloudEventsFormat, cloud_event
from strongroom.audit.export.otlp import OtlpFormat, export_request
from strongroom.audit.export.record import Record, Severity, record_of
from strongroom.audit.export.tables import COLUMNS, CsvFormat, safe_cell
from strongroom.audit.merkle import leaf_hash
from strongroom.core.events import EventName
from support.logs import AT, ORIGIN, sample_entry
from support.otlp import check_request

EVERY = pytest.mark.parametrize("event", EventName)
_EXTENSION = re.compile(r"[a-z0-9]{1,20}")
_REQUIRED = {"specversion", "id", "source", "type"}
_OPTIONAL = {"datacontenttype", "subject", "time", "data"}


def record(event: EventName, index: int = 3, origin: str = ORIGIN) -> Record:
    data = sample_entry(event, 7)
    return record_of(origin, index, data, read_entry(data))


def check_cloud_event(event: dict[str, Any]) -> None:
    """Check an event against CloudEvents 1.0.2 and its JSON format, from their text."""
    assert event.keys() >= _REQUIRED
    assert event["specversion"] == "1.0"
    for name in event.keys() - _REQUIRED - _OPTIONAL:
        assert _EXTENSION.fullmatch(name), name
    for name in event.keys() - {"data"}:
        assert isinstance(event[name], str), name
        assert event[name], name
    assert urlsplit(event["source"]).netloc
    assert datetime.fromisoformat(event["time"]).tzinfo is not None
    assert event["datacontenttype"] == "application/json"


@EVERY
def test_cloud_events(event: EventName) -> None:
    made = json.loads(CloudEventsFormat().lines((record(event),)))
    check_cloud_event(made)
    assert made["type"] == "strongroom." + event.value.replace(":", ".")
    assert made["data"]["facts"].keys() == record(event).facts.keys()


def test_a_cloud_event_is_named_by_log_and_index() -> None:
    names = [(one["source"], one["id"]) for one in map(cloud_event, (record(EventName.REFUSED, i) for i in range(3)))]
    assert names == [("//vault.example/log", str(i)) for i in range(3)]
    sequences = [cloud_event(record(EventName.REFUSED, i))["sequence"] for i in (9, 10, 100)]
    assert sequences == sorted(sequences, key=str)
    odd = cloud_event(record(EventName.REFUSED, origin="a b/c?d#e"))
    assert odd["source"] == "//a%20b/c%3Fd%23e"


def test_one_cloud_event_is_structured_and_more_are_a_batch() -> None:
    one = CloudEventsFormat().body((record(EventName.REFUSED),))
    many = CloudEventsFormat().body((record(EventName.REFUSED, 1), record(EventName.RELEASED, 2)))
    assert one.content_type == "application/cloudevents+json"
    assert json.loads(one.data)["id"] == "3"
    assert many.content_type == "application/cloudevents-batch+json"
    assert [event["id"] for event in json.loads(many.data)] == ["1", "2"]


@EVERY
def test_otlp(event: EventName) -> None:
    body = OtlpFormat().body((record(event, 1), record(event, 2)))
    assert body.content_type == "application/json"
    told = check_request(json.loads(body.data))
    assert [one["timeUnixNano"] for one in told] == [f"{AT}000000000"] * 2
    keys = [item["key"] for item in told[0]["attributes"]]
    assert {f"strongroom.fact.{name}" for name, value in record(event).facts.items() if value is not None} <= set(keys)


def test_otlp_of_nothing_is_a_request_of_nothing() -> None:
    assert check_request(export_request(())) == []


@pytest.mark.parametrize(
    "harm",
    [
        lambda one: one.update(timeUnixNano=5),
        lambda one: one["attributes"].append({"key": "strongroom.by", "value": {"stringValue": "x"}}),
        lambda one: one.update(severityNumber=99),
        lambda one: one.update(colour="red"),
        lambda one: one.update(body={"intValue": 5}),
    ],
)
def test_the_checker_of_otlp_refuses(harm: Callable[[Any], None]) -> None:
    request: Any = json.loads(json.dumps(export_request((record(EventName.RELEASED),))))
    harm(request["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0])
    with pytest.raises(AssertionError):
        check_request(request)


@EVERY
def test_csv(event: EventName) -> None:
    written = CsvFormat()
    text = (written.opening + written.lines((record(event, 1), record(event, 2)))).decode()
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert rows[0] == list(COLUMNS)
    assert [row[0] for row in rows[1:]] == ["1", "2"]
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert rows[1][-1] == leaf_hash(sample_entry(event, 7)).hex()


@given(st.text(max_size=20))
def test_no_cell_is_a_formula(text: str) -> None:
    cell = safe_cell(text)
    assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n", "|", "%", "\0"))
    assert cell in (text, f"'{text}")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "=cmd|' /C calc'!A0"])
def test_a_formula_is_made_text(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


def test_grave_events_are_said_to_be_grave() -> None:
    assert record(EventName.AUTHENTICATOR_REGRESSED).severity is Severity.CRITICAL
    assert record(EventName.REQUEST_APPROVED).severity is Severity.INFORMATIONAL
