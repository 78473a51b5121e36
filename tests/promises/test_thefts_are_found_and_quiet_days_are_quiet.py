"""Thirty days of a simulated fleet: nothing acts by itself, hardly anybody is woken; twelve thefts are found, each."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from functools import cache
from typing import Final

import pytest

from simulators.fleet import BEGIN, DAY, PEOPLE, THEFTS, Event, Happening, Theft, ordinary, team_of
from strongroom.detection.detector import Alert, Detector
from strongroom.detection.engine import Engine
from strongroom.detection.rules import Certainty
from strongroom.detection.wiring import linear_regex, shipped_pack

LEARNING: Final = 45
DAYS: Final = 30
SEEDS: Final = (7, 11)


def alerts(seed: int, extra: Iterable[Happening] = ()) -> list[Alert]:
    detector = Detector(Engine(shipped_pack(), regex=linear_regex), team_of)
    story = heapq.merge(ordinary(seed, LEARNING + DAYS), sorted(extra, key=at), key=at)
    found = [alert for happening in story for alert in detector.observe(happening.event, happening.at)]
    return [alert for alert in found if alert.at >= BEGIN + LEARNING * DAY]


def at(happening: Happening) -> int:
    return happening.at


@cache
def quiet(seed: int) -> tuple[Alert, ...]:
    return tuple(alerts(seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_acts_by_itself_in_ordinary_days(seed: int) -> None:
    assert not [alert.rule for alert in quiet(seed) if alert.about.certainty is Certainty.SURE]


@pytest.mark.parametrize("seed", SEEDS)
def test_somebody_is_woken_at_most_once_a_day_on_average(seed: int) -> None:
    woken = [alert for alert in quiet(seed) if alert.about.certainty is not Certainty.HINT]
    assert len(woken) <= DAYS
    # The simulator isn't so tame that nothing could alarm.
    assert woken


@pytest.mark.parametrize("theft", THEFTS, ids=lambda theft: str(theft.name))
def test_each_theft_is_found(theft: Theft) -> None:
    happenings = theft.happenings(LEARNING + 3)
    usual = {(alert.rule, alert.subject, alert.at) for alert in quiet(SEEDS[0])}
    found = [
        alert
        for alert in alerts(SEEDS[0], happenings)
        if alert.rule in theft.found_by
        and alert.about.certainty is not Certainty.HINT
        and (alert.rule, alert.subject, alert.at) not in usual
    ]
    assert found, theft.told
    first = min(alert.at for alert in found)
    stolen = max((happening.stolen for happening in happenings if happening.at <= first), default=0)
    # Found while it goes on, not when all is over; a copy that lay there was complete before anybody looked.
    assert stolen < max(happening.stolen for happening in happenings) or theft.name in {
        "old-backup",
        "decoy",
        "spraying",
    }


def test_a_theft_that_no_rule_looks_for_is_missed() -> None:
    silent = Theft(
        "none", "", frozenset({"decoy-shard-opened"}), lambda day: [Happening(BEGIN + day * DAY, {"event": "e"})]
    )
    with pytest.raises(AssertionError):
        test_each_theft_is_found(silent)


def test_points_fade_and_only_ask_for_another_approver() -> None:
    detector = Detector(Engine(shipped_pack(), regex=linear_regex), team_of)
    person = PEOPLE[0]
    for hour in range(4):
        event: Event = {
            "event": "detector:person:unusual",
            "person": person,
            "test": "cusum",
            "score": 90,
            "measure": "bytes",
        }
        detector.observe({**event, "test": f"cusum-{hour}"}, BEGIN + hour * 7200)
    subject = f"person:{person}"
    assert detector.risk.needs_another_approver(subject, BEGIN + 8 * 3600)
    assert not detector.risk.needs_another_approver(subject, BEGIN + 40 * DAY)
