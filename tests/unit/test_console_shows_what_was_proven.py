"""The console's audit pages before a broker that lies: what is shown was proven, and a page ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from strongroom.audit.adapters.index import SqliteIndex
from strongroom.audit.errors import MissingRowsError, ProofError
from strongroom.audit.reading.query import Query
from strongroom.console.errors import FormError
from strongroom.console.gauges import gauges, readings
from strongroom.console.growing import OneStep
from strongroom.console.log_reader import LogReader, Opened
from strongroom.console.routes import audit, exposure
from strongroom.console.visits import Visit
from strongroom.core.errors import UsageError
from strongroom.core.events import EventName
from support.deployment import MODEL
from support.log_views import MODELS, REQUESTS, MemoryView, log_of
from support.logs import AT
from support.metered import POLICY

LOG = log_of([(EventName.MODEL_FROZEN, 1, {})] * 9)


class Forgetful(MemoryView):
    """Shows an entry's audit path once, and another one afterwards."""

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        path = super().inclusion(index, size)
        self.reads += 100
        return path if self.reads < 200 else tuple(bytes(32) for _ in path)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SqliteIndex]:
    with closing(SqliteIndex(tmp_path / "index")) as made:
        yield made


def _visit(view: MemoryView, index: SqliteIndex, query: dict[str, str] | None = None, **path: str) -> Visit:
    trust = SimpleNamespace(models={"atlas-7b": None})
    return Visit(
        me=cast("Any", SimpleNamespace()),
        origin="https://console.example",
        path=path,
        query=query or {},
        now=AT + 100,
        random_bytes=bytes,
        reader=LogReader(index),
        verified=cast("Any", trust),
        opened=Opened(view, view.head(), OneStep(index)),
    )


def _entry(view: MemoryView, index: SqliteIndex) -> Mapping[str, Any]:
    visit = _visit(view, index)
    visit.path = {"index": "3"}
    return audit.entry(visit).data


def test_the_log_is_shown_to_its_beginning(index: SqliteIndex) -> None:
    told = audit.log(_visit(MemoryView(LOG, most=3), index)).data
    assert [one["index"] for one in cast("Any", told["entries"])] == [*range(9, -1, -1)]


def test_a_broker_that_shows_nothing_is_not_asked_for_ever(index: SqliteIndex) -> None:
    with pytest.raises(MissingRowsError):
        audit.log(_visit(MemoryView(LOG, most=0), index))


def test_the_audit_path_that_is_shown_is_checked_itself(index: SqliteIndex) -> None:
    assert _entry(MemoryView(LOG), index)["index"] == 3
    with pytest.raises(ProofError):
        _entry(Forgetful(LOG), index)


def _rows(page: Any) -> list[int]:
    return [one["index"] for one in page.data["entries"]]


def test_a_search_goes_on_from_page_to_page_without_a_gap_or_a_repetition(index: SqliteIndex) -> None:
    log = log_of([(EventName.MODEL_FROZEN, 1, {"model": MODELS[number % 2]}) for number in range(90)])
    view, seen, query = MemoryView(log), [], {"model": MODELS[0]}
    while True:
        page = audit.log(_visit(view, index, query))
        seen += _rows(page)
        assert len(_rows(page)) <= audit.SEARCHED
        if page.data["older"] is None:
            break
        query["before"] = str(page.data["older"])
    assert seen == [*range(89, 0, -2)]


def test_a_search_says_how_far_the_index_goes(index: SqliteIndex) -> None:
    log = log_of([(EventName.MODEL_FROZEN, 1, {})] * 2100)
    told = [audit.log(_visit(MemoryView(log), index, {"event": "access"})).data["reach"] for _ in range(2)]
    assert told == [2048, 2101]


