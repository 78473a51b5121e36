"""A strict checker of OTLP logs in JSON, from the text of the protocol (opentelemetry-proto 1.x, logs and common).

The JSON mapping of OTLP: names in lower camel case, 64-bit integers as decimal text, enumerations as numbers.
"""

from __future__ import annotations

import re
from typing import Any

_RECORD = {
    "timeUnixNano",
    "observedTimeUnixNano",
    "severityNumber",
    "severityText",
    "eventName",
    "body",
    "attributes",
}
_UINT64 = re.compile(r"0|[1-9][0-9]{0,19}")
_INT64 = re.compile(r"-?(0|[1-9][0-9]{0,18})")


def check_request(value: Any) -> list[dict[str, Any]]:
    """Check an ``ExportLogsServiceRequest`` and return its log records.

    :raises AssertionError: it isn't one.
    """
    records: list[dict[str, Any]] = []
    for resource in _members(value, {"resourceLogs"})["resourceLogs"]:
        _members(resource, {"resource", "scopeLogs"})
        _attributes(_members(resource["resource"], {"attributes"})["attributes"])
        for scope in resource["scopeLogs"]:
            _members(scope, {"scope", "logRecords"})
            named = _members(scope["scope"], {"name", "version"})
            assert all(isinstance(text, str) for text in named.values())
            for record in scope["logRecords"]:
                _record(record)
                records.append(record)
    return records


def _record(record: Any) -> None:
    _members(record, _RECORD)
    for name in ("timeUnixNano", "observedTimeUnixNano"):
        assert isinstance(record[name], str), name
        assert _UINT64.fullmatch(record[name]), name
    assert isinstance(record["severityNumber"], int)
    assert 1 <= record["severityNumber"] <= 24
    assert isinstance(record["severityText"], str)
    assert isinstance(record["eventName"], str)
    _any(record["body"])
    _attributes(record["attributes"])


def _attributes(items: Any) -> None:
    assert isinstance(items, list)
    keys = [_members(item, {"key", "value"})["key"] for item in items]
    assert all(isinstance(key, str) and key for key in keys)
    assert len(set(keys)) == len(keys), "the keys of attributes are unique"
    for item in items:
        _any(item["value"])


def _any(value: Any) -> None:
    assert isinstance(value, dict)
    assert len(value) == 1, "an AnyValue is one of its kinds"
    ((kind, inner),) = value.items()
    match kind:
        case "stringValue":
            assert isinstance(inner, str)
        case "intValue":
            assert isinstance(inner, str), "64-bit integers are text"
            assert _INT64.fullmatch(inner)
        case "boolValue":
            assert isinstance(inner, bool)
        case "arrayValue":
            for one in _members(inner, {"values"})["values"]:
                _any(one)
        case _:
            raise AssertionError(kind)


def _members(value: Any, names: set[str]) -> dict[str, Any]:
    assert isinstance(value, dict), value
    assert value.keys() == names, value.keys() ^ names
    return value
