"""An incident as the responder keeps it: its record, its playbooks' runs, and what the two rest on.

Whatever is said to have happened is on the disk first. A record only grows; a run is replaced whole. So a process that
is killed at any moment finds, at its next start, a record and runs that fit each other as far as they went.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.response.drills import DrillToken
from strongroom.response.entries import Fact, Happened, IncidentEntry
from strongroom.response.grading import Severity, grade
from strongroom.response.incident import Alert as Signal
from strongroom.response.incident import Incident, fold, open_incident
from strongroom.response.run import Run, RunStatus

MAX_ACTS: Final = 4096
"""Acts of people that one incident takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What a run began with: whose signal, and which event; its automatic actions are charged to that source."""

    source: str
    event: Digest


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An incident as it is read back from the disk."""

    entries: tuple[IncidentEntry, ...]
    runs: Mapping[str, tuple[Cause, Run]]
    """By name: what each began with, and how far it has come."""
    acts: frozenset[Digest]
    token: DrillToken | None
    told: Mapping[str, int]
    held: bool


class CaseStore(Protocol):
    """Where incidents are kept. Every method returns once its effect is on the disk.

    :raises UnavailableError: the disk refused; nothing of it counts.
    """

    def load(self) -> tuple[Iterable[Stored], Mapping[str, str]]:
        """Return all incidents, and the names of those that can't be read, each with the code of why."""
        ...

    def append(self, incident: str, entry: IncidentEntry) -> None:
        """Add an entry to a record; with the first one, make the incident's folder."""
        ...

    def save_run(self, incident: str, name: str, cause: Cause, run: Run) -> None:
        """Replace a run, and what it began with."""
        ...

    def keep_act(self, incident: str, act: Envelope) -> None:
        """Keep what a person signed."""
        ...

    def keep_token(self, incident: str, token: DrillToken) -> None:
        """Keep a drill's token."""
        ...

    def keep(self, incident: str, name: str, data: bytes) -> Digest:
        """Keep evidence, a draft or words under a name of their own; the same name again changes nothing."""
        ...

    def kept(self, incident: str, name: str) -> bytes | None:
        """Return what was kept under a name."""
        ...

    def save_world(self, incident: str, data: bytes) -> None:
        """Replace how a drill's stand-ins stand."""
        ...

    def world(self, incident: str) -> bytes | None:
        """Return how they stand."""
        ...

    def save_hold(self, incident: str, data: bytes) -> None:
        """Replace the mark that says that an incident's folder is on hold; no bytes: it isn't."""
        ...

    def hold(self, incident: str) -> bytes:
        """Return the mark."""
        ...

    def save_told(self, incident: str, told: Mapping[str, int]) -> None:
        """Remember how far others were told."""
        ...

    def budget(self) -> bytes | None:
        """Return the budget of automatic containment, as it was saved."""
        ...

    def save_budget(self, data: bytes) -> None:
        """Replace it."""
        ...

    def heard(self) -> int:
        """Return how many lines of the responder's record are dealt with; alerts of later ones may not be."""
        ...

    def save_heard(self, lines: int) -> None:
        """Remember how many lines are dealt with."""
        ...


