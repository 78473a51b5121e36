"""A console that is given a long log: pages wait for none of it, and its index gets to the end by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from strongroom.audit.adapters.index import SqliteIndex
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.errors import EditedEntryError
from strongroom.audit.reading.growth import STEP
from strongroom.audit.reading.query import Query
from strongroom.audit.reading.search import find_all
from strongroom.audit.reading.view import LogView
from strongroom.console.door import IDLE_SECONDS
from strongroom.console.growing import NEAR, GrowsAside
from strongroom.console.reading_on import LEAST_REST, ReadsOn
from strongroom.core.canonical import Json
from strongroom.core.errors import DeniedError
from strongroom.core.events import EventName
from support.log_views import MemoryView, log_of

LENGTH = STEP + NEAR + 2
"""What is left after one step is more than a visit takes in."""
LONGER = log_of([(EventName.MODEL_FROZEN, 1, {})] * (LENGTH + NEAR + 9))
LOG = LONGER[:LENGTH]
SECONDS = 30


class Watched(SqliteIndex):
    """The real index, which says who let it grow and holds the thread up where a test wants that."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.steps: list[str] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.fails: Exception | None = None

    def grow(self, view: LogView, head: Checkpoint) -> int:
        name = threading.current_thread().name
        self.steps.append(name)
        if name == "index":
            assert self.may_go_on.wait(SECONDS)
            if self.fails is not None:
                raise self.fails
        return super().grow(view, head)


@dataclass
class Lab:
    """The index beside the pages, with a clock of the test's."""

    index: Watched
    now: float = 0.0
    rests: list[float] = field(default_factory=list)
    noted: list[Mapping[str, Json]] = field(default_factory=list)
    view: MemoryView = field(default_factory=lambda: MemoryView(LOG))

    def __post_init__(self) -> None:
        beside = ReadsOn(
            "index",
            monotonic=lambda: self.now,
            sleep=self.rests.append,
            note=lambda _event, facts: self.noted.append(facts),
        )
        self.aside = GrowsAside(self.index, beside)
        self.head = self.view.head()

    def visit(self) -> int:
        return self.aside.grow(self.view, self.head)

    def quiet(self) -> None:
        """Wait until nothing is read any more."""
        for one in threading.enumerate():
            if one.name == "index":
                one.join(SECONDS)
                assert not one.is_alive()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with closing(Watched(tmp_path / "index")) as index:
        made = Lab(index)
        yield made
        index.may_go_on.set()
        made.quiet()


def test_the_index_of_a_long_log_gets_to_its_end_by_itself(lab: Lab) -> None:
    lab.index.may_go_on.clear()
    assert lab.visit() == STEP
    # Whoever comes meanwhile reads nothing and waits for nothing.
    assert [lab.visit(), lab.visit()] == [STEP, STEP]
    assert lab.index.steps.count("MainThread") == 1
    lab.index.may_go_on.set()
    lab.quiet()
    assert lab.visit() == LENGTH
    assert len(find_all(lab.index, Query(), LENGTH, LENGTH)) == LENGTH
    assert min(lab.rests) >= LEAST_REST
    assert not lab.noted


def test_who_did_something_sees_it_in_the_next_visit(lab: Lab) -> None:
    lab.visit()
    lab.quiet()
    steps = lab.index.steps.count("index")
    lab.view.log = LONGER[: LENGTH + NEAR]
    lab.head = lab.view.head()
    assert lab.visit() == LENGTH + NEAR
    assert lab.index.steps.count("index") == steps


def test_nobodys_connection_is_used_longer_than_their_session_lasts_without_a_visit(lab: Lab) -> None:
    lab.index.may_go_on.clear()
    lab.visit()
    lab.now += IDLE_SECONDS + 1
    lab.index.may_go_on.set()
    lab.quiet()
    assert lab.index.steps.count("index") <= 1
    assert lab.visit() < LENGTH
    lab.quiet()
    assert lab.visit() == LENGTH


@pytest.mark.parametrize("fault", [DeniedError("barred"), RuntimeError("the client has been closed")])
def test_an_end_of_one_session_stops_only_what_was_read_with_it(fault: Exception, lab: Lab) -> None:
    lab.index.fails = fault
    assert lab.visit() == STEP
    lab.quiet()
    assert [one["why"] for one in lab.noted] == ["denied" if isinstance(fault, DeniedError) else "RuntimeError"]
    lab.index.fails = None
    assert lab.visit() == STEP
    lab.quiet()
    assert lab.visit() == LENGTH


def test_a_thread_that_could_not_be_started_is_started_by_the_next_visit(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", full)
        with pytest.raises(RuntimeError, match="thread"):
            lab.visit()
    lab.visit()
    lab.quiet()
    assert lab.visit() == LENGTH


def test_a_log_that_was_edited_is_told_to_who_comes_next(lab: Lab) -> None:
    lab.visit()
    lab.quiet()
    lab.view.log = LONGER
    lab.head = lab.view.head()
    lab.view.shown[LENGTH + 5] = LONGER[3]
    lab.visit()
    lab.quiet()
    with pytest.raises(EditedEntryError):
        lab.visit()
    assert [one["why"] for one in lab.noted] == ["log-entry-edited"]


def test_an_index_that_is_thrown_away_is_built_anew_beside_the_pages(lab: Lab) -> None:
    lab.visit()
    lab.quiet()
    lab.aside.discard()
    assert lab.visit() == 0
    lab.quiet()
    assert lab.visit() == LENGTH
