"""Every event that the log can hold is exported as an OCSF event that the released schema allows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from strongroom.audit.entries import read_entry
from strongroom.audit.export.ocsf import MAPPED, SCHEMA_VERSION, OcsfFormat, ocsf_event
from strongroom.audit.export.pseudonyms import Pseudonyms
from strongroom.audit.export.record import Record, record_of
from strongroom.core.events import EventName
from support.logs import AT, ORIGIN, sample_entry
from support.ocsf import check_event, schema


def record(event: EventName, index: int = 41) -> Record:
    data = sample_entry(event, 7)
    return record_of(ORIGIN, index, data, read_entry(data))


def test_the_cut_is_of_the_version_that_is_stated() -> None:
    assert schema()["version"] == SCHEMA_VERSION
    assert "Apache-2.0" in schema()["provenance"]["licence"]


def test_every_event_of_the_log_has_a_place() -> None:
    assert set(MAPPED) == set(EventName), "a new event needs a class and an activity in audit/export/ocsf.py"


@pytest.mark.parametrize("event", EventName)
def test_each_event_fits_its_class(event: EventName) -> None:
    made = json.loads(json.dumps(ocsf_event(record(event))))
    check_event(made)
    assert made["metadata"]["sequence"] == 41
    assert made["metadata"]["uid"] == f"{ORIGIN}#41"
    assert made["metadata"]["event_code"] == event.value
    assert made["time"] == AT * 1000


@pytest.mark.parametrize("event", EventName)
def test_pseudonyms_fit_as_well(event: EventName) -> None:
    check_event(json.loads(json.dumps(ocsf_event(Pseudonyms(b"p" * 32).of(record(event))))))


@pytest.mark.parametrize("event", EventName)
def test_no_fact_is_lost(event: EventName) -> None:
    # Each value stands somewhere: in a member of the class, or in `unmapped`.
    one = record(event)
    told = json.dumps(ocsf_event(one))
    for name, value in one.facts.items():
        for item in value if isinstance(value, tuple) else (value,):
            assert item is None or str(item) in told, name


def test_lines_are_one_event_each() -> None:
    lines = OcsfFormat().lines((record(EventName.RELEASED, 1), record(EventName.REFUSED, 2))).splitlines()
    assert [json.loads(line)["metadata"]["sequence"] for line in lines] == [1, 2]


def test_what_concerns_a_model_carries_the_profile() -> None:
    made = ocsf_event(record(EventName.RELEASED))
    assert made["ai_model"] == {"name": "atlas-7b", "ai_provider": ORIGIN, "version": "7"}


def broken(change: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(ocsf_event(record(EventName.RELEASED))))
    match change:
        case "unknown member":
            made["colour"] = "red"
        case "missing member":
            del made["actor"]
        case "activity that its class doesn't have":
            made.update(activity_id=77, type_uid=600577)
        case "wrong type":
            made["time"] = "now"
        case "profile left out":
            del made["metadata"]["profiles"]
        case "object without a name":
            made["src_endpoint"] = {"type_id": 1}
        case "flag for a number":
            made["severity_id"] = True
    return made


@pytest.mark.parametrize(
    "change",
    [
        "unknown member",
        "missing member",
        "activity that its class doesn't have",
        "wrong type",
        "profile left out",
        "object without a name",
        "flag for a number",
    ],
)
def test_the_checker_refuses(change: str) -> None:
    # Else the tests above would pass for anything.
    with pytest.raises(AssertionError):
        check_event(broken(change))
