"""A drill's stand-ins: a small world of their own, with something of each kind that can fall. Nothing real is in it.

It lies beside the drill's record, on the disk before a command counts as done, and a probe looks at it and at nothing
else. So a process that is killed in a drill finds its stand-ins as it left them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Clock, format_instant
from strongroom.core.fields import Fields
from strongroom.responder.cases import Case
from strongroom.responder.evidence import (
    Receipts,
    hold,
    is_drafted,
    is_held,
    is_whole,
    keep_draft,
    keep_evidence,
)
from strongroom.responder.ports import DONE, Told
from strongroom.response.action_list import ACTIONS, WHOLE
from strongroom.response.actions import ActionName, Command, Tells
from strongroom.response.situation import GrantFacts, HostFacts, LeaseFacts, ModelFacts, SessionFacts, Situation
from strongroom.response.subjects import Subject, SubjectKind

MAX_WORLD: Final = 65536
_N: Final = ActionName
_EFFECTS: Final[Mapping[ActionName, tuple[str, bool]]] = MappingProxyType(
    {
        _N.FREEZE_RELEASES: ("frozen", True),
        _N.RESUME_RELEASES: ("frozen", False),
        _N.ZERO_EGRESS: ("closed", True),
        _N.RESTORE_EGRESS: ("closed", False),
        _N.RAISE_SAMPLING: ("sampled", True),
        _N.LOWER_SAMPLING: ("sampled", False),
        _N.QUARANTINE_PERSON: ("suspended", True),
        _N.RELEASE_PERSON: ("suspended", False),
        _N.QUARANTINE_HOST: ("apart", True),
        _N.RELEASE_HOST: ("apart", False),
        _N.REVOKE_ATTESTATION: ("unattested", True),
        _N.REVOKE_GRANTS: ("no-grants", True),
        _N.REVOKE_SESSIONS: ("no-sessions", True),
        _N.EXPIRE_LEASES: ("no-leases", True),
    }
)
"""What each action changes of a stand-in: which mark, and whether it is set or taken away."""


class ShadowPort:
    """Does a drill's commands, on its stand-ins."""

    def __init__(self, receipts: Receipts, clock: Clock) -> None:
        self._receipts = receipts
        self._clock = clock
        self._changing = asyncio.Lock()

    async def situation(self, case: Case) -> Situation:
        """Return how the stand-ins stand."""
        marks = await self._marks(case)
        return _world(marks, () if case.token is None else case.token.subjects, case)

    async def do(self, case: Case, command: Command) -> Told:
        """Do a command."""
        now = self._clock.now()
        match command.action:
            case ActionName.SNAPSHOT_EVIDENCE:
                seen = encode({"drill": case.id, "at": format_instant(now), "about": str(command.subject)})
                await keep_evidence(case, command, seen, entries=0)
            case ActionName.LEGAL_HOLD | ActionName.LIFT_HOLD:
                await hold(case, command, now)
            case ActionName.PREPARE_ROTATION | ActionName.PREPARE_SHREDDING:
                await keep_draft(case, command, {}, now)
            case ActionName.NOTIFY:
                return self._receipts.notify(case)
            case _:
                await self._change(case, command)
        return DONE

    async def probe(self, case: Case, command: Command) -> str:
        """Look at the stand-ins."""
        match ACTIONS[command.action].probe:
            case Tells.EVIDENCE:
                return await is_whole(case, command)
            case Tells.HOLD:
                return await is_held(case)
            case Tells.DRAFT:
                return await is_drafted(case, command)
            case Tells.RECEIPT:
                return self._receipts.seen(case)
            case _:
                return _seen(await self.situation(case), command)

    async def _change(self, case: Case, command: Command) -> None:
        mark, sets = _EFFECTS[command.action]
        named = {f"{mark} {command.subject}"}
        async with self._changing:
            before = await self._marks(case)
            after = before | named if sets else before - named
            if after != before:
                marks = encode({"marks": list[Json](sorted(after))})
                await asyncio.to_thread(case.store.save_world, case.id, marks)

    async def _marks(self, case: Case) -> frozenset[str]:
        data = await asyncio.to_thread(case.store.world, case.id)
        if data is None:
            return frozenset()
        with Fields(decode(data, max_bytes=MAX_WORLD), "world") as fields:
            return frozenset(fields.texts("marks", most=256))


def _world(marks: frozenset[str], subjects: tuple[Subject, ...], case: Case) -> Situation:
    def has(mark: str, kind: SubjectKind, name: str) -> bool:
        return f"{mark} {kind.value}:{name}" in marks

    named = {kind: [one.name for one in subjects if one.kind is kind] for kind in SubjectKind}
    model, person, host = (
        next(iter(named[kind]), "none") for kind in (SubjectKind.MODEL, SubjectKind.PERSON, SubjectKind.HOST)
    )

    def ended(mark: str) -> bool:
        return any(one.startswith(f"{mark} ") for one in marks)

    return Situation(
        models={
            name: ModelFacts(
                frozen=has("frozen", SubjectKind.MODEL, name),
                egress_closed=has("closed", SubjectKind.MODEL, name),
                sampling_ppm=WHOLE if has("sampled", SubjectKind.MODEL, name) else 0,
            )
            for name in named[SubjectKind.MODEL]
        },
        hosts={
            name: HostFacts(
                quarantined=has("apart", SubjectKind.HOST, name),
                attested=not has("unattested", SubjectKind.HOST, name),
                egress_closed=has("closed", SubjectKind.HOST, name),
            )
            for name in named[SubjectKind.HOST]
        },
        people={name: has("suspended", SubjectKind.PERSON, name) for name in named[SubjectKind.PERSON]},
        grants=() if ended("no-grants") else (GrantFacts(id="g1", person=person, model=model),),
        leases=() if ended("no-leases") else (LeaseFacts(id="l1", person=person, model=model, host=host),),
        sessions=() if ended("no-sessions") else (SessionFacts(id="s1", owner=person),),
        evidence_frozen=bool(case.incident.evidence),
        on_hold=case.held,
    )


def _seen(world: Situation, command: Command) -> str:
    subject = command.subject
    models = [world.models[name] for name in world.models_of(subject)]
    host = world.hosts.get(subject.name, HostFacts())
    closed = host.egress_closed if subject.kind is SubjectKind.HOST else all(one.egress_closed for one in models)
    return {
        Tells.RELEASE: "refused" if all(one.frozen for one in models) else "allowed",
        Tells.PACKET: "lost" if closed else "passed",
        Tells.GRANTS: "some" if world.grants_of(subject) else "none",
        Tells.SESSIONS: "some" if world.sessions_of(subject) else "none",
        Tells.EVIDENCE_OF_HOST: "taken" if host.attested else "refused",
        Tells.PERSON: "suspended" if world.people.get(subject.name) else "active",
        Tells.HOST: "apart" if host.quarantined else "joined",
        Tells.LEASES: "some" if world.leases_of(subject) else "none",
        Tells.SAMPLING: "whole" if all(one.sampling_ppm == WHOLE for one in models) else "policy",
    }[ACTIONS[command.action].probe]
