"""What is so at a moment, as far as actions ask: a value that whoever wires this fills from the keeper and the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from strongroom.response.subjects import Subject, SubjectKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A model: ``sampling_ppm`` is the share of its answers that is verified, in millionths."""

    frozen: bool = False
    egress_closed: bool = False
    sampling_ppm: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantFacts:
    """A live grant."""

    id: str
    person: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseFacts:
    """A live lease: an enclave on a host that holds a model's bytes because a person asked."""

    id: str
    person: str
    model: str
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """A live session of a person or a service."""

    id: str
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """A host."""

    quarantined: bool = False
    attested: bool = False
    egress_closed: bool = False


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Everything that actions may look at."""

    models: Mapping[str, ModelFacts] = field(default_factory=dict)
    hosts: Mapping[str, HostFacts] = field(default_factory=dict)
    people: Mapping[str, bool] = field(default_factory=dict)
    """Person -> whether they are suspended."""
    grants: tuple[GrantFacts, ...] = ()
    leases: tuple[LeaseFacts, ...] = ()
    sessions: tuple[SessionFacts, ...] = ()
    evidence_frozen: bool = False
    """Whether this incident's evidence was copied already."""
    on_hold: bool = False
    """Whether this incident's evidence is under a legal hold."""

    def models_of(self, subject: Subject) -> tuple[str, ...]:
        """Return the models that a subject stands for: itself, or all of them."""
        if subject.kind is SubjectKind.DEPLOYMENT:
            return tuple(sorted(self.models))
        return (subject.name,) if subject.kind is SubjectKind.MODEL and subject.name in self.models else ()

    def leases_of(self, subject: Subject) -> tuple[LeaseFacts, ...]:
        """Return the live leases on, by, of or anywhere in a subject."""
        return tuple(lease for lease in self.leases if _concerns(subject, lease.model, lease.person, lease.host))

    def grants_of(self, subject: Subject) -> tuple[GrantFacts, ...]:
        """Return the live grants of a person or of a model."""
        return tuple(grant for grant in self.grants if _concerns(subject, grant.model, grant.person, ""))

    def sessions_of(self, subject: Subject) -> tuple[SessionFacts, ...]:
        """Return the live sessions of a person or service."""
        everyone = subject.kind is SubjectKind.DEPLOYMENT
        return tuple(one for one in self.sessions if everyone or one.owner == subject.name)


def _concerns(subject: Subject, model: str, person: str, host: str) -> bool:
    named = {SubjectKind.MODEL: model, SubjectKind.PERSON: person, SubjectKind.HOST: host}
    return subject.kind is SubjectKind.DEPLOYMENT or named.get(subject.kind) == subject.name
