"""CSV (RFC 4180): one line an entry, for spreadsheets. No cell is one that a spreadsheet would run as a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Final

from strongroom.audit.export.record import Body, Record, people_in
from strongroom.core.clock import format_instant

COLUMNS: Final = (
    "index",
    "at",
    "event",
    "outcome",
    "severity",
    "model",
    "version",
    "request",
    "people",
    "platform",
    "facts",
    "leaf",
)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "|", "%")


class CsvFormat:
    """Writes tables."""

    @property
    def opening(self) -> bytes:
        """The columns' names."""
        return _written([COLUMNS])

    def lines(self, records: tuple[Record, ...]) -> bytes:
        """Return one line for each record."""
        return _written(_row(record) for record in records)

    def body(self, records: tuple[Record, ...]) -> Body | None:
        """Nothing: tables are files."""
        del records
        return None


def safe_cell(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: an apostrophe stands before what could begin one.

    Nothing that the log holds begins so; what its facts may hold tomorrow isn't known today.
    """
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def _written(rows: Iterable[Iterable[str]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n", quoting=csv.QUOTE_MINIMAL)
    writer.writerows([safe_cell(cell) for cell in row] for row in rows)
    return out.getvalue().encode()


def _row(record: Record) -> tuple[str, ...]:
    facts = record.facts
    told = (
        f"{name}={' '.join(value) if isinstance(value, tuple) else value}"
        for name, value in facts.items()
        if value is not None
    )
    return (
        str(record.index),
        format_instant(record.at),
        record.event.value,
        record.outcome.value,
        record.severity.name.lower(),
        record.text("model") or "",
        str(facts.get("version", "")),
        record.text("request") or "",
        " ".join(people_in(record)),
        record.text("platform") or "",
        "; ".join(told),
        record.leaf,
    )
