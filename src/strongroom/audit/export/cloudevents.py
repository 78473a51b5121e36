"""CloudEvents 1.0: one event an entry; to a file one a line, over HTTP batched JSON (or structured, for one).

``source`` and ``id`` together name an entry for good: a receiver that gets one twice can tell.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from strongroom.audit.export.record import Body, Record, json_bytes
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant

BATCH: Final = "application/cloudevents-batch+json"
ONE: Final = "application/cloudevents+json"
_DIGITS: Final = 16


class CloudEventsFormat:
    """Writes CloudEvents."""

    opening = b""

    def lines(self, records: tuple[Record, ...]) -> bytes:
        """Return one event a line."""
        return b"".join(json_bytes(cloud_event(record)) + b"\n" for record in records)

    def body(self, records: tuple[Record, ...]) -> Body:
        """Return a batch, or the one event."""
        events: list[Json] = [cloud_event(record) for record in records]
        if len(events) == 1:
            return Body(ONE, json_bytes(events[0]))
        return Body(BATCH, json_bytes(events))


def cloud_event(record: Record) -> dict[str, Json]:
    """Return a record as a CloudEvent in the JSON format."""
    subject = record.text("model") or record.text("request")
    event: dict[str, Json] = {
        "specversion": "1.0",
        "id": str(record.index),
        "source": "//" + quote(record.origin, safe="/:"),
        "type": "strongroom." + record.event.value.replace(":", "."),
        "time": format_instant(record.at),
        "datacontenttype": "application/json",
        # An extension that sorts as text (CloudEvents' `sequence`), and one that says how grave it is.
        "sequence": str(record.index).zfill(_DIGITS),
        "severity": record.severity.name.lower(),
        "data": record.to_json(),
    }
    if subject is not None:
        event["subject"] = subject
    return event
