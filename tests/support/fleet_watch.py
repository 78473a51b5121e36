"""The simulated fleet, watched by the shipped rules: what is told in thirty days after its learning."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from simulators.fleet import BEGIN, DAY, PEOPLE, Happening, Theft, ordinary, team_of
from strongroom.detection.detector import Alert, Detector
from strongroom.detection.engine import Engine
from strongroom.detection.wiring import linear_regex, shipped_pack
from strongroom.responder.asking import Doubts
from strongroom.responder.settings import AskingSettings

LEARNING: Final = 45
DAYS: Final = 30
PLANTED: Final = LEARNING + 3
"""The day on which a theft begins."""


def at(happening: Happening) -> int:
    """Return when something happened."""
    return happening.at


def detector() -> Detector:
    """Return one that knows nothing yet."""
    return Detector(Engine(shipped_pack(), regex=linear_regex), team_of)


def told(seed: int, extra: Iterable[Happening] = ()) -> list[Alert]:
    """Return the alerts of the thirty days; ``extra`` is planted among the ordinary ones."""
    watcher = detector()
    story = heapq.merge(ordinary(seed, LEARNING + DAYS), sorted(extra, key=at), key=at)
    found = [alert for happening in story for alert in watcher.observe(happening.event, happening.at)]
    return [alert for alert in found if alert.at >= BEGIN + LEARNING * DAY]


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubted:
    """What asking one approver more came to: how often it was asked, and how many requests met it."""

    asked: int
    people: int
    requests: int
    met: int


def doubted(seed: int, quiet: Iterable[Alert]) -> Doubted:
    """Return what the responder's default settings ask of people in the thirty days."""
    settings = AskingSettings()
    doubts = Doubts(settings, PEOPLE.__contains__)
    asked = [(alert.at, person) for alert in quiet if (person := doubts.person(alert, "log", alert.at)) is not None]
    requests = [
        (one.at, one.event["requester"])
        for one in ordinary(seed, LEARNING + DAYS)
        if one.event["event"] == "access:request:created" and one.at >= BEGIN + LEARNING * DAY
    ]
    met = [
        when
        for when, who in requests
        if any(who == person and since <= when < since + settings.seconds for since, person in asked)
    ]
    people = {person for _since, person in asked}
    return Doubted(asked=len(asked), people=len(people), requests=len(requests), met=len(met))


def found_by(theft: Theft, seed: int, quiet: Iterable[Alert]) -> list[Alert]:
    """Return the alerts that tell of a planted theft: by its rules, and not told in the quiet days."""
    usual = {(alert.rule, alert.subject, alert.at) for alert in quiet}
    return [
        alert
        for alert in told(seed, theft.happenings(PLANTED))
        if alert.rule in theft.found_by and (alert.rule, alert.subject, alert.at) not in usual
    ]


def stolen_by(theft: Theft, when: int) -> int:
    """Return how many bytes had left by a time, as the story says."""
    return max((happening.stolen for happening in theft.happenings(PLANTED) if happening.at <= when), default=0)
