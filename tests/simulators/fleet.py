"""A fleet of 60 people and 40 services, simulated: what its sensors and its log say in ordinary days, and in thefts.

Made so that ordinary life isn't tidy. Volumes are heavy-tailed (log-normal, some people a hundred times others); people
work on weekdays and a few on weekends; projects change and with them the models that a team opens; somebody is on call
each night and sometimes opens a console with a ticket; deployments restart services in waves; people mistype passwords,
lose factors and enrol phones; clients try parameters that aren't allowed; firmware is updated as planned. Everything
comes from one seed. No figure in it was measured at a company: they are assumptions, written down here.

A theft is a story: events with, beside each, how many bytes of weights had left by then. The detector never sees those.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.detection.matching import Value

DAY: Final = 86400
HOUR: Final = 3600
BEGIN: Final = 20_000 * DAY
"""Midnight of day 0, in seconds; a Wednesday, as days since 1970 go."""
GB: Final = 10**9
TEAMS: Final = ("pretraining", "post-training", "inference", "security", "platform", "product")
MODELS: Final = tuple(f"model-{n}" for n in range(12))
SERVICES: Final = tuple(f"service-{n}" for n in range(40))
PEOPLE: Final = tuple(f"person-{n:02}" for n in range(60))
HOSTS: Final = tuple(f"w{n}" for n in range(16))
Event = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Happening:
    """An event, when it happened, and for thefts how many bytes of weights had left by then."""

    at: int
    event: Event
    stolen: int = 0


def team_of(name: str) -> str:
    """Return the team of a person or the kind of a service."""
    kind, _dash, number = name.partition("-")
    return TEAMS[int(number) % len(TEAMS)] if kind == "person" else f"services-{int(number) % 4}"


def ordinary(seed: int, days: int) -> Iterator[Happening]:
    """Yield ordinary days, in order."""
    world = _World(random.Random(seed))  # noqa: S311 - a simulation, the same each time
    for day in range(days):
        yield from sorted(world.day(day), key=lambda happening: happening.at)


class _World:
    """What people and services are like, drawn once."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._appetite = {name: chance.lognormvariate(0, 1.2) for name in (*PEOPLE, *SERVICES)}
        self._models = {name: chance.sample(MODELS, 2) for name in (*PEOPLE, *SERVICES)}
        self._clients = {name: f"10.1.{number}.7" for number, name in enumerate(PEOPLE)}

    def day(self, day: int) -> list[Happening]:
        """Return one day's happenings, in no order."""
        weekend = day % 7 in {3, 4}
        found: list[Happening] = []
        for person in PEOPLE:
            if self._chance.random() < (0.08 if weekend else 0.92):
                found += self._person(person, day)
        for service in SERVICES:
            found += self._service(service, day)
        found += self._night(day)
        found += self._odds_and_ends(day)
        return found

    def _at(self, day: int, first: float, last: float) -> int:
        return BEGIN + day * DAY + int(self._chance.uniform(first, last) * HOUR)

    def _person(self, person: str, day: int) -> Iterator[Happening]:
        client = self._clients[person] if self._chance.random() < 0.95 else f"10.2.{self._chance.randrange(40)}.9"
        for _mistyped in range(self._chance.choices((0, 1, 2, 4), (80, 14, 5, 1))[0]):
            yield Happening(
                self._at(day, 8, 9),
                {"event": "identity:login:failed", "person": person, "client": client, "cause": "wrong-factor"},
            )
        yield Happening(
            self._at(day, 8, 10),
            {
                "event": "identity:login:opened",
                "person": person,
                "client": client,
                "device": person,
                "device_days": 200,
            },
        )
        if self._chance.random() < 0.01:
            # A project changes: another model from now on.
            self._models[person] = [self._models[person][1], self._chance.choice(MODELS)]
        if self._chance.random() < 0.12:
            model = self._chance.choice(self._models[person])
            at = self._at(day, 10, 17)
            asked: Event = {"action": "open-in-enclave", "requester": person, "model": model}
            yield Happening(at, {"event": "access:request:created", **asked})
            yield Happening(at + HOUR, {"event": "release:data-key:released", "requester": person, "model": model})
        read = int(self._appetite[person] * self._chance.lognormvariate(0, 0.8) * 2 * GB)
        yield Happening(self._at(day, 17, 19), {"event": "host:reading:counted", "person": person, "bytes": read})
        if self._chance.random() < 0.004:
            yield Happening(
                self._at(day, 9, 17), {"event": "identity:device:enrolled", "person": person, "device": "phone"}
            )
        if self._chance.random() < 0.003:
            yield Happening(
                self._at(day, 9, 17), {"event": "identity:factor:reset", "person": person, "by": "helpdesk"}
            )
        if self._chance.random() < 0.005:
            granted: Event = {"person": person, "role": "requester", "by": "person-03", "ticket": f"sec-{day}"}
            yield Happening(self._at(day, 9, 17), {"event": "identity:role:granted", **granted})

    def _service(self, service: str, day: int) -> Iterator[Happening]:
        model = self._models[service][0]
        for restart in range(self._chance.choices((0, 1, 3), (70, 25, 5))[0]):
            yield Happening(
                self._at(day, 2, 22) + restart,
                {"event": "release:data-key:released", "requester": service, "model": model},
            )
        tokens = int(self._appetite[service] * self._chance.lognormvariate(0, 0.5) * 10**7)
        yield Happening(
            self._at(day, 23, 23.9),
            {"event": "gateway:usage:counted", "principal": service, "model": model, "tokens": tokens},
        )
        for _refused in range(self._chance.choices((0, 1, 6), (90, 8, 2))[0]):
            refused: Event = {
                "principal": service,
                "code": "parameter-not-allowed",
                "parameter": "logprobs",
                "model": model,
            }
            yield Happening(self._at(day, 0, 23), {"event": "gateway:request:refused", **refused})

    def _night(self, day: int) -> Iterator[Happening]:
        for host in HOSTS:
            for _started in range(3):
                started: Event = {"host": host, "role": "weights-host", "exe": "/usr/bin/strongroom", "listed": True}
                yield Happening(self._at(day, 0, 23), {"event": "host:process:started", **started})
            opened: Event = {"host": host, "path": "/weights/a.floe", "exe": "engine", "kind": "shard"}
            yield Happening(
                self._at(day, 0, 23), {"event": "host:file:opened", **opened, "decoy": False, "broker": True}
            )
        if self._chance.random() < 0.1:
            # On call: a console session on a host that holds weights. It alarms, and should.
            person = self._chance.choice(PEOPLE[::4])
            login: Event = {
                "host": self._chance.choice(HOSTS),
                "person": person,
                "method": "ssh",
                "role": "weights-host",
            }
            yield Happening(self._at(day, 0, 5), {"event": "host:login:opened", **login, "badged": True})

    def _odds_and_ends(self, day: int) -> Iterator[Happening]:
        if self._chance.random() < 0.15:
            keyboard: Event = {"host": self._chance.choice(HOSTS), "kind": "keyboard", "device": "k", "isolated": False}
            yield Happening(self._at(day, 8, 18), {"event": "host:device:added", **keyboard})
        if self._chance.random() < 0.1:
            overdue: Event = {
                "host": self._chance.choice(HOSTS),
                "advisory": f"cve-{day}",
                "exploited": False,
                "days": 5,
            }
            patched: Event = {"patched_upstream": True, "holds_grant": True}
            yield Happening(self._at(day, 1, 2), {"event": "host:patch:overdue", **overdue, **patched})
        for _denied in range(self._chance.choices((0, 2), (80, 20))[0]):
            denied: Event = {"host": self._chance.choice(HOSTS), "exe": "tool", "syscall": "ptrace", "sandboxed": True}
            yield Happening(self._at(day, 0, 23), {"event": "host:syscall:denied", **denied})
        if self._chance.random() < 0.05:
            found: Event = {"path": "/backup/a.floe", "model": "model-1", "registered": True, "encrypted": True}
            yield Happening(self._at(day, 3, 4), {"event": "scanner:copy:found", **found, "world_readable": False})
        if self._chance.random() < 0.05:
            vendor: Event = {"vendor": "v1", "account": "a1", "in_window": True}
            yield Happening(self._at(day, 10, 15), {"event": "supply:vendor:active", **vendor})


