"""What can be done about an incident: a closed list of actions, each with what it needs, does, and is checked by.

``prepare`` checks an action's precondition over a situation and returns the command for an adapter, with a key under
which doing it twice is doing it once. ``dry_run`` says what would fall. ``brought_about`` holds an answer of a probe
against what the action must bring about: an effect that nobody looked at isn't one.

Rotation and shredding are only prepared here: a draft of the request that the quorum would have to sign. No signal,
however sure, destroys a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from strongroom.core.errors import UsageError
from strongroom.response.actions import (
    Action,
    ActionName,
    ActionRefusedError,
    Asks,
    Authority,
    Ends,
    Falls,
    Tells,
    Wave,
)
from strongroom.response.situation import Situation
from strongroom.response.subjects import Subject, SubjectKind

WHOLE: Final = 1_000_000
"""All answers, in millionths."""

# --- preconditions and what falls -------------------------------------------------------------------------------------


def _never(_situation: Situation, _subject: Subject) -> str:
    return ""


def _known_model(situation: Situation, subject: Subject) -> str:
    return "" if situation.models_of(subject) or subject.kind is not SubjectKind.MODEL else "no such model is known"


def _is_frozen(situation: Situation, subject: Subject) -> str:
    frozen = any(situation.models[name].frozen for name in situation.models_of(subject))
    return "" if frozen else "nothing of it is frozen"


def _egress_is_closed(situation: Situation, subject: Subject) -> str:
    if subject.kind is SubjectKind.HOST:
        closed = subject.name in situation.hosts and situation.hosts[subject.name].egress_closed
    else:
        closed = any(situation.models[name].egress_closed for name in situation.models_of(subject))
    return "" if closed else "its egress isn't closed"


def _known_host(situation: Situation, subject: Subject) -> str:
    return "" if subject.name in situation.hosts else "no such host is known"


def _host_is_out(situation: Situation, subject: Subject) -> str:
    host = situation.hosts.get(subject.name)
    return "" if host is not None and host.quarantined else "the host isn't in quarantine"


def _known_person(situation: Situation, subject: Subject) -> str:
    return "" if subject.name in situation.people else "no such person is known"


def _person_is_out(situation: Situation, subject: Subject) -> str:
    return "" if situation.people.get(subject.name, False) else "the person isn't suspended"


def _evidence_first(situation: Situation, subject: Subject) -> str:
    # A new key makes what the old one opened unreadable to those who must find out what was read.
    if not situation.evidence_frozen:
        return "the evidence isn't frozen yet"
    return _known_model(situation, subject)


def _on_hold(situation: Situation, _subject: Subject) -> str:
    return "" if situation.on_hold else "nothing is on hold"


def _evidence_exists(situation: Situation, _subject: Subject) -> str:
    return "" if situation.evidence_frozen else "the evidence isn't frozen yet: there is nothing to hold"


def _sampled(situation: Situation, subject: Subject) -> str:
    raised = any(situation.models[name].sampling_ppm == WHOLE for name in situation.models_of(subject))
    return "" if raised else "its sampling isn't raised"


def _nothing(_situation: Situation, _subject: Subject) -> Falls:
    return Falls()


def _releases(situation: Situation, subject: Subject) -> Falls:
    return Falls(models=tuple(name for name in situation.models_of(subject) if not situation.models[name].frozen))


def _egress(situation: Situation, subject: Subject) -> Falls:
    models = tuple(name for name in situation.models_of(subject) if not situation.models[name].egress_closed)
    leases = situation.leases_of(subject)
    return Falls(models=models, hosts=tuple(sorted({lease.host for lease in leases})))


def _grants(situation: Situation, subject: Subject) -> Falls:
    return Falls(grants=tuple(sorted(grant.id for grant in situation.grants_of(subject))))


def _sessions(situation: Situation, subject: Subject) -> Falls:
    return Falls(sessions=tuple(sorted(one.id for one in situation.sessions_of(subject))))


def _leases(situation: Situation, subject: Subject) -> Falls:
    leases = situation.leases_of(subject)
    return Falls(
        leases=tuple(sorted(lease.id for lease in leases)), hosts=tuple(sorted({lease.host for lease in leases}))
    )


def _host(situation: Situation, subject: Subject) -> Falls:
    leases = tuple(sorted(lease.id for lease in situation.leases_of(subject)))
    return Falls(leases=leases, hosts=(subject.name,))


def _person(situation: Situation, subject: Subject) -> Falls:
    return Falls(
        grants=_grants(situation, subject).grants,
        sessions=_sessions(situation, subject).sessions,
        leases=_leases(situation, subject).leases,
    )


# --- the list ---------------------------------------------------------------------------------------------------------

_K: Final = SubjectKind
_MODEL: Final = frozenset({_K.MODEL})
_MODELS: Final = frozenset({_K.MODEL, _K.DEPLOYMENT})
_HOST: Final = frozenset({_K.HOST})
_PERSON: Final = frozenset({_K.PERSON})
_ANY: Final = frozenset(SubjectKind)
_N: Final = ActionName
_A: Final = Authority


def _action(
    name: ActionName,
    authority: Authority,
    takes: frozenset[SubjectKind],
    blocked: Asks,
    falls: Ends,
    probe: tuple[Tells, str],
    inverse: ActionName | None,
    *,
    wave: Wave = Wave.REST,
    within_ms: int = 60_000,
    parameters: Mapping[str, str | int] | None = None,
) -> Action:
    return Action(
        name=name,
        wave=wave,
        authority=authority,
        takes=takes,
        blocked=blocked,
        falls=falls,
        probe=probe[0],
        wanted=probe[1],
        inverse=inverse,
        within_ms=within_ms,
        parameters=MappingProxyType(parameters or {}),
    )


_LIST: Final = (
    _action(
        _N.FREEZE_RELEASES,
        _A.AUTOMATIC,
        _MODELS,
        _known_model,
        _releases,
        (Tells.RELEASE, "refused"),
        _N.RESUME_RELEASES,
        wave=Wave.MEMORY,
        within_ms=5,
    ),
    _action(
        _N.RESUME_RELEASES, _A.QUORUM, _MODELS, _is_frozen, _nothing, (Tells.RELEASE, "allowed"), _N.FREEZE_RELEASES
    ),
    _action(
        _N.ZERO_EGRESS,
        _A.AUTOMATIC,
        _MODELS | _HOST,
        _known_model,
        _egress,
        (Tells.PACKET, "lost"),
        _N.RESTORE_EGRESS,
        wave=Wave.KERNEL,
        within_ms=5,
    ),
    _action(
        _N.RESTORE_EGRESS,
        _A.QUORUM,
        _MODELS | _HOST,
        _egress_is_closed,
        _nothing,
        (Tells.PACKET, "passed"),
        _N.ZERO_EGRESS,
    ),
    _action(
        _N.SNAPSHOT_EVIDENCE,
        _A.AUTOMATIC,
        _ANY,
        _never,
        _nothing,
        (Tells.EVIDENCE, "whole"),
        None,
        wave=Wave.RECORD,
        within_ms=600_000,
    ),
    _action(
        _N.LEGAL_HOLD,
        _A.RESPONDER,
        _ANY,
        _evidence_exists,
        _nothing,
        (Tells.HOLD, "held"),
        _N.LIFT_HOLD,
        wave=Wave.RECORD,
    ),
    _action(_N.LIFT_HOLD, _A.QUORUM, _ANY, _on_hold, _nothing, (Tells.HOLD, "lifted"), _N.LEGAL_HOLD),
    _action(_N.REVOKE_GRANTS, _A.AUTOMATIC, _PERSON | _MODELS, _never, _grants, (Tells.GRANTS, "none"), None),
    _action(
        _N.REVOKE_SESSIONS,
        _A.AUTOMATIC,
        _PERSON | {_K.SERVICE, _K.DEPLOYMENT},
        _never,
        _sessions,
        (Tells.SESSIONS, "none"),
        None,
        within_ms=1_000,
    ),
    # An enrolled platform that is revoked is never served again, so a person asks for it.
    _action(
        _N.REVOKE_ATTESTATION,
        _A.RESPONDER,
        _HOST,
        _known_host,
        _host,
        (Tells.EVIDENCE_OF_HOST, "refused"),
        None,
    ),
    _action(
        _N.QUARANTINE_PERSON,
        _A.AUTOMATIC,
        _PERSON,
        _known_person,
        _person,
        (Tells.PERSON, "suspended"),
        _N.RELEASE_PERSON,
        within_ms=1_000,
    ),
    _action(
        _N.RELEASE_PERSON, _A.QUORUM, _PERSON, _person_is_out, _nothing, (Tells.PERSON, "active"), _N.QUARANTINE_PERSON
    ),
    _action(
        _N.QUARANTINE_HOST,
        _A.AUTOMATIC,
        _HOST,
        _known_host,
        _host,
        (Tells.HOST, "apart"),
        _N.RELEASE_HOST,
        wave=Wave.KERNEL,
        within_ms=1_000,
    ),
    _action(_N.RELEASE_HOST, _A.QUORUM, _HOST, _host_is_out, _nothing, (Tells.HOST, "joined"), _N.QUARANTINE_HOST),
    _action(
        _N.EXPIRE_LEASES,
        _A.AUTOMATIC,
        frozenset({_K.MODEL, _K.PERSON, _K.HOST, _K.DEPLOYMENT}),
        _never,
        _leases,
        (Tells.LEASES, "none"),
        None,
    ),
    _action(
        _N.RAISE_SAMPLING,
        _A.AUTOMATIC,
        _MODELS,
        _known_model,
        _nothing,
        (Tells.SAMPLING, "whole"),
        _N.LOWER_SAMPLING,
        parameters={"ppm": WHOLE},
    ),
    _action(
        _N.LOWER_SAMPLING,
        _A.QUORUM,
        _MODELS,
        _sampled,
        _nothing,
        (Tells.SAMPLING, "policy"),
        _N.RAISE_SAMPLING,
    ),
    _action(
        _N.PREPARE_ROTATION,
        _A.AUTOMATIC,
        _MODEL,
        _evidence_first,
        _nothing,
        (Tells.DRAFT, "drafted"),
        None,
        parameters={"request": "rotate"},
    ),
    _action(
        _N.PREPARE_SHREDDING,
        _A.RESPONDER,
        _MODEL,
        _evidence_first,
        _nothing,
        (Tells.DRAFT, "drafted"),
        None,
        parameters={"request": "destroy"},
    ),
    _action(_N.NOTIFY, _A.AUTOMATIC, _ANY, _never, _nothing, (Tells.RECEIPT, "taken"), None),
)
ACTIONS: Final[Mapping[ActionName, Action]] = MappingProxyType({action.name: action for action in _LIST})
"""Every action by name."""
CONTAINMENT: Final = frozenset(
    action.name for action in _LIST if action.authority is Authority.AUTOMATIC and action.wave <= Wave.KERNEL
)
"""The actions that stop bytes: what the time to contain is measured to."""


# --- what is done with them -------------------------------------------------------------------------------------------


def dry_run(name: ActionName, subject: Subject, situation: Situation) -> Falls:
    """Return what an action would end, without doing it.

    :raises UsageError: the action isn't one for such a subject.
    :raises ActionRefusedError: it can't be done as things stand.
    """
    action = _fitting(name, subject)
    why = action.blocked(situation, subject)
    if why:
        raise ActionRefusedError(f"`{name}` of `{subject}`: {why}")
    return action.falls(situation, subject)


def brought_about(name: ActionName, answer: str) -> bool:
    """Return whether a probe's answer is the one that the action must have brought about."""
    return answer == ACTIONS[name].wanted


def is_late(name: ActionName, micros: int) -> bool:
    """Return whether an action came later than its deadline.

    :param micros: microseconds from the event to its verification.
    """
    return micros > ACTIONS[name].within_ms * 1000


def in_order(names: tuple[ActionName, ...]) -> tuple[ActionName, ...]:
    """Return actions in the order in which they are sent: by waves, and as given within each."""
    return tuple(sorted(names, key=lambda name: ACTIONS[name].wave))


def _fitting(name: ActionName, subject: Subject) -> Action:
    action = ACTIONS[name]
    if subject.kind not in action.takes:
        raise UsageError(f"`{name}` can't be done to a `{subject.kind}`")
    return action
