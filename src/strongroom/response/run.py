"""A playbook's run, as it is kept: what is under way, what waits for whom, and what was answered. Canonical bytes.

A run is bound to the digests of the playbooks that it follows: a run that began under one text isn't carried on under
another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.response.actions import ActionName
from strongroom.response.grading import Certainty
from strongroom.response.subjects import Subject

T = TypeVar("T")
_KEY: Final = re.compile(r"[0-9a-f]{32}")
MAX_RUN: Final = 1 << 20
LONG: Final = MAX_RUN // 2
"""Bytes from which on a run is stopped: what is written can be read again, and is shown in one frame."""
MAX_THREADS: Final = 512
MAX_KEPT: Final = 4096
MAX_PEOPLE: Final = 64
MAX_VARIABLES: Final = 64
MAX_VALUE: Final = 256
"""Characters of one variable's value."""


class RunStatus(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    ENDED = "ended"
    """Every step came to its end; ``failures`` says which ones failed on the way."""
    FAILED = "failed"
    """A step failed and nothing said what to do then. A person must look."""
    SUPERSEDED = "superseded"
    """A surer signal began the playbook anew."""


class Doing(StrEnum):
    """What a thread does."""

    MOVING = "moving"
    ANSWER = "answer"
    """It waits for the answer to its step's command."""
    BRANCHES = "branches"
    """It waits for the threads below it."""
    DELAY = "delay"
    DONE = "done"
    BROKEN = "broken"
    """It came to an end by a failure that nothing took up."""


class Outcome(StrEnum):
    """How a command went."""

    DONE = "done"
    FAILED = "failed"
    TIMED_OUT = "timed-out"
    REFUSED = "refused"
    """It was never sent: its precondition didn't hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """One line of execution. ``id`` is its path: two runs that do the same have the same paths, whatever came first."""

    id: str
    parent: str
    playbook: str
    step: str
    doing: Doing = Doing.MOVING
    visits: int = 0
    """How many steps it has come to."""
    rounds: int = 0
    """How often its present loop went around."""
    since: Instant = 0
    """When it came to its step."""

    @classmethod
    def read(cls, fields: Fields) -> Thread:
        """Read the JSON form."""
        return cls(
            id=fields.text("id"),
            parent=fields.text("parent"),
            playbook=fields.text("playbook", max_length=96),
            step=fields.text("step", max_length=96),
            doing=fields.parsed("doing", Doing),
            visits=fields.integer("visits"),
            rounds=fields.integer("rounds"),
            since=fields.instant("since"),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {
            "id": self.id,
            "parent": self.parent,
            "playbook": self.playbook,
            "step": self.step,
            "doing": self.doing.value,
            "visits": self.visits,
            "rounds": self.rounds,
            "since": format_instant(self.since),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A command that has no answer yet. ``action`` is None for what a person is asked to do; ``text`` says it."""

    key: str
    thread: str
    action: ActionName | None
    subject: Subject | None
    text: str
    since: Instant
    deadline: Instant | None
    agreed: frozenset[str] = frozenset()
    """Who agreed to it: signatures are checked before a name comes here."""
    held: bool = False
    """Whether the budget of automatic containment holds it back: it needs a person, however sure the signal was."""

    @classmethod
    def read(cls, fields: Fields) -> Pending:
        """Read the JSON form."""
        return cls(
            key=fields.parsed("key", _key),
            thread=fields.text("thread"),
            action=fields.parsed("action", ActionName) if fields.optional("action") else None,
            subject=fields.parsed("subject", Subject.parse) if fields.optional("subject") else None,
            text=fields.text("text", max_length=2000),
            since=fields.instant("since"),
            deadline=fields.instant("deadline") if fields.optional("deadline") else None,
            agreed=_distinct(fields, "agreed"),
            held=fields.boolean("held"),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {
            "key": self.key,
            "thread": self.thread,
            "action": None if self.action is None else self.action.value,
            "subject": None if self.subject is None else str(self.subject),
            "text": self.text,
            "since": format_instant(self.since),
            "deadline": None if self.deadline is None else format_instant(self.deadline),
            "agreed": list[Json](sorted(self.agreed)),
            "held": self.held,
        }


def _key(text: str) -> str:
    # Shown inside commands that people copy into a shell.
    if not _KEY.fullmatch(text):
        raise MalformedError("a key is 32 digits in hex")
    return text


def _distinct(fields: Fields, name: str) -> frozenset[str]:
    people = fields.texts(name, most=MAX_PEOPLE, max_length=64)
    if list(people) != sorted(set(people)):
        raise MalformedError(f"`{fields.where}.{name}` must name each one once, in order")
    return frozenset(people)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A command's answer: kept so that the same answer again changes nothing."""

    key: str
    step: str
    outcome: Outcome
    by: str
    """Who answered what a person was asked; empty for a port."""
    at: Instant

    @classmethod
    def read(cls, fields: Fields) -> Answered:
        """Read the JSON form."""
        return cls(
            key=fields.parsed("key", _key),
            step=fields.text("step", max_length=96),
            outcome=fields.parsed("outcome", Outcome),
            by=fields.text("by", max_length=64),
            at=fields.instant("at"),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {
            "key": self.key,
            "step": self.step,
            "outcome": self.outcome.value,
            "by": self.by,
            "at": format_instant(self.at),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a run was begun with and doesn't change: how sure the signal was, and who may agree to what."""

    certainty: Certainty
    eligible: frozenset[str]
    """People who may agree: the model's quorum, as the policy in force lists it."""
    quorum: int

    @classmethod
    def read(cls, fields: Fields) -> Terms:
        """Read the JSON form."""
        return cls(
            certainty=fields.parsed("certainty", Certainty),
            eligible=_distinct(fields, "eligible"),
            quorum=fields.integer("quorum", least=2, most=MAX_PEOPLE),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        return {
            "certainty": self.certainty.value,
            "eligible": list[Json](sorted(self.eligible)),
            "quorum": self.quorum,
        }


@dataclass(frozen=True, kw_only=True)
class Run:
    """The whole state of one run."""

    id: str
    incident: str
    books: Mapping[str, Digest]
    """Playbook id -> the digest of the text that the run follows."""
    terms: Terms
    status: RunStatus = RunStatus.RUNNING
    variables: Mapping[str, str] = field(default_factory=dict)
    threads: tuple[Thread, ...] = ()
    pending: tuple[Pending, ...] = ()
    answered: tuple[Answered, ...] = ()
    failures: tuple[str, ...] = ()
    """Steps that failed, in order."""

    @property
    def size(self) -> int:
        """How many steps all threads came to."""
        return sum(thread.visits for thread in self.threads)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: what is on disk before any of the run's commands is sent."""
        return encode(
            {
                "v": 1,
                "id": self.id,
                "incident": self.incident,
                "books": {name: str(digest) for name, digest in self.books.items()},
                "terms": self.terms.to_json(),
                "status": self.status.value,
                "variables": dict(self.variables),
                "threads": [thread.to_json() for thread in self.threads],
                "pending": [one.to_json() for one in self.pending],
                "answered": [one.to_json() for one in self.answered],
                "failures": list(self.failures),
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Run:
        """Read canonical bytes.

        :raises MalformedError: another form, or parts that don't fit each other.
        """
        with Fields(decode(data, max_bytes=MAX_RUN), "run") as fields:
            fields.constant("v", 1)
            with fields.child("terms") as terms:
                read_terms = Terms.read(terms)
            run = cls(
                id=fields.text("id", max_length=64),
                incident=fields.text("incident", max_length=64),
                books=_texts(fields, "books", Digest.parse),
                terms=read_terms,
                status=fields.parsed("status", RunStatus),
                variables=_texts(fields, "variables", str),
                threads=fields.objects("threads", Thread.read, most=MAX_THREADS),
                pending=fields.objects("pending", Pending.read, most=MAX_THREADS),
                answered=fields.objects("answered", Answered.read, most=MAX_KEPT),
                failures=fields.texts("failures", most=MAX_KEPT),
            )
        run.check()
        return run

    def check(self) -> None:
        """Check that the parts fit each other.

        :raises MalformedError: they don't.
        """
        ids = [thread.id for thread in self.threads]
        waiting = sorted(thread.id for thread in self.threads if thread.doing is Doing.ANSWER)
        keys = [one.key for one in self.pending] + [one.key for one in self.answered]
        if len(set(ids)) != len(ids) or len(set(keys)) != len(keys):
            raise MalformedError("the run has a thread or a command twice")
        if sorted(one.thread for one in self.pending) != waiting:
            raise MalformedError("the run's waiting threads and open commands don't fit each other")
        if any((one.action is None) is not (one.subject is None) for one in self.pending):
            raise MalformedError("the run has a command about nothing, or a question about something")
        if any(thread.parent and thread.parent not in ids for thread in self.threads):
            raise MalformedError("the run has a thread below none")
        if any(thread.playbook not in self.books for thread in self.threads):
            raise MalformedError("the run has a thread in a playbook that it doesn't follow")


def _texts(fields: Fields, name: str, read: Callable[[str], T]) -> dict[str, T]:
    with fields.child(name) as child:
        return {key: child.parsed(key, read) for key in child.names(most=MAX_VARIABLES)}
