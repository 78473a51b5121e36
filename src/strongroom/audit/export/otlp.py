"""OTLP logs in the JSON mapping of OpenTelemetry's protocol: a request a line to a file, or over OTLP/HTTP.

64-bit integers are decimal text there, enumerations are numbers, and names are in lower camel case.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from strongroom import __version__
from strongroom.audit.export.record import Body, Record, Severity, json_bytes
from strongroom.audit.facts import StoredFact
from strongroom.core.canonical import Json

CONTENT_TYPE: Final = "application/json"
_NUMBERS: Final = {
    Severity.INFORMATIONAL: (9, "INFO"),
    Severity.LOW: (10, "INFO2"),
    Severity.MEDIUM: (13, "WARN"),
    Severity.HIGH: (17, "ERROR"),
    Severity.CRITICAL: (21, "FATAL"),
}
"""The protocol's SeverityNumber, and its name."""


class OtlpFormat:
    """Writes OTLP log records."""

    opening = b""

    def lines(self, records: tuple[Record, ...]) -> bytes:
        """Return one line with all records."""
        return json_bytes(export_request(records)) + b"\n"

    def body(self, records: tuple[Record, ...]) -> Body:
        """Return an ExportLogsServiceRequest."""
        return Body(CONTENT_TYPE, json_bytes(export_request(records)))


def export_request(records: tuple[Record, ...]) -> Json:
    """Return the records, of one log, as an ``ExportLogsServiceRequest``."""
    origin = records[0].origin if records else ""
    resource = {"service.name": "strongroom", "service.version": __version__, "strongroom.log.origin": origin}
    return {
        "resourceLogs": [
            {
                "resource": {"attributes": _attributes(resource.items())},
                "scopeLogs": [
                    {
                        "scope": {"name": "strongroom.audit", "version": __version__},
                        "logRecords": [_log_record(record) for record in records],
                    }
                ],
            }
        ]
    }


def _log_record(record: Record) -> Json:
    number, name = _NUMBERS[record.severity]
    nanoseconds = str(record.at * 1_000_000_000)
    facts = [(f"strongroom.fact.{name}", value) for name, value in record.facts.items() if value is not None]
    head: list[tuple[str, StoredFact]] = [
        ("strongroom.log.index", record.index),
        ("strongroom.log.leaf", record.leaf),
        ("strongroom.by", record.by),
        ("strongroom.seq", record.seq),
        ("strongroom.outcome", record.outcome.value),
    ]
    return {
        "timeUnixNano": nanoseconds,
        # When it was observed is when it was logged; a copy that is sent again stays the same copy.
        "observedTimeUnixNano": nanoseconds,
        "severityNumber": number,
        "severityText": name,
        "eventName": "strongroom." + record.event.value.replace(":", "."),
        "body": {"stringValue": f"{record.event.value} (log entry {record.index})"},
        "attributes": _attributes([*head, *facts]),
    }


def _attributes(items: Iterable[tuple[str, StoredFact]]) -> Json:
    return [{"key": key, "value": _value(value)} for key, value in items]


def _value(value: StoredFact) -> Json:
    if isinstance(value, tuple):
        return {"arrayValue": {"values": [{"stringValue": one} for one in value]}}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}
