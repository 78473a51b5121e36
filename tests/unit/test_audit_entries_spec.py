"""The table in docs/spec/audit-entries.md says what the code does of every event and every fact."""

from __future__ import annotations

import re
from pathlib import Path

from strongroom.audit.entries import MAX_ENTRY, PAYLOAD_TYPE
from strongroom.audit.facts import SCHEMA, producer_of
from strongroom.core.events import EventName

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "spec" / "audit-entries.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([a-z:-]+:[a-z:-]+)` \| (keeper|log) \| (.*) \|$", re.MULTILINE)


def test_the_table_of_events_is_the_schema() -> None:
    written = {}
    for event, producer, facts in ROW.findall(PAGE):
        pairs = re.findall(r"`([a-z_]+)` ([^,]+)", facts)
        assert facts == (", ".join(f"`{name}` {kind}" for name, kind in pairs) or "none")
        written[event] = (producer, dict(pairs))
    assert written == {
        event.value: (producer_of(event).value, {name: kind.value for name, kind in facts.items()})
        for event, facts in SCHEMA.items()
    }


def test_every_event_has_a_schema() -> None:
    assert set(SCHEMA) == set(EventName)


def test_the_page_states_type_and_limit() -> None:
    assert PAYLOAD_TYPE in PAGE
    assert f"{MAX_ENTRY:,}" in PAGE
