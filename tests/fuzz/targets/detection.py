"""Targets of detection: packs from elsewhere, and events that an attacker writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.access.request import LogHead
from strongroom.core.canonical import Json, encode, parse
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, PersonId
from strongroom.detection.cases import read_cases
from strongroom.detection.engine import Engine, read_event
from strongroom.detection.pack import Pack
from strongroom.detection.sensors.readers import READERS
from strongroom.detection.wiring import linear_regex, shipped_pack
from strongroom.release.heartbeat import Heartbeat
from strongroom.responder.decoys import Decoy, DecoyKind, Decoys
from strongroom.responder.guard.messages import Beat, Gone, Opened, read_line
from strongroom.responder.settings import ResponderSettings

SENSORS: Final = Path(__file__).resolve().parents[2] / "vectors" / "sensors"


def pack(data: bytes) -> None:
    """Read and compile a pack, and show it an event of each kind that it is about."""
    engine = Engine(Pack.parse(data), regex=linear_regex)
    engine.observe({"event": "host:file:opened", "decoy": True, "path": "x"}, 1)


@cache
def _engine() -> Engine:
    return Engine(shipped_pack(), regex=linear_regex, groups=64)


def event(data: bytes) -> None:
    """Take an event from outside and show it to the shipped rules."""
    value = parse(data)
    if not isinstance(value, dict):
        raise MalformedError("not an event")
    _engine().observe(read_event(value), 1)


def cases(data: bytes) -> None:
    """Read a document of cases."""
    read_cases(parse(data))


def sensor(data: bytes) -> None:
    """Show a line to the reader of every sensor; each is read or refused, and its events fit the rules' bounds."""
    refused: MalformedError | None = None
    taken = 0
    for make in READERS.values():
        try:
            told = make()(data)
        except MalformedError as error:
            refused = error
            continue
        taken += 1
        for one in told.events:
            _engine().observe(read_event(one), 1)
    if refused is not None and not taken:
        raise refused


def _lines() -> Iterable[bytes]:
    for path in sorted(SENSORS.glob("*.jsonl")):
        yield from path.read_bytes().splitlines()


def decoys(data: bytes) -> None:
    """Read a list of decoys."""
    Decoys.parse(data)


def _decoys() -> Iterable[bytes]:
    one = Decoy(path="/w/a.floe", kind=DecoyKind.SHARD, model=ModelId("atlas"), planted=1_700_000_000)
    yield Decoys(genesis=Digest.of(b""), decoys=(one,)).to_bytes()


def heartbeat(data: bytes) -> None:
    """Read a responder's heartbeat."""
    Heartbeat.parse(data)


def _heartbeats() -> Iterable[bytes]:
    log = LogHead(size=7, root=Digest.of(b"root"))
    yield Heartbeat(genesis=Digest.of(b""), responder=PersonId("warden"), at=1_700_000_000, log=log).to_bytes()


def responder_settings(data: bytes) -> None:
    """Read a responder's settings."""
    with Fields(parse(data), "responder") as fields:
        ResponderSettings.read(fields)


def _settings() -> Iterable[bytes]:
    feed: dict[str, Json] = {"name": "b", "kind": "strongroom", "events": ["facility:badge:missing"]}
    sensor: dict[str, Json] = {"name": "f", "kind": "falco", "silent_seconds": 9}
    key = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    yield encode(
        {
            "v": 1,
            "host": "w1",
            "models": ["atlas"],
            "watched": [],
            "readers": [7],
            "gates": [],
            "sensors": [
                {**sensor, "socket": "/run/f", "user": 7, "hosts": ["w1", "w2"]},
                {**feed, "socket": "/run/b", "user": 8},
            ],
            "webhooks": [{**sensor, "name": "h", "address": "127.0.0.1:81", "secret": "/s"}],
            "acting": ["guard", "log"],
            "freezes_an_hour": 6,
            "kernel_audit": True,
            "pack": {"file": "/p", "key": key},
        }
    )


def guard(data: bytes) -> None:
    """Read a line of the guard's."""
    read_line(data)


def _guard() -> Iterable[bytes]:
    yield Opened(path="/w/a.floe", pid=7, exe="/bin/cat", uid=0, denied=True, ticks=1).to_line().strip()
    yield Beat(untold=1, lost=2).to_line().strip()
    yield Gone(path="/w/a.floe").to_line().strip()


def _packs() -> Iterable[bytes]:
    shipped = shipped_pack()
    yield Pack(name="p", rules=shipped.rules[:4]).to_bytes()
    yield Pack(name="p", rules=shipped.rules, correlations=shipped.correlations).to_bytes()


def _events() -> Iterable[bytes]:
    yield encode({"event": "host:file:opened", "decoy": True, "path": "/w/a.floe", "kind": "shard"})
    yield encode({"event": "identity:login:failed", "person": "sam", "client": "192.0.2.7", "cause": ["a", 1, None]})


def _cases() -> Iterable[bytes]:
    story: list[Json] = [{"event": "host:file:opened", "decoy": True, "repeat": 2, "after": 1}]
    yield encode({"decoy-shard-opened": {"matches": [story], "passes": [story]}})


DETECTION: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "detection-pack": Target(read=pack, seeds=_packs, changes=150),
        "detection-event": Target(read=event, seeds=_events),
        "detection-cases": Target(read=cases, seeds=_cases),
        "detection-sensor": Target(read=sensor, seeds=_lines),
        "detection-decoys": Target(read=decoys, seeds=_decoys),
        "detection-heartbeat": Target(read=heartbeat, seeds=_heartbeats),
        "detection-settings": Target(read=responder_settings, seeds=_settings),
        "detection-guard": Target(read=guard, seeds=_guard),
    }
)
