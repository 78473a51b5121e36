"""The console's audit pages before a broker that lies: what is shown was proven, and a page ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from strongroom.audit.errors import MissingRowsError, ProofError
from strongroom.audit.reading.growth import stretch
from strongroom.console.routes import audit
from strongroom.console.visits import Visit
from strongroom.core.events import EventName
from support.log_views import MemoryView, log_of

LOG = log_of([(EventName.MODEL_FROZEN, 1, {})] * 9)


class Forgetful(MemoryView):
    """Shows an entry's audit path once, and another one afterwards."""

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        path = super().inclusion(index, size)
        self.reads += 100
        return path if self.reads < 200 else tuple(bytes(32) for _ in path)


class Talkative(MemoryView):
    """Shows more entries than were asked for."""

    def entries(self, start: int, count: int) -> tuple[bytes, ...]:
        return super().entries(start, count + 1)


def _visit(monkeypatch: pytest.MonkeyPatch, view: MemoryView, **path: str) -> Visit:
    monkeypatch.setattr(audit, "_view", lambda _visit: view)
    me = cast("Any", SimpleNamespace())
    return Visit(me=me, origin="https://console.example", path=path, now=0, random_bytes=bytes)


def test_the_log_is_shown_to_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    told = audit.log(_visit(monkeypatch, MemoryView(LOG, most=3))).data
    assert [one["index"] for one in cast("Any", told["entries"])] == [*range(9, -1, -1)]


@pytest.mark.parametrize("view", [MemoryView(LOG, most=0), Talkative(LOG)], ids=["nothing", "too-much"])
def test_another_number_of_entries_than_was_asked_for_is_refused(view: MemoryView) -> None:
    with pytest.raises(MissingRowsError):
        stretch(view, view.head(), 0, 5)


def test_a_broker_that_shows_nothing_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingRowsError):
        audit.log(_visit(monkeypatch, MemoryView(LOG, most=0)))


def test_the_audit_path_that_is_shown_is_checked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert audit.entry(_visit(monkeypatch, MemoryView(LOG), index="3")).data["index"] == 3
    with pytest.raises(ProofError):
        audit.entry(_visit(monkeypatch, Forgetful(LOG), index="3"))
