"""Whoever looks at an incident, or signs for it, gets the one that they asked for, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.cli import incident_desk
from strongroom.core.canonical import Json
from strongroom.core.encoding import to_base64
from strongroom.core.fields import Fields
from strongroom.response.incident import BrokenRecordError
from support.responses import Record, alert

DESK = Path("desk.sock")


def shows(monkeypatch: pytest.MonkeyPatch, listed: Record, shown: Record) -> str:
    def answer(_desk: Path, operation: str, **_members: Json) -> Fields:
        if operation == "incidents":
            return Fields({"incidents": [{"incident": listed.incident.id}], "broken": {}}, "answer")
        entries: list[Json] = [to_base64(entry.to_bytes()) for entry in shown.entries]
        return Fields({"entries": entries, "runs": {}, "drill": None, "held": False}, "answer")

    monkeypatch.setattr(incident_desk, "call", answer)
    return listed.incident.id


def test_the_incident_that_was_asked_for_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record.of(alert())
    assert incident_desk.fetch(DESK, shows(monkeypatch, record, record)).incident == record.incident


def test_another_incident_under_its_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = shows(monkeypatch, Record.of(alert()), Record.of(alert("model:borealis")))
    with pytest.raises(BrokenRecordError, match=wanted):
        incident_desk.fetch(DESK, wanted)
