"""The log as the responder follows it: each entry is new once, whatever crashes; another or a shorter log is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.access.request import LogHead
from strongroom.audit.entries import read_entry
from strongroom.audit.errors import ForkError, MissingRowsError
from strongroom.audit.merkle import leaf_hash, tree_root
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import MalformedError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.detection.detector import Detector
from strongroom.detection.engine import Engine, read_event
from strongroom.detection.wiring import linear_regex, shipped_pack
from strongroom.responder.acting import Responder, Stopped
from strongroom.responder.adapters import log_tail
from strongroom.responder.adapters.log_tail import LogTail
from strongroom.responder.deciding import Decider
from strongroom.responder.decoys import DecoyModel, Decoys
from strongroom.responder.health import Health
from strongroom.responder.limits import FreezeLimits
from strongroom.responder.record import Line
from strongroom.responder.sensing.wiring import Senses, follow
from strongroom.responder.settings import ResponderSettings
from strongroom.responder.tailing import LOG, decoy_events, entry_event, told_before
from support.clocks import FixedClock
from support.log_views import Act, MemoryView, log_of
from support.logs import AT, KEEPER, some_entries

LURE, MODEL = ModelId("borealis"), ModelId("atlas-7b")
ASKED: Act = (EventName.REQUEST_CREATED, 1, {"model": LURE, "requester": "dana"})
SAID: Act = (EventName.INCIDENT_RECORDED, 1, {"incident": f"inc-{'0' * 32}", "entries": 7, "phase": "contained"})
OTHER: Act = (EventName.REQUEST_CREATED, 1, {"model": MODEL, "requester": "dana"})


def drained(tail: LogTail) -> list[int]:
    """Return the indexes of the entries that are new, and take them."""
    found: list[int] = []
    while (step := tail.step()) is not None:
        found += [index for index, _entry in step.entries if index >= tail.kept]
        tail.taken(step)
    return found


def test_the_first_time_it_begins_at_the_end_and_then_goes_on_from_where_it_was(tmp_path: Path) -> None:
    log = some_entries(5)
    view, place = MemoryView(log, keeper_key=KEEPER.public_key), tmp_path / "place"
    tail = LogTail(view, place)
    tail.start()
    assert drained(tail) == []
    log += some_entries(9)[5:]
    assert drained(tail) == [5, 6, 7, 8]
    assert drained(tail) == []
    root = tree_root(leaf_hash(entry) for entry in log)
    assert tail.head == LogHead(size=9, root=Digest(DigestAlgorithm.SHA256, root))
    log += some_entries(11)[9:]
    again = LogTail(view, place)
    assert again.kept == 9
    again.start()
    assert drained(again) == [9, 10]


def test_what_was_not_kept_comes_again(tmp_path: Path) -> None:
    log = some_entries(3)
    view = MemoryView(log)
    tail = LogTail(view, tmp_path / "place")
    tail.start()
    drained(tail)
    log += some_entries(6)[3:]
    assert tail.step() is not None
    assert tail.step() == tail.step()
    again = LogTail(view, tmp_path / "place")
    again.start()
    assert drained(again) == [3, 4, 5]


def test_before_the_place_only_so_much_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_tail, "REMEMBERED", 4)
    log = some_entries(10)
    first = LogTail(MemoryView(log), tmp_path / "place")
    first.start()
    step = first.step()
    assert step is not None
    assert [index for index, _entry in step.entries] == [6, 7, 8, 9]


def test_a_shorter_or_another_log_is_told(tmp_path: Path) -> None:
    place = tmp_path / "place"
    LogTail(MemoryView(some_entries(8)), place).start()
    with pytest.raises(MissingRowsError):
        LogTail(MemoryView(some_entries(7)), place).start()
    with pytest.raises(ForkError):
        LogTail(MemoryView(log_of([OTHER] * 9)), place).start()


def test_a_place_that_can_t_be_read_or_written_is_no_new_beginning(tmp_path: Path) -> None:
    (tmp_path / "place").write_bytes(b"nonsense")
    with pytest.raises(MalformedError):
        LogTail(MemoryView(some_entries(3)), tmp_path / "place")
    with pytest.raises(UnavailableError):
        LogTail(MemoryView(some_entries(3)), tmp_path / "gone" / "place").start()


def test_an_entry_s_facts_can_t_take_an_event_s_own_fields() -> None:
    event = entry_event(1, read_entry(log_of([ASKED])[1]))
    assert (event["event"], event["source"], event["index"]) == ("access:request:created", LOG, 1)
    (told,) = decoy_events(event, {LURE})
    assert (told["decoy_model"], told["person"], told["index"]) == (LURE, "dana", 1)
    assert decoy_events(event, {MODEL}) == ()
    read_event(event)


def test_the_record_says_what_was_told() -> None:
    lines: list[Mapping[str, Json]] = [
        {"rule": "a", "event": {"index": 4}},
        {"rule": "b", "event": {"index": 9}},
        {"rule": "c", "event": {"path": "/x"}},
        {"again": True},
        {"rule": "d", "event": "text"},
    ]
    assert told_before(lines, 5) == {("b", 9)}


class Kept:
    """A record in memory."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Json]] = []

    async def append(self, facts: dict[str, Json]) -> Line:
        await asyncio.sleep(0)
        self.lines.append(facts)
        return Line(serial=len(self.lines) - 1, digest=Digest.of(b"line"))

    def settle(self, line: Line) -> int:
        return line.serial + 1


