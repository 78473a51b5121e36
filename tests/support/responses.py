"""Incidents, tokens and runs for tests of the response shelf, and the loop that a process around it would have."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from simulators.response_port import HOST, MODEL, PERSON, ResponsePort
from strongroom.core.digest import Digest
from strongroom.core.signature import Ed25519Signer
from strongroom.response.action_list import ACTIONS, brought_about, dry_run
from strongroom.response.actions import ActionRefusedError, Command
from strongroom.response.cacao import Playbook
from strongroom.response.drills import DrillToken
from strongroom.response.entries import Fact, Happened, IncidentEntry
from strongroom.response.executor import Answer, Library, agree, answer, begin, due, withheld
from strongroom.response.grading import Certainty, Severity
from strongroom.response.incident import Alert, Incident, fold, open_incident
from strongroom.response.run import Outcome, Pending, Run, RunStatus, Terms
from strongroom.response.subjects import Subject

NOW = 1_795_000_000
GENESIS = Digest.of(b"genesis")
MACHINE = "machine:responder"
TERMS = Terms(certainty=Certainty.SURE, eligible=frozenset({"dana", "eli", "finn"}), quorum=2)
SUBJECTS = {"model": f"model:{MODEL}", "person": f"person:{PERSON}", "host": f"host:{HOST}"}
MASTER = Ed25519Signer.from_seed(bytes(32))


def token(playbook: str, *, event: str = "host:file:opened") -> DrillToken:
    return DrillToken(
        genesis=GENESIS,
        playbook=playbook,
        event=event,
        subjects=tuple(Subject.parse(text) for text in SUBJECTS.values()),
        not_before=NOW - 60,
        expires=NOW + 3600,
        nonce=bytes(16),
    )


def alert(
    subject: str = "model:atlas", *, rule: str = "decoy-shard-opened", at: int = NOW, drill: Digest | None = None
) -> Alert:
    return Alert(
        rule=rule,
        certainty=Certainty.SURE,
        subject=Subject.parse(subject),
        at=at,
        event=Digest.of(f"{subject}{at}".encode()),
        micros=90,
        drill=drill,
    )


@dataclass
class Record:
    """A record that grows: each entry is applied, and read back from its bytes."""

    entries: list[IncidentEntry]

    @classmethod
    def of(cls, first: Alert, severity: Severity = Severity.CRITICAL) -> Record:
        return cls([open_incident(first, severity, by=MACHINE, at=first.at)])

    @property
    def incident(self) -> Incident:
        return fold(IncidentEntry.parse(entry.to_bytes()) for entry in self.entries)

    def add(self, happened: Happened, facts: Mapping[str, Fact], by: str = MACHINE, at: int = NOW) -> Incident:
        entry = self.incident.next(happened, by, at, facts)
        after = self.incident.apply(entry)
        self.entries.append(entry)
        return after


@dataclass
class Disk:
    """What survives a kill."""

    run: bytes = b""
    writes: int = 0


@dataclass
class Response:
    """The loop around the executor: save, send, answer; with a record beside it where one is given."""

    library: Library
    port: ResponsePort
    answers: Mapping[str, Mapping[str, str]]
    """What people say to a step of this name."""
    disk: Disk = field(default_factory=Disk)
    record: Record | None = None
    agrees: tuple[str, ...] = ("dana", "eli")

    def save(self, run: Run) -> Run:
        self.port.fuse.step()
        self.disk.run = run.to_bytes()
        self.disk.writes += 1
        self.port.fuse.step()
        return run

    def start(self, playbook: Playbook, variables: Mapping[str, str]) -> Run:
        run = begin(self.library, playbook.id, incident="inc-1", variables=variables, terms=TERMS, now=NOW)
        return self.go_on(self.save(run))

    def resume(self) -> Run:
        return self.go_on(Run.parse(self.disk.run))

    def go_on(self, run: Run) -> Run:
        while run.status is RunStatus.RUNNING:
            for held in withheld(run):
                for person in self.agrees:
                    run = self.save(agree(run, held.key, person, NOW))
            ready = due(run)
            if not ready:
                return run
            for one in ready:
                told = self.send(one) if isinstance(one, Command) else self.ask(run, one)
                run = self.save(answer(run, self.library, told, NOW))
        return run

    def send(self, command: Command) -> Answer:
        if self.record is not None:
            self.note(command, Happened.ACTION_PROPOSED)
            with suppress(ActionRefusedError):
                falls = dry_run(command.action, command.subject, self.port.world)
                self.note(command, Happened.ACTION_TRIED, falls=falls.count)
        told = self.port.do(command)
        if self.record is not None:
            self.conclude(command, told)
        return told

    def conclude(self, command: Command, told: Answer) -> None:
        if told.outcome is not Outcome.DONE:
            self.note(command, Happened.ACTION_FAILED, cause=told.outcome.value)
            return
        self.note(command, Happened.ACTION_DONE, micros=120)
        answer_ = self.port.probe(ACTIONS[command.action].probe, command.subject)
        if brought_about(command.action, answer_):
            self.note(command, Happened.ACTION_VERIFIED, answer=answer_, micros=150)

    def note(self, command: Command, happened: Happened, **facts: Fact) -> None:
        assert self.record is not None
        named = {"action": command.action.value, "subject": str(command.subject), "key": command.key}
        self.record.add(happened, {**named, **facts})

    def ask(self, run: Run, asked: Pending) -> Answer:
        thread = next(one for one in run.threads if one.id == asked.thread)
        step = self.library[thread.playbook].steps[thread.step]
        return Answer(key=asked.key, outcome=Outcome.DONE, found=self.answers.get(step.name, {}), by="dana")


def variables_of(playbook: Playbook) -> dict[str, str]:
    return {name: SUBJECTS[name] for name in playbook.external}
