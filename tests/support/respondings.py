"""A response without a deployment around it: its own disk, detector and doors, stand-ins, and people who sign."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from strongroom.core.canonical import parse
from strongroom.core.clock import Clock, Instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.signature import Ed25519Signer, PublicKey
from strongroom.detection.detector import Detector
from strongroom.detection.engine import Engine
from strongroom.detection.sensors.reading import Event
from strongroom.detection.wiring import linear_regex, shipped_pack
from strongroom.ipc.frames import Call
from strongroom.responder.acting import Outcome as Acted
from strongroom.responder.acting import Responder, Stopped
from strongroom.responder.adapters.case_files import CaseFiles
from strongroom.responder.adapters.record_file import RecordFile
from strongroom.responder.cases import Case
from strongroom.responder.deciding import Decider
from strongroom.responder.desk import Desk
from strongroom.responder.drilling import DRILL, Drills
from strongroom.responder.evidence import Receipts
from strongroom.responder.limits import FreezeLimits
from strongroom.responder.ports import Port, Told, refused
from strongroom.responder.responding import Responding
from strongroom.responder.shadow import ShadowPort
from strongroom.response.actions import Command
from strongroom.response.acts import ACT_TYPE, FACTS, Act, ActKind, said_of
from strongroom.response.drills import DRILL_TYPE, PRACTISED, DrillToken
from strongroom.response.grading import Certainty
from strongroom.response.incident import Incident
from strongroom.response.run import Terms
from strongroom.response.situation import Situation
from strongroom.response.subjects import Subject
from strongroom.response.wiring import shipped_playbooks

GENESIS = Digest.of(b"genesis")
PEOPLE = ("dana", "eli", "finn")
MODEL = ModelId("atlas")
STAND_INS = ("model:shadow-atlas", "person:shadow-dana", "host:shadow-w1")


def key_of(name: str) -> Ed25519Signer:
    return Ed25519Signer.from_seed(Digest.of(name.encode()).value)


@dataclass
class TestClock:
    """A clock that tests move."""

    __test__ = False
    at: Instant = field(default_factory=lambda: int(time.time()))

    def now(self) -> Instant:
        return self.at


@dataclass
class Known:
    """A deployment of three responders, with one model of level 3."""

    genesis: Digest = GENESIS
    suspended: set[str] = field(default_factory=set)

    def level(self, subject: Subject) -> int:
        return 0 if subject.shadow else 3

    def terms(self, certainty: Certainty, subject: Subject) -> Terms:
        del subject
        return Terms(certainty=certainty, eligible=frozenset(PEOPLE), quorum=2)

    def keys(self, person: PersonId) -> tuple[PublicKey, ...]:
        return (key_of(person).public_key,) if person in PEOPLE and person not in self.suspended else ()

    def masters(self) -> tuple[PublicKey, ...]:
        return tuple(key for person in PEOPLE for key in self.keys(PersonId(person)))


@dataclass
class Notes:
    """The deployment's log."""

    noted: list[tuple[str, int, Digest]] = field(default_factory=list)
    down: StrongroomError | None = None

    async def note(self, case: Case) -> None:
        if self.down is not None:
            raise self.down
        self.noted.append((case.id, case.incident.size, case.incident.last))


@dataclass
class Receiver:
    """Somebody who takes every message at once."""

    told_of: list[str] = field(default_factory=list)

    def tell(self, case: Case) -> None:
        self.told_of.append(case.id)

    def told(self, case: Case) -> bool | None:
        return case.id in self.told_of


class Stops:
    """A keeper that freezes."""

    def __init__(self) -> None:
        self.frozen: list[ModelId] = []

    async def stop(self, model: ModelId) -> Stopped:
        self.frozen.append(model)
        return Stopped(request=Digest.of(model.encode()), index=len(self.frozen))

    async def stored(self, stopped: Stopped) -> None:
        del stopped