@dataclass(frozen=True, slots=True)
class Theft:
    """A story: its name, what is told of it, the rules of which one at least must find it, and its happenings."""

    name: str
    told: str
    found_by: frozenset[str]
    happenings: Callable[[int], Sequence[Happening]]
    """Takes the day on which it begins."""


def _spread(day: int, hours: Sequence[float], events: Sequence[Event], stolen: Sequence[int]) -> list[Happening]:
    return [
        Happening(BEGIN + day * DAY + int(hour * HOUR), event, left)
        for hour, event, left in zip(hours, events, stolen, strict=True)
    ]


def _tarred(day: int) -> list[Happening]:
    shards: list[Event] = [
        {"event": "host:file:opened", "host": "w3", "path": f"/weights/m-{n:05}.floe", "exe": "/usr/bin/tar",
         "kind": "shard", "decoy": False, "broker": False}
        for n in range(8)
    ]  # fmt: skip
    return _spread(day, [2 + n / 10 for n in range(8)], shards, [n * 5 * GB for n in range(8)])


def _decoy(day: int) -> list[Happening]:
    opened: Event = {
        "event": "host:file:opened", "host": "w5", "path": "/weights/m-00099.floe", "exe": "/usr/bin/cp",
        "kind": "shard", "decoy": True, "broker": False,
    }  # fmt: skip
    return _spread(day, [3], [opened], [0])