@pytest.mark.parametrize(
    "query",
    [
        {"event": "access:nothing"},
        {"outcome": "perhaps"},
        {"since": "yesterday"},
        {"request": "xyz"},
        {"person": "d" * 129},
        {"before": "-1"},
        {"model": "\x00", "before": "9" * 99},
    ],
)
def test_a_search_that_cannot_be_read_is_refused(query: dict[str, str], index: SqliteIndex) -> None:
    with pytest.raises((FormError, UsageError)):
        audit.log(_visit(MemoryView(LOG), index, query))


def test_exposure_is_what_the_whole_log_says_or_nothing(index: SqliteIndex) -> None:
    acts: list[tuple[EventName, int, dict[str, Any]]] = []
    for number in range(300):
        # Far from each other: each takes calls of its own.
        acts += [(EventName.MODEL_FROZEN, 1, {"model": MODELS[1]})] * 3
        handed = {"request": REQUESTS[number % 4], "use": number, "model": MODELS[0], "requester": "dana"}
        acts.append((EventName.RELEASED, 1, handed))
    view, query = MemoryView(log_of(acts)), {"model": MODELS[0]}
    # One console over several visits: what it read, it keeps.
    visit = _visit(view, index, query)
    answers: list[Any] = []
    while not (answers and answers[-1]["whole"]):
        answers.append(cast("Any", exposure.exposure(visit).data["answer"]))
        assert len(answers) < 60
    assert [one["read"] for one in answers] == [64, 128, 192, 256, 300]
    # Each is what the log's first so many entries say: a release every four entries.
    assert [(one["count"], one["through"]) for one in answers] == [
        *((one["read"], 4 * one["read"] + 4) for one in answers[:-1]),
        (300, 1201),
    ]
    assert answers[-1]["people"] == ["dana"]
    calls = view.reads
    assert cast("Any", exposure.exposure(visit).data["answer"]) == answers[-1]
    assert view.reads == calls


@pytest.mark.parametrize(
    "query", [{"model": "No Model"}, {"model": "atlas-7b", "since": "1d", "until": "2d"}, {"model": "m", "since": "?"}]
)
def test_exposure_that_cannot_be_asked_is_refused(query: dict[str, str], index: SqliteIndex) -> None:
    with pytest.raises((FormError, UsageError)):
        exposure.exposure(_visit(MemoryView(LOG), index, query))


def test_a_visit_takes_in_one_step_of_the_log_however_often_it_looks(index: SqliteIndex) -> None:
    visit = _visit(MemoryView(log_of([(EventName.MODEL_FROZEN, 1, {})] * 2100)), index)
    assert [visit.look(Query(), 1).reach for _ in range(2)] == [2048, 2048]


def test_what_left_a_workspace_is_in_the_gauge_too(index: SqliteIndex) -> None:
    acts: list[tuple[EventName, int, dict[str, Any]]] = [
        (EventName.ODOMETER_ADVANCED, 1, {"model": str(MODEL), "total": 300, "recent": 300}),
        (EventName.DROP_CHARGED, 1, {"model": str(MODEL), "total": 900, "bits": 600}),
    ]
    for log, spent in ((acts, 900), (acts[::-1], 300), (acts[1:], 900), (acts[:1], 300), ([], 0)):
        index.discard()
        visit = _visit(MemoryView(log_of(log)), index)
        visit.verified = cast("Any", SimpleNamespace(egress=SimpleNamespace(policies=[POLICY])))
        (gauge,) = cast("Any", gauges(visit))["models"]
        assert (gauge["spent"], gauge["index"]) == (spent, len(log) or None)
        assert len(readings(visit, MODEL)) == len(log)


def test_a_page_says_how_much_of_the_log_the_index_does_not_know(index: SqliteIndex) -> None:
    view = MemoryView(log_of([(EventName.MODEL_FROZEN, 1, {})] * 2100))
    assert [_visit(view, index).behind for _ in range(2)] == [2101 - 2048, 0]
    # What was thrown away in a visit is unknown to the rest of it.
    visit = _visit(view, index)
    visit.log.index.discard()
    assert visit.behind == 2101
