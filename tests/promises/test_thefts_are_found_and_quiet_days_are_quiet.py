"""Thirty days of a simulated fleet: nothing acts by itself, hardly anybody is woken; twelve thefts are found, each."""

from __future__ import annotations

from functools import cache
from typing import Final

import pytest

from simulators.fleet import BEGIN, DAY, THEFTS, Happening, Theft
from strongroom.detection.detector import Alert
from strongroom.detection.rules import Certainty
from support.fleet_watch import DAYS, PLANTED, doubted, found_by, stolen_by, told

SEEDS: Final = (7, 11)


@cache
def quiet(seed: int) -> tuple[Alert, ...]:
    return tuple(told(seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_acts_by_itself_in_ordinary_days(seed: int) -> None:
    assert not [alert.rule for alert in quiet(seed) if alert.about.certainty is Certainty.SURE]


@pytest.mark.parametrize("seed", SEEDS)
def test_somebody_is_woken_at_most_once_a_day_on_average(seed: int) -> None:
    woken = [alert for alert in quiet(seed) if alert.about.certainty is not Certainty.HINT]
    assert len(woken) <= DAYS
    # The simulator isn't so tame that nothing could alarm.
    assert woken


@pytest.mark.parametrize("seed", SEEDS)
def test_few_requests_meet_one_approver_more_in_ordinary_days(seed: int) -> None:
    doubts = doubted(seed, quiet(seed))
    assert 0 < doubts.asked <= DAYS / 2
    assert doubts.met <= doubts.requests / 20


@pytest.mark.parametrize("theft", THEFTS, ids=lambda theft: str(theft.name))
def test_each_theft_is_found(theft: Theft) -> None:
    found = [a for a in found_by(theft, SEEDS[0], quiet(SEEDS[0])) if a.about.certainty is not Certainty.HINT]
    assert found, theft.told
    stolen = stolen_by(theft, min(alert.at for alert in found))
    # Found while it goes on, not when all is over; a copy that lay there was complete before anybody looked.
    whole = max(happening.stolen for happening in theft.happenings(PLANTED))
    assert stolen < whole or theft.name in {"old-backup", "decoy", "spraying"}


def test_a_theft_that_no_rule_looks_for_is_missed() -> None:
    silent = Theft(
        "none", "", frozenset({"decoy-shard-opened"}), lambda day: [Happening(BEGIN + day * DAY, {"event": "e"})]
    )
    with pytest.raises(AssertionError):
        test_each_theft_is_found(silent)