def _help_desk(day: int) -> list[Happening]:
    person = PEOPLE[9]
    events: list[Event] = [
        {"event": "identity:factor:reset", "person": person, "by": "helpdesk"},
        {"event": "identity:device:enrolled", "person": person, "device": "new-phone"},
        {"event": "access:request:created", "action": "export-plaintext", "requester": person, "model": "model-2"},
        {"event": "release:data-key:exported", "requester": person, "model": "model-2"},
    ]
    return _spread(day, [11, 11.5, 12, 15], events, [0, 0, 0, 140 * GB])


def _sprayed(day: int) -> list[Happening]:
    failed: list[Event] = [
        {"event": "identity:login:failed", "person": person, "client": "203.0.113.9", "cause": "wrong-factor"}
        for person in PEOPLE[:24]
    ]
    return _spread(day, [4 + n / 60 for n in range(24)], failed, [0] * 24)


def _read_out(day: int) -> list[Happening]:
    tried: list[Event] = [
        {"event": "gateway:request:refused", "principal": "service-7", "code": "parameter-not-allowed",
         "parameter": "logit_bias", "model": "model-4"}
        for _n in range(120)
    ]  # fmt: skip
    return _spread(day, [1 + n / 8 for n in range(120)], tried, [n * 1000 for n in range(120)])


def _distilled(day: int) -> list[Happening]:
    events: list[Event] = []
    hours: list[float] = []
    for n in range(20):
        usage: Event = {"principal": "service-11", "model": "model-5", "tokens": 4 * 10**9}
        events.append({"event": "gateway:usage:counted", **usage})
        hours.append(24 * n + 22.5)
    return _spread(day, hours, events, [n * 20 * 10**6 for n in range(20)])


def _collected(day: int) -> list[Happening]:
    events: list[Event] = [
        {"event": "release:data-key:exported", "requester": PEOPLE[17], "model": f"model-{n}"} for n in range(6)
    ]
    return _spread(day, [9 + n for n in range(6)], events, [(n + 1) * 30 * GB for n in range(6)])


def _exploited(day: int) -> list[Happening]:
    loaded: list[Event] = [
        {"event": "host:library:loaded", "host": f"w{n}", "exe": "engine", "library": "/dev/shm/.x.so",  # noqa: S108
         "enclave": True, "listed": False}
        for n in range(4)
    ]  # fmt: skip
    return _spread(day, [5 + n / 4 for n in range(4)], loaded, [n * 10**8 for n in range(4)])


