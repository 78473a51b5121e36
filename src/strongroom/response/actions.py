"""What an action against an incident is, and who may have it done.

An action is a value: nothing here acts. Which there are is in :mod:`~strongroom.response.action_list`. What stops
something may begin by itself on a sure signal, or be asked for by any one responder. What lets something go again takes
the model's quorum, and two people at least.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

from strongroom.core.canonical import encode
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, DeniedError
from strongroom.response.grading import Certainty
from strongroom.response.situation import Situation
from strongroom.response.subjects import Subject, SubjectKind

LEAST_QUORUM: Final = 2


class ActionName(StrEnum):
    """Every action."""

    FREEZE_RELEASES = "freeze-releases"
    RESUME_RELEASES = "resume-releases"
    ZERO_EGRESS = "zero-egress"
    RESTORE_EGRESS = "restore-egress"
    SNAPSHOT_EVIDENCE = "snapshot-evidence"
    LEGAL_HOLD = "legal-hold"
    LIFT_HOLD = "lift-hold"
    REVOKE_GRANTS = "revoke-grants"
    REVOKE_SESSIONS = "revoke-sessions"
    REVOKE_ATTESTATION = "revoke-attestation"
    QUARANTINE_PERSON = "quarantine-person"
    RELEASE_PERSON = "release-person"
    QUARANTINE_HOST = "quarantine-host"
    RELEASE_HOST = "release-host"
    EXPIRE_LEASES = "expire-leases"
    RAISE_SAMPLING = "raise-sampling"
    LOWER_SAMPLING = "lower-sampling"
    PREPARE_ROTATION = "prepare-rotation"
    PREPARE_SHREDDING = "prepare-shredding"
    NOTIFY = "notify"


class Authority(StrEnum):
    """Who may have an action done."""

    AUTOMATIC = "automatic"
    """A sure signal, or any one responder."""
    RESPONDER = "responder"
    QUORUM = "quorum"
    """The model's quorum, two people at least."""


class Wave(IntEnum):
    """The order of effects: what stops bytes comes before what writes about it, and that before everything else.

    A record first would let a slow or broken disk hold the freeze up. Each wave's commands are sent before the next's;
    what a wave couldn't do doesn't keep the next one back.
    """

    MEMORY = 0
    """The keeper refuses, from its own memory."""
    KERNEL = 1
    """Packets are dropped."""
    RECORD = 2
    """What was done and seen is on disk."""
    REST = 3


class Tells(StrEnum):
    """What a probe looks at."""

    RELEASE = "release"
    PACKET = "packet"
    EVIDENCE = "evidence"
    HOLD = "hold"
    GRANTS = "grants"
    SESSIONS = "sessions"
    EVIDENCE_OF_HOST = "attestation"
    PERSON = "person"
    HOST = "host"
    LEASES = "leases"
    SAMPLING = "sampling"
    DRAFT = "draft"
    RECEIPT = "receipt"


class ActionRefusedError(ConflictError):
    """An action's precondition doesn't hold."""

    code = "response-action-refused"


class AuthorityError(DeniedError):
    """Too few of those who may have agreed to an action."""

    code = "response-authority"


@dataclass(frozen=True, slots=True, kw_only=True)
class Falls:
    """What an action ends, by id, sorted: grants, sessions, leases, the hosts that those run on, and models."""

    models: tuple[str, ...] = ()
    grants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    leases: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many things fall: an action's blast radius."""
        return sum(len(part) for part in (self.models, self.grants, self.sessions, self.leases, self.hosts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What an adapter is to do. The same ``key`` again is the same command: it must not act a second time."""

    key: str
    action: ActionName
    subject: Subject
    parameters: Mapping[str, str | int] = field(default_factory=dict)


Asks = Callable[[Situation, Subject], str]
"""Returns why an action can't be done now, or nothing."""
Ends = Callable[[Situation, Subject], Falls]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One action, as data."""

    name: ActionName
    wave: Wave
    authority: Authority
    takes: frozenset[SubjectKind]
    blocked: Asks
    falls: Ends
    probe: Tells
    wanted: str
    """What the probe must answer once the action is done."""
    inverse: ActionName | None
    """What undoes it; None: it can't be undone, only done anew by a fresh grant, login or release."""
    within_ms: int
    """Its deadline, from the event to its verification, in milliseconds; ``is_late`` compares."""
    parameters: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """By what right: how sure the signal was, and who asked. ``quorum`` is how many the model's policy asks for."""

    certainty: Certainty
    people: frozenset[str] = frozenset()
    """People whose signatures were checked, each one listed for the role."""
    quorum: int = LEAST_QUORUM


def require_authority(action: Action, mandate: Mandate) -> None:
    """Check that enough of those who may have agreed.

    :raises AuthorityError: they haven't.
    """
    needed = {
        Authority.AUTOMATIC: 0 if mandate.certainty is Certainty.SURE else 1,
        Authority.RESPONDER: 1,
        # A policy may ask for more than two people; none may bring it down to one.
        Authority.QUORUM: max(LEAST_QUORUM, mandate.quorum),
    }[action.authority]
    if len(mandate.people) < needed:
        raise AuthorityError(
            f"`{action.name}` needs {needed} of those who may; {len(mandate.people)} agreed",
            remedy="have others who may look at the incident and agree",
        )


def key_of(*parts: str | int) -> str:
    """Return the key of one doing, from what makes it the one it is."""
    return Digest.of(encode(list(parts))).value.hex()[:32]
