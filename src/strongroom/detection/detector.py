"""The detector: events in, alerts out. The engine and what is usual, joined.

It keeps days by its own time. At the end of each it asks the baselines, whose findings become events like all others,
so that rules join them with what else happened. The same alert about the same subject is told once an hour, unless it
is sure: whoever acts on it must not depend on what was told before. Where an event names an object, say a file, each is
told: a harmless one that is touched first must not hide the next. So many are told an hour; the others are counted, and
the count is told when the hour is over.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.detection.baselines import FLEET, Baselines, Unusual
from strongroom.detection.engine import Engine, Hit
from strongroom.detection.matching import Value, View, numbers_of
from strongroom.detection.pack import ANCHOR
from strongroom.detection.rules import About, Certainty

DAY: Final = 86400
AGAIN_AFTER: Final = 3600
MOST_REMEMBERED: Final = 50_000
MOST_OBJECTS: Final = 16
"""Objects that one rule tells of one subject by one sensor's word within an hour."""
MAX_DRILL: Final = 80
"""Characters of a drill's digest."""
_SUBJECTS: Final = (
    "sensor",
    "person",
    "requester",
    "principal",
    "client",
    "model",
    "host",
    "vendor",
    "site",
    "component",
)
_OBJECTS: Final[Mapping[str, str]] = {
    "assessor:measure:lost": "measure",
    "detector:state:evicted": "rule",
    "host:decoy:gone": "path",
    "host:device:added": "device",
    "host:file:changed": "path",
    "host:file:opened": "path",
    "host:library:loaded": "library",
    "host:process:started": "exe",
    "register:copy:troubled": "copy",
    "scanner:copy:found": "path",
}
"""Event -> the field that says what it is about, beside its subject."""
_USED: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "release:data-key:released": ("requester", ("model",)),
    "release:data-key:exported": ("requester", ("model",)),
    "host:login:opened": ("person", ("host",)),
    "identity:login:opened": ("person", ("client",)),
}
"""Event -> who, and the fields that name what they used."""
_VOLUMES: Final[Mapping[str, tuple[str, str, str]]] = {
    "gateway:usage:counted": ("principal", "tokens", "tokens"),
    "host:reading:counted": ("person", "bytes", "bytes"),
    "release:data-key:released": ("requester", "releases", ""),
}
"""Event -> who, the measure, and the field that says how much; none: each counts one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Somebody should know, or something should be done: which rule, about whom, because of which event."""

    rule: str
    about: About
    subject: str
    """``person:dana``, ``host:w1``: what the alert is about; empty where nothing says."""
    at: Instant
    event: View
    group: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Hour:
    """What one rule told of one subject's objects since ``began``."""

    began: Instant
    told: int = 0
    left_out: int = 0
    """Events about further objects."""