@dataclass
class Room:
    """One run of the response."""

    folder: Path
    responding: Responding
    responder: Responder
    desk: Desk
    notes: Notes
    known: Known
    receiver: Receiver
    stops: Stops
    clock: Clock
    failed: list[tuple[str, str]]
    refreshes: Callable[[], object] = lambda: None
    """What the desk learns when it looks at the roster anew."""

    async def drill(self, playbook: str, *, by: str = "dana", event: str = "") -> Digest:
        """Hand a signed token in at the desk."""
        now = self.clock.now()
        token = DrillToken(
            genesis=GENESIS,
            playbook=playbook,
            event=event or PRACTISED[playbook],
            subjects=tuple(Subject.parse(one) for one in STAND_INS),
            not_before=now - 60,
            expires=now + 600,
            nonce=os.urandom(16),
        )
        envelope = sign(DRILL_TYPE, token.to_bytes(), key_of(by))
        await self.hold(envelope)
        return envelope.digest

    async def hold(self, token: Envelope) -> None:
        """Hand a drill's token in, as it is."""
        answer = await self.desk.serve(Call(1, "drill", Fields({"envelope": token.to_json()}, "drill")), 0)
        assert answer == {}

    def take(self, event: Mapping[str, object], source: str) -> None:
        """Show the rules a real event."""
        self.responder.take(event, source)

    async def act(self, kind: ActKind, incident: str, *, by: str = "dana", **facts: str | int) -> int:
        """Sign an act and hand it in; returns how many entries there are then."""
        return await self.hand_in(signed_act(kind, incident, self.clock.now(), by=by, facts=facts))

    async def resolve(self, incident: str, key: str, found: Mapping[str, str], *, by: str = "dana") -> None:
        """Answer what a person is asked."""
        runs = self.responding.cases[incident].runs.values()
        said = next((said_of(one) for run in runs for one in run.pending if one.key == key), {"key": key})
        facts = {"asked": str(Digest.of(b"")), **said, "outcome": "done"}
        await self.hand_in(
            signed_act(
                ActKind.RESOLVE,
                incident,
                self.clock.now(),
                by=by,
                facts={name: facts[name] for name in FACTS[ActKind.RESOLVE]},
                found=found,
            )
        )

    async def hand_in(self, envelope: bytes) -> int:
        """Hand an act in, as it is."""
        fields = Fields({"envelope": parse(envelope)}, "act")
        answer = await self.desk.serve(Call(1, "act", fields), 0)
        entries = answer["entries"]
        assert isinstance(entries, int)
        return entries

    async def until(self, holds: Callable[[], bool], *, seconds: float = 60) -> None:
        """Wait for something."""
        ends = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < ends, (self.failed, self.cases())
            await asyncio.sleep(0.01)

    def cases(self) -> list[Incident]:
        return [case.incident for case in self.responding.cases.values()]

    async def drilled(self, token: Digest) -> Case:
        """Wait until a drill's incident is open."""
        await self.until(lambda: any(one.drill == token for one in self.cases()))
        return next(case for case in self.responding.cases.values() if case.incident.drill == token)


def signed_act(
    kind: ActKind,
    incident: str,
    at: Instant,
    *,
    by: str,
    facts: Mapping[str, str | int],
    found: Mapping[str, str] | None = None,
    genesis: Digest = GENESIS,
    signer: str = "",
) -> bytes:
    """Return an act that somebody signed."""
    act = Act(
        genesis=genesis,
        incident=incident,
        person=PersonId(by),
        at=at,
        kind=kind,
        nonce=os.urandom(16),
        facts=facts,
        found=found or {},
    )
    return sign(ACT_TYPE, act.to_bytes(), key_of(signer or by)).to_bytes()


@asynccontextmanager
async def responding_room(
    folder: Path,
    *,
    clock: Clock | None = None,
    real: Port | None = None,
    acting: tuple[str, ...] = (),
    freezes: int = 1000,
) -> AsyncIterator[Room]:
    """Open a response over a folder; whatever lies there from before is gone on with."""
    clock, known, notes, receiver = clock or TestClock(), Known(), Notes(), Receiver()
    receipts, stops = Receipts(receiver), Stops()
    shadow = ShadowPort(receipts, clock)
    failed: list[tuple[str, str]] = []
    record = RecordFile(folder)
    responding = Responding(
        CaseFiles(folder),
        shipped_playbooks(),
        known,
        real=real or Forbidden(),
        shadow=shadow,
        telling=receiver,
        notes=notes,
        record=record,
        clock=clock,
        ticks=time.monotonic_ns,
        by="machine:warden",
        host="w1",
        failed=lambda what, error: failed.append((what, error.message)),
    )
    responding.load()

    def told(acted: Acted) -> None:
        said = acted.decision.alert.event.get("drill")
        mine = acted.decision.source == DRILL and isinstance(said, str)
        responding.hear(acted, drill=Digest.parse(str(said)) if mine else None)

    decider = Decider(
        Detector(Engine(shipped_pack(), regex=linear_regex), lambda _person: ""),
        decoys={},
        models=[MODEL],
        acting=acting,
        limits=FreezeLimits(freezes),
    )
    responder = Responder(
        decider,
        stops,
        {},
        record,
        clock=clock,
        ticks=time.monotonic_ns,
        told=told,
    )

    def take(event: Event) -> None:
        responder.take(event, DRILL, opened=time.monotonic_ns())

    drills = Drills(GENESIS, known.masters, lambda: responding.used, responding.practise, take, clock)

    async def refresh() -> None:
        room.refreshes()

    task = asyncio.create_task(responding.serve())
    desk = Desk(responding, clock, refresh, drills.hold)
    room = Room(folder, responding, responder, desk, notes, known, receiver, stops, clock, failed)
    try:
        yield room
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await responder.rest()
        record.close()


class Forbidden:
    """A real port that no drill may come to."""

    def __init__(self) -> None:
        self.asked: list[Command] = []

    async def situation(self, case: Case) -> Situation:
        raise AssertionError(case.id)

    async def do(self, case: Case, command: Command) -> Told:
        raise AssertionError(case.id, command)

    async def probe(self, case: Case, command: Command) -> str:
        raise AssertionError(case.id, command)


class QuietPort:
    """A deployment that has no means for anything."""

    async def situation(self, case: Case) -> Situation:
        del case
        return Situation()

    async def do(self, case: Case, command: Command) -> Told:
        del case, command
        return refused("no-means")

    async def probe(self, case: Case, command: Command) -> str:
        raise AssertionError(case.id, command)
