"""What is usual for a person, their peers and the whole fleet, and how far a day is from it.

Simple tests on each person do better than general anomaly detectors on this kind of data, and are still weak: a large
grab by somebody whose days vary much is missed two times in three. So they only rank and raise risk; hard caps, egress
budgets and decoys do the stopping. Nothing here may freeze anything.

An attacker may try to move what is usual. So the reference of the slow test is frozen, no day counts for more than a
few deviations, and a reference that itself moved far from the first is told.
"""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import log1p
from statistics import fmean, median, stdev
from typing import Final

FLEET: Final = "*"
"""Stands for everybody together."""
LEARNING_DAYS: Final = 14
"""Active days before anything is told of a person: a newcomer's every step is new."""
WINDOW_DAYS: Final = 60
REFERENCE_DAYS: Final = 30
MEMORY_DAYS: Final = 90
"""After so many days without it, a thing that somebody used is new again."""
MOST_PEOPLE: Final = 20_000
MOST_THINGS: Final = 1_000
MOST_MEASURES: Final = 32
_SPREAD_FLOOR: Final = 0.25
"""Of log volumes: less spread than this is chance, and would make every day an outlier."""
_Z_ALARM: Final = 5.0
_CUSUM_SLACK: Final = 0.5
_CUSUM_CLIP: Final = 3.0
_CUSUM_ALARM: Final = 8.0
_DRIFT_ALARM: Final = log1p(3.0)
"""A reference four times the first one."""
_RARE_SHARE: Final = 0.05
_LEAST_PEERS: Final = 5


class Statistic(StrEnum):
    """Which test found something."""

    FIRST_SEEN = "first-seen"
    RARE_AMONG_PEERS = "rare-peer"
    ROBUST_Z = "robust-z"
    CUSUM = "cusum"
    SLOW_DRIFT = "slow-drift"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusual:
    """One finding: what :mod:`~strongroom.detection.vocabulary` calls ``detector:person:unusual``."""

    person: str
    test: Statistic
    measure: str
    score: int
    """Tenths of what the test counts in: deviations, or for things used, the share of peers that used them too."""


@dataclass(slots=True)
class _Volume:
    """One measure of one person: recent days, the frozen reference, and the slow test's sum."""

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW_DAYS))
    reference: tuple[float, float] | None = None
    first: float | None = None
    since_reference: int = 0
    total: float = 0.0

    def add(self, volume: int) -> list[tuple[Statistic, float]]:
        """Judge a day by the days before it, then let it count."""
        value, found = log1p(max(0, volume)), list[tuple[Statistic, float]]()
        if len(self.recent) >= LEARNING_DAYS:
            z = self._z(value)
            if z >= _Z_ALARM:
                found.append((Statistic.ROBUST_Z, z))
        if self.reference is not None:
            mean, spread = self.reference
            step = min(_CUSUM_CLIP, (value - mean) / spread - _CUSUM_SLACK)
            self.total = max(0.0, self.total + step)
            if self.total >= _CUSUM_ALARM:
                found.append((Statistic.CUSUM, self.total))
                self.total = 0.0
        drift = self._remember(value)
        return found if drift is None else [*found, (Statistic.SLOW_DRIFT, drift)]

    def _z(self, value: float) -> float:
        middle = median(self.recent)
        spread = median(abs(each - middle) for each in self.recent) / 0.6745
        return (value - middle) / max(spread, _SPREAD_FLOOR)

    def _remember(self, value: float) -> float | None:
        """Keep the day, no further out than a few deviations; renew the reference when its time has come."""
        if len(self.recent) >= LEARNING_DAYS:
            middle = median(self.recent)
            spread = max(median(abs(each - middle) for each in self.recent) / 0.6745, _SPREAD_FLOOR)
            value = min(value, middle + _CUSUM_CLIP * spread)
        self.recent.append(value)
        self.since_reference += 1
        due = REFERENCE_DAYS if self.reference is None else MEMORY_DAYS
        if self.since_reference < due or len(self.recent) < REFERENCE_DAYS or self.total > _CUSUM_ALARM / 2:
            return None
        days = [*self.recent][-REFERENCE_DAYS:]
        mean = fmean(days)
        self.reference, self.since_reference = (mean, max(stdev(days), _SPREAD_FLOOR)), 0
        if self.first is None:
            self.first = mean
        drift = mean - self.first
        return drift if drift >= _DRIFT_ALARM else None