class Detector:
    """Everything that detection remembers.

    :param team_of: the team of a person or principal, as the roster says; peers are compared within it.
    """

    def __init__(self, engine: Engine, team_of: Callable[[str], str]) -> None:
        self.engine = engine
        self.baselines = Baselines()
        self._team_of = team_of
        self._day = -1
        self._volumes: dict[str, dict[str, int]] = {}
        self._told: OrderedDict[tuple[str, ...], Instant] = OrderedDict()
        self._hours: OrderedDict[tuple[str, ...], _Hour] = OrderedDict()
        """In the order in which they began."""
        self._forgotten = 0

    def anew(self) -> Detector:
        """Return one with the same rules that remembers nothing."""
        return Detector(self.engine.anew(), self._team_of)

    def observe(self, event: View, now: Instant) -> tuple[Alert, ...]:
        """Return what an event, and what ended with it, gives reason to tell.

        :param event: from :func:`strongroom.detection.engine.read_event`.
        :param now: the detector's own time in seconds; it must not fall.
        """
        alerts = [*self._new_day(now // DAY, now), *self._left_out(now)]
        for unusual in self._used(event, now // DAY):
            alerts += self._observed(_unusual_event(unusual), now)
        self._count(event)
        alerts += self._observed(event, now)
        forgotten = self.engine.forgotten + self.baselines.forgotten
        if forgotten > self._forgotten:
            count, self._forgotten = forgotten - self._forgotten, forgotten
            alerts += self._observed({ANCHOR: "detector:state:evicted", "count": count}, now)
        return tuple(alerts)

    def _observed(self, event: View, now: Instant) -> Iterator[Alert]:
        for hit in self.engine.observe(event, now):
            subject = _subject(hit, event)
            if hit.about.certainty is Certainty.SURE or self._is_news(hit, subject, event, now):
                yield Alert(rule=hit.rule, about=hit.about, subject=subject, at=now, event=event, group=hit.group)

    def _is_news(self, hit: Hit, subject: str, event: View, now: Instant) -> bool:
        # One sensor's word, or a drill's, doesn't keep another's from being told.
        about = (hit.rule, subject, str(event.get("source", "")), str(event.get("drill", ""))[:MAX_DRILL])
        thing = "" if hit.group else _object(event)
        before = self._told.get((*about, thing))
        if before is not None and now - before < AGAIN_AFTER:
            return False
        if thing and not self._has_room(about, now):
            return False
        self._told[*about, thing] = now
        self._told.move_to_end((*about, thing))
        if len(self._told) > MOST_REMEMBERED:
            # What is forgotten here is told once more: no alert is lost by it.
            self._told.popitem(last=False)
        return True

    def _has_room(self, about: tuple[str, ...], now: Instant) -> bool:
        hour = self._hours.setdefault(about, _Hour(now))
        if hour.told >= MOST_OBJECTS:
            hour.left_out += 1
            return False
        hour.told += 1
        return True

    def _left_out(self, now: Instant) -> Iterator[Alert]:
        """Tell of each hour that is over how many events about further objects it had."""
        while self._hours:
            about, hour = next(iter(self._hours.items()))
            if now - hour.began < AGAIN_AFTER and len(self._hours) <= MOST_REMEMBERED:
                return
            del self._hours[about]
            if hour.left_out:
                yield from self._observed(_left_out_event(about[0], about[1], hour.left_out), now)

    def _new_day(self, day: int, now: Instant) -> Iterator[Alert]:
        if day <= self._day:
            return
        before, self._day = self._day, day
        volumes, self._volumes = self._volumes, {}
        if before < 0:
            return
        told = {who: (self._team_of(who), measures) for who, measures in volumes.items()}
        for unusual in self.baselines.ended(before, told):
            yield from self._observed(_unusual_event(unusual), now)

    def _used(self, event: View, day: int) -> Iterator[Unusual]:
        who_field, things = _USED.get(str(event[ANCHOR]), ("", ()))
        who = event.get(who_field)
        for field in things if isinstance(who, str) else ():
            thing = event.get(field)
            if isinstance(who, str) and isinstance(thing, str):
                yield from self.baselines.used(who, self._team_of(who), f"{field}:{thing}", day)

    def _count(self, event: View) -> None:
        who_field, measure, field = _VOLUMES.get(str(event[ANCHOR]), ("", "", ""))
        who = event.get(who_field)
        if not isinstance(who, str):
            return
        amount = sum(int(number) for number in numbers_of(event.get(field))) if field else 1
        measures = self._volumes.setdefault(who, {})
        measures[measure] = measures.get(measure, 0) + max(0, amount)


def _unusual_event(unusual: Unusual) -> dict[str, Value]:
    return {
        ANCHOR: "detector:person:unusual",
        "person": "fleet" if unusual.person == FLEET else unusual.person,
        "test": unusual.test.value,
        "measure": unusual.measure,
        "score": unusual.score,
    }


def _left_out_event(rule: str, subject: str, count: int) -> dict[str, Value]:
    told: dict[str, Value] = {ANCHOR: "detector:state:evicted", "rule": rule, "count": count}
    kind, _, name = subject.partition(":")
    return {**told, kind: name} if kind in _SUBJECTS else told


def _object(event: View) -> str:
    named = event.get(_OBJECTS.get(str(event[ANCHOR]).lower(), ""))
    # Whoever writes long names takes no more room.
    return str(Digest.of(named.encode("utf-8", "surrogatepass"))) if isinstance(named, str) else ""


def _subject(hit: Hit, event: View) -> str:
    if hit.group:
        return ",".join(f"{name}:{value}" for name, value in hit.group)
    named = ((field, event.get(field)) for field in _SUBJECTS)
    return next((f"{field}:{value}" for field, value in named if isinstance(value, str)), "")
