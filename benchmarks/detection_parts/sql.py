"""The same rules as SQL over batches in SQLite, as converters for hunting make them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Final

from benchmarks.detection_parts.drawn import Event

from strongroom.detection.expressions import All, Any, Expression, Match, Not, Test
from strongroom.detection.pack import Pack

BATCH: Final = 1000
FIELDS: Final = ("event", "user", "bytes", "path", "ip", "tool")
_NUMBERS: Final = {Match.ABOVE: ">", Match.AT_LEAST: ">=", Match.BELOW: "<", Match.AT_MOST: "<=", Match.NUMBER: "="}


def matched(pack: Pack, events: Sequence[Event]) -> tuple[float, int]:
    """Return seconds and hits for all events, in batches."""
    database = sqlite3.connect(":memory:")
    database.create_function("in_network", 2, _in_network, deterministic=True)
    database.execute(f"CREATE TABLE events ({', '.join(FIELDS)})")
    queries = [f"SELECT count(*) FROM events WHERE {_where(rule.expression)}" for rule in pack.rules]  # noqa: S608
    began, hits = time.perf_counter(), 0
    for first in range(0, len(events), BATCH):
        database.execute("DELETE FROM events")
        rows = [tuple(event[field] for field in FIELDS) for event in events[first : first + BATCH]]
        database.executemany(f"INSERT INTO events VALUES ({', '.join('?' * len(FIELDS))})", rows)  # noqa: S608
        hits += sum(database.execute(query).fetchone()[0] for query in queries)
    return time.perf_counter() - began, hits


def _in_network(text: str, network: str) -> bool:
    return ip_address(text) in ip_network(network)


def _where(expression: Expression) -> str:
    match expression:
        case All(parts=parts):
            return "(" + " AND ".join(map(_where, parts)) + ")"
        case Any(parts=parts):
            return "(" + " OR ".join(map(_where, parts)) + ")"
        case Not(part=part):
            return f"NOT {_where(part)}"
        case Test(field=field, match=how, value=value):
            if how in _NUMBERS:
                return f"{field} {_NUMBERS[how]} {value}"
            if how is Match.CIDR:
                return f"in_network({field}, '{value}')"
            pattern = {Match.STARTS: f"{value}%", Match.ENDS: f"%{value}", Match.CONTAINS: f"%{value}%"}.get(how, value)
            return f"{field} LIKE '{pattern}'"