@dataclass(kw_only=True)
class Case:
    """One incident. ``lock`` is held whenever its runs are changed; whatever is slow is done without it."""

    incident: Incident
    entries: list[IncidentEntry]
    store: CaseStore
    clock: Clock
    by: str
    """How the machine is called in the record: ``machine:`` and the responder's id."""
    runs: dict[str, Run] = field(default_factory=dict)
    causes: dict[str, Cause] = field(default_factory=dict)
    """Run -> what it began with."""
    acts: set[Digest] = field(default_factory=set)
    token: DrillToken | None = None
    told: dict[str, int] = field(default_factory=dict)
    """Who was told of how many entries: receivers by their names, and the deployment's log."""
    held: bool = False
    """Whether its folder is on hold."""
    judged: set[str] = field(default_factory=set)
    """Keys of commands that the budget was asked about."""
    began: int = 0
    """The monotonic clock at the event, in nanoseconds; 0 where this process didn't see it."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _telling: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    async def open(
        cls,
        signal: Signal,
        severity: Severity,
        *,
        store: CaseStore,
        clock: Clock,
        by: str,
        token: DrillToken | None,
        began: int,
    ) -> Case:
        """Open an incident; it is on the disk when this returns."""
        first = open_incident(signal, severity, by=by, at=signal.at)
        case = cls(incident=fold([first]), entries=[first], store=store, clock=clock, by=by, token=token, began=began)
        # The token first: a drill's record without it would look like a real one that names a stand-in.
        if token is not None:
            await asyncio.to_thread(store.keep_token, first.incident, token)
        await asyncio.to_thread(store.append, first.incident, first)
        return case

    @classmethod
    def read(cls, stored: Stored, *, store: CaseStore, clock: Clock, by: str) -> Case:
        """Return an incident as it was left.

        :raises BrokenRecordError: its entries aren't one chain. :raises RecordError: one makes no sense.
        """
        return cls(
            incident=fold(stored.entries),
            entries=list(stored.entries),
            store=store,
            clock=clock,
            by=by,
            runs={name: run for name, (_cause, run) in stored.runs.items()},
            causes={name: cause for name, (cause, _run) in stored.runs.items()},
            acts=set(stored.acts),
            token=stored.token,
            told=dict(stored.told),
            held=stored.held,
        )

    @property
    def id(self) -> str:
        """The incident's id."""
        return self.incident.id

    def has(self, event: Digest) -> bool:
        """Tell whether an alert is in the record, by the digest of what caused it."""
        named = str(event)
        return any(entry.facts.get("event") == named for entry in self.entries)

    @property
    def running(self) -> bool:
        """Whether any playbook goes on."""
        return any(run.status is RunStatus.RUNNING for run in self.runs.values())

    async def note(self, happened: Happened, facts: Mapping[str, Fact], *, by: str = "") -> None:
        """Add an entry; raises as :meth:`add` does."""
        await self.add(lambda incident: incident.next(happened, by or self.by, self.clock.now(), facts))

    async def add(self, make: Callable[[Incident], IncidentEntry]) -> None:
        """Add the entry that is made for the record as it stands.

        :raises RecordError: it makes no sense here. :raises UnavailableError: the disk refused.
        """
        async with self._writing:
            entry = make(self.incident)
            after = self.incident.apply(entry)
            await asyncio.to_thread(self.store.append, self.id, entry)
            self.incident = after
            self.entries.append(entry)

    async def save(self, name: str, run: Run) -> None:
        """Replace a run, on the disk and then here."""
        if self.runs.get(name) == run:
            return
        await asyncio.to_thread(self.store.save_run, self.id, name, self.causes[name], run)
        self.runs[name] = run

    async def keep(self, name: str, data: bytes) -> Digest:
        """Keep evidence, a draft or words."""
        return await asyncio.to_thread(self.store.keep, self.id, name, data)

    async def kept(self, name: str) -> bytes | None:
        """Return what was kept."""
        return await asyncio.to_thread(self.store.kept, self.id, name)

    async def was_told(self, name: str, entries: int) -> None:
        """Remember that somebody was told of so many entries."""
        async with self._telling:
            told = {**self.told, name: entries}
            await asyncio.to_thread(self.store.save_told, self.id, told)
            self.told = told

    async def set_hold(self, mark: bytes) -> None:
        """Put the folder on hold; with no bytes, lift that."""
        await asyncio.to_thread(self.store.save_hold, self.id, mark)
        self.held = bool(mark)

    async def read_hold(self) -> bytes:
        """Return the mark on the disk."""
        return await asyncio.to_thread(self.store.hold, self.id)

    async def keep_act(self, act: Envelope) -> None:
        """Keep what a person signed; from here on it can't be taken again."""
        await asyncio.to_thread(self.store.keep_act, self.id, act)
        self.acts.add(act.digest)


async def regrade(case: Case, level: int) -> None:
    """Raise an incident's severity to what the worst exposure says, where that is more; raises as :meth:`Case.add`.

    :param level: the security level of what it is about.
    """
    incident = case.incident
    said = [
        grade(incident.certainty, exposed_bits=read.bits, theft_bits=read.bound, level=level)
        for read in incident.exposures.values()
    ]
    severity = max(said, key=lambda one: one.rank, default=incident.severity)
    if severity.rank > incident.severity.rank:
        await case.note(Happened.SEVERITY_CHANGED, {"severity": severity.value, "cause": "exposure"})