class Frozen:
    """Freezes nothing, and says that it did."""

    def __init__(self) -> None:
        self.models: list[ModelId] = []

    async def stop(self, model: ModelId) -> Stopped:
        self.models.append(model)
        return Stopped(request=Digest.of(b"r"), index=len(self.models))

    async def stored(self, _stopped: Stopped) -> None:
        return


SETTINGS = ResponderSettings(
    host="w1",
    models=(MODEL,),
    watched=(),
    readers=(),
    gates=(),
    sensors=(),
    acting=(LOG,),
    freezes_an_hour=9,
)


class Watch:
    """One run of a responder over a log in memory."""

    def __init__(self, view: MemoryView, place: Path, before: Kept) -> None:
        self.record, self.stops = Kept(), Frozen()
        self.tail = LogTail(view, place)
        decider = Decider(
            Detector(Engine(shipped_pack(), regex=linear_regex), lambda _person: ""),
            decoys={LURE: MODEL},
            models=(MODEL,),
            acting=(LOG,),
            limits=FreezeLimits(9),
            told=told_before(before.lines, self.tail.kept),
        )
        responder = Responder(
            decider, self.stops, {}, self.record, clock=FixedClock(AT + 9), ticks=lambda: 1, told=lambda _outcome: None
        )
        lures = (DecoyModel(name=LURE, model=MODEL, planted=AT),)
        decoys = Decoys(genesis=Digest.of(b"g"), models=lures)
        self.senses = Senses(SETTINGS, decoys, decider, responder, Health({LOG: 30.0}, 0.0), frozenset())

    async def run(self, seconds: float) -> None:
        following = asyncio.create_task(follow(self.senses, self.tail, asyncio.Event()))
        await asyncio.sleep(seconds)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    def alerts(self, rule: str) -> list[object]:
        events = [line["event"] for line in self.record.lines if line.get("rule") == rule and "event" in line]
        return [event["index"] if "index" in event else event["cause"] for event in events if isinstance(event, dict)]


@pytest.mark.integration  # an event loop holds a socket pair of its own
def test_an_alert_is_told_once_whatever_crashes(tmp_path: Path) -> None:
    async def story() -> None:
        log, place, lure = log_of([OTHER]), tmp_path / "place", "decoy-model-asked-for"
        first = Watch(MemoryView(log), place, Kept())
        await first.run(0.3)
        log += log_of([OTHER, ASKED])[2:]
        before = place.read_bytes()
        second = Watch(MemoryView(log), place, Kept())
        await second.run(0.3)
        assert second.alerts(lure) == [2]
        assert second.stops.models == [MODEL]
        # A restart tells nothing again; nor does one after a crash that came before the place was kept.
        for kept in (place.read_bytes(), before):
            place.write_bytes(kept)
            third = Watch(MemoryView(log), place, second.record)
            await third.run(0.3)
            assert third.alerts(lure) == []
            assert third.stops.models == []
        # Without the record it would be told: it is the record that keeps it from that.
        place.write_bytes(before)
        fourth = Watch(MemoryView(log), place, Kept())
        await fourth.run(0.3)
        assert fourth.alerts(lure) == [2]

    asyncio.run(story())


@pytest.mark.integration  # an event loop holds a socket pair of its own
def test_what_the_log_says_of_incidents_is_heard_again_at_each_start(tmp_path: Path) -> None:
    async def story() -> None:
        log, place = log_of([OTHER, SAID]), tmp_path / "place"
        for _ in range(2):
            watch, heard = Watch(MemoryView(log), place, Kept()), list[Mapping[str, object]]()
            watch.senses = replace(watch.senses, noted=heard.append)
            await watch.run(0.3)
            assert [entry["entries"] for entry in heard] == [7]

    asyncio.run(story())


@pytest.mark.integration  # an event loop holds a socket pair of its own
def test_a_log_behind_what_was_seen_is_an_alert(tmp_path: Path) -> None:
    async def story() -> None:
        log, place = log_of([OTHER, OTHER]), tmp_path / "place"
        await Watch(MemoryView(log), place, Kept()).run(0.3)
        behind = Watch(MemoryView(log[:2]), place, Kept())
        await behind.run(0.3)
        assert behind.alerts("log-broken") == ["log-rows-missing"]
        # There is no head to name in a heartbeat, so none is sent.
        assert behind.tail.head.size == 0

    asyncio.run(story())