@dataclass(slots=True)
class _Person:
    team: str
    days: int = 0
    last_day: int = -1
    things: OrderedDict[str, int] = field(default_factory=OrderedDict)
    """What was used, and on which day last; the longest unused first."""
    volumes: dict[str, _Volume] = field(default_factory=dict)


class Baselines:
    """What is usual, in bounded memory. Days are whole numbers that don't fall (days since any beginning)."""

    def __init__(self) -> None:
        self._people: OrderedDict[str, _Person] = OrderedDict()
        self._teams: dict[str, list[str]] = {}
        self.forgotten = 0
        """People and things that had to be forgotten for want of room. It never falls."""

    def used(self, person: str, team: str, thing: str, day: int) -> tuple[Unusual, ...]:
        """Say that a person used a thing (a model, a host, an address) on a day; ``thing`` is of the form kind:name."""
        known = self._person(person, team, day)
        before = known.things.pop(thing, None)
        known.things[thing] = day
        if len(known.things) > MOST_THINGS:
            known.things.popitem(last=False)
            self.forgotten += 1
        if known.days < LEARNING_DAYS or (before is not None and day - before <= MEMORY_DAYS):
            return ()
        kind, found = thing.partition(":")[0], list[Unusual]()
        found.append(Unusual(person=person, test=Statistic.FIRST_SEEN, measure=kind, score=10))
        peers = [self._people[name] for name in self._teams.get(team, ()) if name != person]
        sharing = sum(day - peer.things[thing] <= MEMORY_DAYS for peer in peers if thing in peer.things)
        if len(peers) >= _LEAST_PEERS and sharing < _RARE_SHARE * len(peers):
            score = 10 * sharing // len(peers)
            found.append(Unusual(person=person, test=Statistic.RARE_AMONG_PEERS, measure=kind, score=score))
        return tuple(found)

    def ended(self, day: int, volumes: Mapping[str, tuple[str, Mapping[str, int]]]) -> tuple[Unusual, ...]:
        """Close a day. ``volumes``: person -> (team, measure -> how much); who isn't in it wasn't active.

        Everybody together counts as the person ``*``.
        """
        found, fleet = list[Unusual](), dict[str, int]()
        for person, (team, measures) in volumes.items():
            for measure, volume in measures.items():
                fleet[measure] = fleet.get(measure, 0) + volume
            found += self._day(person, team, measures, day)
        return (*found, *self._day(FLEET, "", fleet, day))

    def _day(self, person: str, team: str, measures: Mapping[str, int], day: int) -> list[Unusual]:
        known, found = self._person(person, team, day), list[Unusual]()
        for measure, volume in sorted(measures.items())[:MOST_MEASURES]:
            if measure not in known.volumes and len(known.volumes) >= MOST_MEASURES:
                self.forgotten += 1
                continue
            for test, score in known.volumes.setdefault(measure, _Volume()).add(volume):
                found.append(Unusual(person=person, test=test, measure=measure, score=round(10 * score)))
        return found

    def _person(self, name: str, team: str, day: int) -> _Person:
        known = self._people.get(name)
        if known is None:
            if len(self._people) >= MOST_PEOPLE:
                gone, left = self._people.popitem(last=False)
                self._teams[left.team].remove(gone)
                self.forgotten += 1
            known = self._people[name] = _Person(team)
            insort(self._teams.setdefault(team, []), name)
        elif known.team != team:
            self._teams[known.team].remove(name)
            insort(self._teams.setdefault(team, []), name)
            known.team = team
        self._people.move_to_end(name)
        if day > known.last_day:
            known.days += 1
            known.last_day = day
        return known
