"""Whom the statistics find unusual has one approver more asked of them: a few people, for a while, once each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.errors import DeniedError, MalformedError, StrongroomError, UnavailableError
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId
from strongroom.detection.detector import DAY, Alert, Detector
from strongroom.detection.engine import Engine, read_event
from strongroom.detection.rules import About, Certainty, Severity
from strongroom.detection.wiring import linear_regex, shipped_pack
from strongroom.responder import asking as asking_module
from strongroom.responder.acting import Outcome, Times
from strongroom.responder.adapters.record_file import RecordFile
from strongroom.responder.asking import Asker, Doubts
from strongroom.responder.deciding import Decider, Decision, Why
from strongroom.responder.drilling import DRILL
from strongroom.responder.limits import HOUR, FreezeLimits
from strongroom.responder.settings import MOST_AN_HOUR, MOST_HOURS, AskingSettings
from support.respondings import TestClock

pytestmark = pytest.mark.integration
RULE = AskingSettings().rules[0]
NOW = 20_000 * DAY
PEOPLE = frozenset({"dana", "eli", "finn", "gil", "hana", "ira"})


def alert(person: str, *, rule: str = RULE, at: int = NOW, named: str = "person") -> Alert:
    about = About(title="t", severity=Severity.LOW, certainty=Certainty.HINT, tags=(), playbook="")
    event = read_event({"event": "detector:person:unusual", named: person})
    return Alert(rule=rule, about=about, subject=f"{named}:{person}", at=at, event=event, group=())


def doubts(**changes: object) -> Doubts:
    return Doubts(AskingSettings(**changes), PEOPLE.__contains__)  # type: ignore[arg-type]


def test_a_person_whom_the_roster_knows_is_asked() -> None:
    assert doubts().person(alert("dana"), "log", NOW) == "dana"
    assert doubts().person(alert("dana", named="requester"), "log", NOW) == "dana"


@pytest.mark.parametrize("name", ["service-7", "fleet", "nobody", "", "../../x", "Dana", "\ud800"])
def test_services_strangers_and_noise_are_asked_nothing(name: str) -> None:
    assert doubts().person(alert(name), "log", NOW) is None


def test_other_rules_and_drills_ask_nothing() -> None:
    assert doubts().person(alert("dana", rule="person-unusual"), "log", NOW) is None
    assert doubts().person(alert("dana"), DRILL, NOW) is None
    assert doubts(rules=()).person(alert("dana"), "log", NOW) is None


@given(
    st.lists(st.tuples(st.sampled_from(sorted(PEOPLE)), st.integers(0, 2 * HOUR)), max_size=60),
    st.integers(1, 5),
    st.integers(1, 12),
)
def test_no_flood_asks_more_often_than_the_settings_say(
    alerts: list[tuple[str, int]], an_hour: int, hours: int
) -> None:
    made, now, asked = doubts(an_hour=an_hour, hours=hours), NOW, list[tuple[int, str]]()
    for person, later in alerts:
        now += later
        if made.person(alert(person, at=now), "log", now) is not None:
            asked.append((now, person))
    for at, person in asked:
        assert sum(at <= then < at + HOUR for then, _name in asked) <= an_hour
        assert sum(at <= then < at + hours * HOUR // 2 for then, name in asked if name == person) == 1


def test_somebody_who_stays_unusual_is_asked_again_before_it_ends() -> None:
    made, half = doubts(hours=72), 36 * HOUR
    assert made.person(alert("dana"), "log", NOW) is not None
    assert made.person(alert("dana"), "log", NOW + half - 1) is None
    assert made.person(alert("dana"), "log", NOW + half) is not None


def decider(made: Doubts) -> Decider:
    return Decider(
        Detector(Engine(shipped_pack(), regex=linear_regex), lambda _person: "team"),
        decoys={},
        models=(),
        acting=(),
        limits=FreezeLimits(6),
        asks=made.person,
    )


@pytest.mark.parametrize(("last", "asked"), [(10**9, False), (10**14, True)])
def test_a_day_far_from_all_others_asks_it_through_the_shipped_rules(last: int, *, asked: bool) -> None:
    made = decider(doubts())
    for day in range(21):
        event = {"event": "host:reading:counted", "person": "dana", "bytes": last if day == 20 else 10**9 + day}
        made.observe(read_event(event), "log", NOW + day * DAY)
    told = made.observe(read_event({"event": "gateway:usage:counted"}), "log", NOW + 21 * DAY)
    assert [one.asks for one in told if one.asks] == (["dana"] if asked else [])
    # It asks, and stops nothing.
    assert not [one for one in told if one.models]


@pytest.mark.parametrize(
    "settings",
    [
        {"rules": [], "hours": 0, "an_hour": 1},
        {"rules": [], "hours": MOST_HOURS + 1, "an_hour": 1},
        {"rules": [], "hours": 1, "an_hour": MOST_AN_HOUR + 1},
        {"rules": [7], "hours": 1, "an_hour": 1},
        {"rules": [], "hours": 1},
        {"rules": [], "hours": 1, "an_hour": 1, "more": 1},
    ],
)
def test_settings_of_another_form_are_refused(settings: Json) -> None:
    with pytest.raises(MalformedError):
        AskingSettings.read(Fields(settings, "asking"))


@dataclass
class Keeper:
    """A keeper that takes precautions."""

    error: StrongroomError | None = None
    took: list[tuple[str, int]] = field(default_factory=list)

    async def one_more_approver(self, person: str, seconds: int) -> None:
        if self.error is not None:
            raise self.error
        self.took.append((person, seconds))


def outcome(person: str) -> Outcome:
    decision = Decision(alert=alert(person), source="log", why=Why.NOT_SURE, asks=PersonId(person))
    return Outcome(decision, Times())


def run(folder: Path, keeper: Keeper, *, hears: str = "", until: Callable[[], bool], clock: TestClock) -> list[str]:
    """Let an asker go on until something holds; returns what held it up."""
    held_up: list[str] = []

    async def whole() -> None:
        record, settings = RecordFile(folder), AskingSettings()
        asker = Asker(keeper, record, settings, clock, lambda _what, error: held_up.append(error.reason))
        asker.recall(record.facts(), Doubts(settings, PEOPLE.__contains__))
        if hears:
            facts: dict[str, Json] = {"at": format_instant(clock.now()), "rule": RULE, "asks": hears}
            line = await record.append(facts)
            assert line is not None
            record.settle(line)
            asker.hear(outcome(hears))
        task = asyncio.create_task(asker.serve())
        ends = time.monotonic() + 10
        while not until():
            assert time.monotonic() < ends
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        record.close()

    asyncio.run(whole())
    return held_up


def asked(folder: Path) -> list[dict[str, Json]]:
    record = RecordFile(folder)
    try:
        return [dict(facts) for facts in record.facts() if "asked" in facts]
    finally:
        record.close()


def test_what_was_asked_and_what_came_of_it_is_in_the_record(tmp_path: Path) -> None:
    keeper, clock = Keeper(), TestClock()
    run(tmp_path, keeper, hears="dana", until=lambda: bool(keeper.took), clock=clock)
    assert keeper.took == [("dana", 72 * HOUR)]
    (line,) = asked(tmp_path)
    assert (line["asked"], line["rule"], line["hours"]) == ("dana", RULE, 72)
    assert "failed" not in line


def test_a_refusal_is_recorded_and_not_asked_again(tmp_path: Path) -> None:
    refusal = DeniedError("no", reason="precaution-subject-unknown")
    clock = TestClock()
    run(tmp_path, Keeper(error=refusal), hears="dana", until=lambda: bool(asked_lines(tmp_path)), clock=clock)
    (line,) = asked(tmp_path)
    assert line["failed"] == "precaution-subject-unknown"
    run(tmp_path, keeper := Keeper(), until=lambda: True, clock=clock)
    assert keeper.took == []


def asked_lines(folder: Path) -> list[bytes]:
    return [line for path in folder.glob("record-*") for line in path.read_bytes().split(b"\n") if b'"asked"' in line]


def test_who_comes_while_another_is_asked_waits_for_no_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking_module, "POLL_SECONDS", 3600.0)

    async def whole() -> list[str]:
        record, took, both = RecordFile(tmp_path), list[str](), asyncio.Event()

        class Busy:
            async def one_more_approver(self, person: str, seconds: int) -> None:
                assert seconds
                took.append(person)
                if person == "dana":
                    asker.hear(outcome("eli"))
                else:
                    both.set()

        asker = Asker(Busy(), record, AskingSettings(), TestClock(), lambda _what, _error: None)
        asker.hear(outcome("dana"))
        task = asyncio.create_task(asker.serve())
        try:
            async with asyncio.timeout(60):
                await both.wait()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            record.close()
        return took

    assert asyncio.run(whole()) == ["dana", "eli"]


def test_a_start_asks_what_the_last_run_was_about_to_ask_while_it_still_matters(tmp_path: Path) -> None:
    clock = TestClock()
    held_up: list[str] = []
    held_up += run(tmp_path, Keeper(error=UnavailableError("gone")), hears="dana", until=lambda: True, clock=clock)
    assert held_up == ["unavailable"]
    assert asked(tmp_path) == []
    run(tmp_path, keeper := Keeper(), until=lambda: bool(keeper.took), clock=clock)
    assert keeper.took == [("dana", 72 * HOUR)]
    # Done once, no start asks it again.
    run(tmp_path, again := Keeper(), until=lambda: True, clock=clock)
    assert again.took == []


def test_what_is_older_than_it_would_have_stood_is_left(tmp_path: Path) -> None:
    clock = TestClock()
    run(tmp_path, Keeper(error=UnavailableError("gone")), hears="dana", until=lambda: True, clock=clock)
    clock.at += 72 * HOUR
    run(tmp_path, keeper := Keeper(), until=lambda: True, clock=clock)
    assert keeper.took == []


def test_limits_outlive_a_restart() -> None:
    made, clock = doubts(an_hour=1), TestClock(NOW)
    record: Any = None
    asker = Asker(Keeper(), record, AskingSettings(an_hour=1), clock, lambda _what, _error: None)
    asker.recall([{"at": format_instant(NOW - 60), "asks": "dana", "rule": RULE}], made)
    assert made.person(alert("eli"), "log", NOW) is None
    assert made.person(alert("eli"), "log", NOW + HOUR) == "eli"


def test_what_was_asked_counts_once_after_a_restart() -> None:
    made, clock = doubts(an_hour=2), TestClock(NOW)
    record: Any = None
    asker = Asker(Keeper(), record, AskingSettings(an_hour=2), clock, lambda _what, _error: None)
    at = format_instant(NOW - 60)
    asker.recall([{"at": at, "asks": "dana", "rule": RULE}, {"at": at, "asked": "dana", "rule": RULE}], made)
    assert made.person(alert("dana"), "log", NOW) is None
    assert made.person(alert("eli"), "log", NOW) == "eli"