def _vendor(day: int) -> list[Happening]:
    events: list[Event] = [
        {"event": "supply:vendor:active", "vendor": "v1", "account": "a1", "in_window": False},
        {"event": "host:chassis:opened", "host": "w8", "planned": False},
        {"event": "host:device:added", "host": "w8", "kind": "storage", "device": "disk", "isolated": False},
    ]
    return _spread(day, [1, 1.2, 1.4], events, [0, 0, 2000 * GB])


def _backup(day: int) -> list[Happening]:
    found: Event = {
        "event": "scanner:copy:found", "host": "n2", "path": "/data/old.tar", "model": "model-1",
        "registered": False, "encrypted": False, "world_readable": True,
    }  # fmt: skip
    return _spread(day, [3.5], [found], [140 * GB])


def _prompted(day: int) -> list[Happening]:
    denied: list[Event] = [
        {"event": "host:syscall:denied", "host": "w2", "exe": "tool", "syscall": "ptrace", "sandboxed": True}
        for _n in range(25)
    ]
    shell: Event = {
        "event": "host:process:started", "host": "w2", "exe": "/bin/sh", "parent": "engine",
        "enclave": True, "sandboxed": False,
    }  # fmt: skip
    hours = [6 + n / 3600 for n in range(25)]
    return _spread(day, [*hours, 6.1], [*denied, shell], [*([0] * 25), 10**6])


def _blinded(day: int) -> list[Happening]:
    events: list[Event] = [
        {"event": "detector:sensor:silent", "sensor": "fanotify", "host": "w6", "seconds": 60},
        {"event": "host:clock:jumped", "host": "w6", "seconds": 7200},
        {"event": "gateway:conservation:broken", "model": "model-3", "bytes": 900_000_000},
    ]
    return _spread(day, [23, 23.1, 23.3], events, [0, 0, 900_000_000])


THEFTS: Final = (
    Theft("night-tar", "Somebody with root on a host packs sealed shards at night, and hopes for the key later.",
          frozenset({"shard-opened-by-stranger"}), _tarred),
    Theft("decoy", "Somebody looks around a host and copies what seems to be the next model.",
          frozenset({"decoy-shard-opened"}), _decoy),
    Theft("help-desk", "A caller talks the help desk into a new factor, enrols a phone, and has weights exported.",
          frozenset({"reset-then-device-then-request", "weights-exported"}), _help_desk),
    Theft("spraying", "One client tries one password on two dozen people.",
          frozenset({"one-client-many-people"}), _sprayed),
    Theft("last-layer", "A customer reads the last layer out with biased logits, a few tries an hour.",
          frozenset({"extraction-tried-often"}), _read_out),
    Theft("distillation", "A customer's use grows many times over for weeks, to train a copy on the answers.",
          frozenset({"volume-grew"}), _distilled),
    Theft("collector", "An authorised person opens one model after another in one day, each for a good reason.",
          frozenset({"many-models-by-one", "weights-exported"}), _collected),
    Theft("zero-day", "An exploit for the serving stack loads a library on four hosts within the hour.",
          frozenset({"unknown-library-on-many-hosts", "unknown-library-in-enclave"}), _exploited),
    Theft("vendor", "A vendor's technician comes at night, opens a case and adds a disk.",
          frozenset({"vendor-outside-window", "case-opened", "device-added"}), _vendor),
    Theft("old-backup", "An old backup in the clear lies where everybody can read it; the nightly search finds it.",
          frozenset({"unregistered-copy", "exposed-copy"}), _backup),
    Theft("prompted", "A prompt makes the model's tools look for a way out of their sandbox, and one finds a shell.",
          frozenset({"sandbox-probed", "process-started-in-enclave"}), _prompted),
    Theft("blinded", "Root stops the host's sensor, turns the clock, and streams memory past the gateway.",
          frozenset({"sensor-silent", "egress-not-conserved"}), _blinded),
)  # fmt: skip
"""Twelve ways to steal weights. Their bytes are what the story says had left when each event came."""
