"""The console's list of deliveries, page by page: each of them stands there once, as the whole log has it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit.adapters.index import SqliteIndex
from strongroom.audit.entries import read_entry
from strongroom.console.deliveries import fold
from strongroom.console.errors import FormError
from strongroom.console.growing import OneStep
from strongroom.console.log_reader import LogReader, Opened
from strongroom.console.routes import intake
from strongroom.console.visits import Visit
from strongroom.core.canonical import Json
from strongroom.core.events import EventName
from strongroom.intake.states import ORDER
from support.log_views import Act, MemoryView, log_of
from support.logs import AT

Moves = list[tuple[int, bool]]


def _acts(moves: Moves) -> list[Act]:
    """Return what the log says where deliveries, by number, take a step or are spoken of, in that order."""
    steps: dict[int, int] = {}
    acts: list[Act] = []
    for number, spoken in moves:
        told: dict[str, Any] = {"delivery": f"{number:032x}"}
        at = steps.get(number, 0)
        if at and (spoken or at == len(ORDER)):
            acts.append((EventName.INTAKE_REVIEWED, 1, told | {"reviewer": "erin", "outcome": "accept"}))
        else:
            steps[number] = at + 1
            acts.append((EventName.INTAKE_RECORDED, 1, told | {"state": ORDER[at].value, "person": "dana"}))
        acts += [(EventName.MODEL_FROZEN, 1, {})] * (number % 3)
    return acts


def _page(view: MemoryView, index: SqliteIndex, query: dict[str, str], **path: str) -> Visit:
    return Visit(
        me=cast("Any", SimpleNamespace(person="dana", drafts={})),
        origin="https://console.example",
        path=path,
        query=query,
        now=AT + 100,
        random_bytes=bytes,
        reader=LogReader(index),
        verified=cast("Any", SimpleNamespace(roster=None)),
        opened=Opened(view, view.head(), OneStep(index)),
    )


def _walked(view: MemoryView, index: SqliteIndex) -> list[Json]:
    query: dict[str, str] = {}
    rows: list[Json] = []
    while True:
        told = cast("Any", intake.intake(_page(view, index, query)).data)
        assert len(told["deliveries"]) <= intake.LISTED
        rows += told["deliveries"]
        if told["older"] is None:
            return rows
        query = {"before": str(told["older"])}


def _check(moves: Moves, folder: Path) -> None:
    log = log_of(_acts(moves))
    view = MemoryView(log)
    entries = [(index, read_entry(data)) for index, data in enumerate(log)]
    whole = fold((index, entry) for index, entry in entries if entry.event.value.startswith("intake:"))
    expected = sorted(whole.values(), key=lambda one: -one.newest)
    with closing(SqliteIndex(folder)) as index:
        rows = cast("Any", _walked(view, index))
        assert [(one["delivery"], one["index"]) for one in rows] == [
            (one.delivery, one.steps[-1].index) for one in expected
        ]
        for one in expected[-1:]:
            # However old it is, its own page has all of it.
            told = cast("Any", intake.delivery(_page(view, index, {}, delivery=one.delivery)).data)
            assert [step["index"] for step in told["steps"]] == [step.index for step in one.steps]
            assert len(told["reviews"]) == len(one.reviews)


@given(moves=st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=60))
def test_each_delivery_is_listed_once_whatever_came_between(
    moves: Moves, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _check(moves, tmp_path_factory.mktemp("index") / "index")


def test_hundreds_of_deliveries_take_pages_and_none_is_left_out(tmp_path: Path) -> None:
    # First all begin, then all go on: the newest entries tell of no beginning.
    _check(
        [*((number, False) for number in range(150)), *((number, False) for number in range(0, 150, 2))], tmp_path / "i"
    )


@pytest.mark.parametrize("before", ["-1", "x", "9" * 99])
def test_a_place_that_is_no_number_is_refused(before: str, tmp_path: Path) -> None:
    with closing(SqliteIndex(tmp_path / "index")) as index, pytest.raises(FormError):
        intake.intake(_page(MemoryView(log_of([])), index, {"before": before}))
