"""A port for response actions over a world in memory: it does each key once, and can be killed between any two steps.

What a real port must promise is here: a command's effect and the note that its key was done come together, so a key
seen again is answered from the note. Probes look at the world, and never at what the port believes it did.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TypeVar

from strongroom.core.errors import ConflictError
from strongroom.response.action_list import WHOLE, dry_run
from strongroom.response.actions import ActionName, Command, Tells
from strongroom.response.drills import DrillToken, keep_apart
from strongroom.response.executor import Answer
from strongroom.response.run import Outcome
from strongroom.response.situation import (
    GrantFacts,
    HostFacts,
    LeaseFacts,
    ModelFacts,
    SessionFacts,
    Situation,
)
from strongroom.response.subjects import Subject, SubjectKind

T = TypeVar("T")
MODEL = "shadow-atlas"
PERSON = "shadow-dana"
HOST = "shadow-w1"


class KilledError(Exception):
    """The process was killed here."""


@dataclass
class Fuse:
    """Kills at the given step; None: never."""

    at: int | None = None
    steps: int = 0

    def step(self) -> None:
        """Come to one more place where a kill could hit."""
        self.steps += 1
        if self.at is not None and self.steps == self.at:
            raise KilledError


def shadow_world() -> Situation:
    """Return a world of stand-ins, with something of each kind that can fall."""
    return Situation(
        models={MODEL: ModelFacts()},
        hosts={HOST: HostFacts(attested=True)},
        people={PERSON: False},
        grants=(GrantFacts(id="g1", person=PERSON, model=MODEL),),
        leases=(LeaseFacts(id="l1", person=PERSON, model=MODEL, host=HOST),),
        sessions=(SessionFacts(id="s1", owner=PERSON),),
    )


@dataclass
class ResponsePort:
    """Does commands, each key once."""

    world: Situation = field(default_factory=shadow_world)
    token: DrillToken | None = None
    fuse: Fuse = field(default_factory=Fuse)
    journal: dict[str, Outcome] = field(default_factory=dict)
    effects: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(key, action) -> how often its effect happened. Never above one."""
    done: list[ActionName] = field(default_factory=list)
    drafts: set[str] = field(default_factory=set)
    receipts: int = 0
    broken: frozenset[ActionName] = frozenset()
    """Actions that fail."""

    def do(self, command: Command) -> Answer:
        """Do a command, or answer it from the journal."""
        self.fuse.step()
        if command.key not in self.journal:
            keep_apart(command, self.token)
            self.journal[command.key] = self._try(command)
        self.fuse.step()
        return Answer(key=command.key, outcome=self.journal[command.key])

    def _try(self, command: Command) -> Outcome:
        try:
            dry_run(command.action, command.subject, self.world)
        except ConflictError:
            return Outcome.REFUSED
        if command.action in self.broken:
            return Outcome.FAILED
        self._affect(command)
        self.effects[command.key, command.action] += 1
        self.done.append(command.action)
        return Outcome.DONE

    def _affect(self, command: Command) -> None:
        subject, world = command.subject, self.world
        match command.action:
            case ActionName.FREEZE_RELEASES | ActionName.RESUME_RELEASES:
                self._models(subject, frozen=command.action is ActionName.FREEZE_RELEASES)
            case ActionName.ZERO_EGRESS | ActionName.RESTORE_EGRESS:
                self._egress(subject, closed=command.action is ActionName.ZERO_EGRESS)
            case ActionName.RAISE_SAMPLING | ActionName.LOWER_SAMPLING:
                self._models(subject, sampling_ppm=WHOLE if command.action is ActionName.RAISE_SAMPLING else 0)
            case ActionName.SNAPSHOT_EVIDENCE:
                self.world = replace(world, evidence_frozen=True)
            case ActionName.LEGAL_HOLD | ActionName.LIFT_HOLD:
                self.world = replace(world, on_hold=command.action is ActionName.LEGAL_HOLD)
            case ActionName.REVOKE_GRANTS | ActionName.REVOKE_SESSIONS | ActionName.EXPIRE_LEASES:
                self._end(command.action, subject)
            case _:
                self._affect_others(command)

    def _end(self, action: ActionName, subject: Subject) -> None:
        world = self.world
        match action:
            case ActionName.REVOKE_GRANTS:
                self.world = replace(world, grants=_without(world.grants, world.grants_of(subject)))
            case ActionName.REVOKE_SESSIONS:
                self.world = replace(world, sessions=_without(world.sessions, world.sessions_of(subject)))
            case ActionName.EXPIRE_LEASES:
                self.world = replace(world, leases=_without(world.leases, world.leases_of(subject)))
            case _:
                raise AssertionError(action)

    def _affect_others(self, command: Command) -> None:
        subject = command.subject
        match command.action:
            case ActionName.QUARANTINE_PERSON | ActionName.RELEASE_PERSON:
                out = command.action is ActionName.QUARANTINE_PERSON
                self.world = replace(self.world, people={**self.world.people, subject.name: out})
            case ActionName.QUARANTINE_HOST | ActionName.RELEASE_HOST:
                self._host(subject, quarantined=command.action is ActionName.QUARANTINE_HOST)
            case ActionName.REVOKE_ATTESTATION:
                self._host(subject, attested=False)
            case ActionName.PREPARE_ROTATION | ActionName.PREPARE_SHREDDING:
                self.drafts.add(f"{command.parameters['request']} {subject}")
            case ActionName.NOTIFY:
                self.receipts += 1
            case _:
                raise AssertionError(command.action)

    def _models(self, subject: Subject, **changes: object) -> None:
        for name in self.world.models_of(subject):
            changed = replace(self.world.models[name], **changes)  # type: ignore[arg-type]
            self.world = replace(self.world, models={**self.world.models, name: changed})

    def _host(self, subject: Subject, **changes: object) -> None:
        changed = replace(self.world.hosts[subject.name], **changes)  # type: ignore[arg-type]
        self.world = replace(self.world, hosts={**self.world.hosts, subject.name: changed})

    def _egress(self, subject: Subject, *, closed: bool) -> None:
        if subject.kind is SubjectKind.HOST:
            self._host(subject, egress_closed=closed)
        else:
            self._models(subject, egress_closed=closed)

    def probe(self, tells: Tells, subject: Subject) -> str:
        """Look at the world."""
        world = self.world
        models = [world.models[name] for name in world.models_of(subject)]
        host = world.hosts.get(subject.name, HostFacts())
        closed = host.egress_closed if subject.kind is SubjectKind.HOST else all(one.egress_closed for one in models)
        return {
            Tells.RELEASE: "refused" if all(one.frozen for one in models) else "allowed",
            Tells.PACKET: "lost" if closed else "passed",
            Tells.EVIDENCE: "whole" if world.evidence_frozen else "none",
            Tells.HOLD: "held" if world.on_hold else "lifted",
            Tells.GRANTS: "some" if world.grants_of(subject) else "none",
            Tells.SESSIONS: "some" if world.sessions_of(subject) else "none",
            Tells.EVIDENCE_OF_HOST: "taken" if host.attested else "refused",
            Tells.PERSON: "suspended" if world.people.get(subject.name) else "active",
            Tells.HOST: "apart" if host.quarantined else "joined",
            Tells.LEASES: "some" if world.leases_of(subject) else "none",
            Tells.SAMPLING: "whole" if all(one.sampling_ppm == WHOLE for one in models) else "policy",
            Tells.DRAFT: "drafted" if any(str(subject) in one for one in self.drafts) else "none",
            Tells.RECEIPT: "taken" if self.receipts else "none",
        }[tells]


def _without(every: tuple[T, ...], gone: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(one for one in every if one not in gone)
