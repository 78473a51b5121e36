"""What a response does to the deployment: what a responder of the roster may do, and nothing more.

It freezes, has somebody suspended, takes precautions, and shuts the gates of this host. The rules let only people
revoke and give back: a command for either waits until people did it elsewhere, by requests of their own, and a probe
sees it. What this deployment has no means for is refused, and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from strongroom.client.told import GrantShown
from strongroom.core.canonical import Json, encode
from strongroom.core.clock import Clock, format_instant
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ModelId, PlatformId, person_id
from strongroom.ipc.adapters.client import UnixClient
from strongroom.personnel.lifecycle import SuspensionCause
from strongroom.release.precautions import PrecautionKind
from strongroom.responder.acting import Gate, Stops
from strongroom.responder.adapters.known import MAX_GRANTS_SHOWN, KnownDeployment, Standing
from strongroom.responder.adapters.precautions import KeeperPrecautions
from strongroom.responder.cases import Case
from strongroom.responder.evidence import Receipts, hold, is_drafted, is_whole, keep_draft, keep_evidence
from strongroom.responder.ports import DONE, Told, awaits, refused
from strongroom.response.action_list import ACTIONS, WHOLE
from strongroom.response.actions import ActionName, Command, Tells
from strongroom.response.situation import GrantFacts, HostFacts, ModelFacts, Situation
from strongroom.response.subjects import EVERYTHING, Subject, SubjectKind

Does = Callable[[Case, Command], Awaitable[Told]]
Looks = Callable[[Case, Command], Awaitable[str]]
_LETS_GO: Final[Mapping[ActionName, str]] = {
    ActionName.RESUME_RELEASES: "people-resume-it",
    ActionName.RESTORE_EGRESS: "people-open-its-gate",
    ActionName.RELEASE_PERSON: "officers-vet-anew",
    ActionName.RELEASE_HOST: "people-open-its-gate",
    ActionName.LOWER_SAMPLING: "people-lift-it",
    ActionName.LIFT_HOLD: "people-lift-it",
}
"""What people do themselves, and what is waited for."""


class DeploymentPort:
    """Does commands on the deployment.

    :param gates: the gates of this host, by the models whose enclaves speak through them.
    :param platforms: the enrolled platforms of each host.
    :param own_record: how far the responder's own record has come: evidence, too.
    """

    def __init__(
        self,
        known: KnownDeployment,
        client: UnixClient,
        stops: Stops,
        gates: Mapping[ModelId, Sequence[Gate]],
        receipts: Receipts,
        *,
        host: str,
        platforms: Mapping[str, Sequence[PlatformId]],
        clock: Clock,
        own_record: Callable[[], Json],
    ) -> None:
        self._precautions = KeeperPrecautions(client, known.session)
        self._known = known
        self._client = client
        self._stops = stops
        self._gates = gates
        self._receipts = receipts
        self._host = host
        self._platforms = platforms
        self._clock = clock
        self._own_record = own_record
        self._does = self._doing()
        self._looks = self._looking()

    async def situation(self, case: Case) -> Situation:
        """Return what the keeper says, and how the gates here stand. Live leases aren't known here."""
        now = await self._known.standing()
        models = {model: (model in now.frozen) for model in self._known.models_of(EVERYTHING)}
        models |= dict.fromkeys(now.frozen, True)
        shut = {model: await self._are_shut(self._gates.get(model, ())) for model in models}
        here = await self._are_shut(self._of_host())
        hosts = {host: HostFacts(attested=True) for host in self._platforms}
        hosts[self._host] = HostFacts(quarantined=here, egress_closed=here, attested=self._host in self._platforms)
        return Situation(
            models={
                name: ModelFacts(
                    frozen=frozen,
                    egress_closed=shut[name],
                    sampling_ppm=WHOLE if (PrecautionKind.SAMPLING, name) in now.precautions else 0,
                )
                for name, frozen in models.items()
            },
            hosts=hosts,
            people={person: one.suspended for person, one in now.people.items()},
            grants=tuple(
                GrantFacts(id=one.grant.value.hex(), person=one.requester, model=one.model)
                for one in now.grants
                if one.live
            ),
            evidence_frozen=bool(case.incident.evidence),
            on_hold=case.held,
        )

    async def do(self, case: Case, command: Command) -> Told:
        """Do a command."""
        return await self._does[command.action](case, command)

    async def probe(self, case: Case, command: Command) -> str:
        """Look at the deployment."""
        return await self._looks[ACTIONS[command.action].probe](case, command)

    def _doing(self) -> dict[ActionName, Does]:
        return {
            ActionName.FREEZE_RELEASES: self._freeze,
            ActionName.ZERO_EGRESS: self._shut,
            ActionName.QUARANTINE_HOST: self._shut,
            ActionName.SNAPSHOT_EVIDENCE: self._keep_evidence,
            ActionName.LEGAL_HOLD: self._hold,
            ActionName.LIFT_HOLD: self._lift_hold,
            ActionName.QUARANTINE_PERSON: self._suspend,
            ActionName.REVOKE_GRANTS: self._grants_fall,
            ActionName.REVOKE_ATTESTATION: self._platforms_fall,
            ActionName.PREPARE_ROTATION: self._draft,
            ActionName.PREPARE_SHREDDING: self._draft,
            ActionName.NOTIFY: self._notify,
            ActionName.RAISE_SAMPLING: self._raise_sampling,
            ActionName.LOWER_SAMPLING: self._let_go,
            ActionName.REVOKE_SESSIONS: self._follows,
            ActionName.EXPIRE_LEASES: self._follows,
            ActionName.RESUME_RELEASES: self._let_go,
            ActionName.RESTORE_EGRESS: self._let_go,
            ActionName.RELEASE_PERSON: self._let_go,
            ActionName.RELEASE_HOST: self._let_go,
        }

    def _looking(self) -> dict[Tells, Looks]:
        async def receipt(case: Case, _command: Command) -> str:
            return self._receipts.seen(case)

        return {
            Tells.EVIDENCE: is_whole,
            Tells.HOLD: _either("held", "lifted", self._is_held),
            Tells.DRAFT: is_drafted,
            Tells.RECEIPT: receipt,
            Tells.SAMPLING: _either("whole", "policy", self._is_sampled),
            Tells.RELEASE: _either("refused", "allowed", self._is_frozen),
            Tells.PACKET: _either("lost", "passed", self._is_shut),
            Tells.HOST: _either("apart", "joined", self._is_shut),
            Tells.PERSON: _either("suspended", "active", self._is_out),
            Tells.SESSIONS: _either("none", "some", self._is_out),
            Tells.LEASES: _either("none", "some", self._leases_ended),
            Tells.GRANTS: _either("some", "none", self._holds_grants),
            Tells.EVIDENCE_OF_HOST: _either("taken", "refused", self._is_enrolled),
        }

    async def _is_shut(self, subject: Subject) -> bool:
        return await self._are_shut(self._gates_of(subject))

    async def _is_frozen(self, subject: Subject) -> bool:
        models, frozen = self._known.models_of(subject), (await self._known.standing()).frozen
        return bool(models) and all(model in frozen for model in models)

    async def _holds_grants(self, subject: Subject) -> bool:
        now = await self._known.standing()
        # The keeper shows no more: what it left out may be the subject's.
        return bool(_live(now, subject)) or sum(one.live for one in now.grants) >= MAX_GRANTS_SHOWN

    async def _draft(self, case: Case, command: Command) -> Told:
        digests = {kind.value: str(digest) for kind, digest in self._known.trust.digests.items()}
        facts: dict[str, Json] = {"genesis": str(self._known.genesis), "documents": dict[str, Json](digests)}
        await keep_draft(case, command, facts, self._clock.now())
        return DONE

    async def _notify(self, case: Case, _command: Command) -> Told:
        return self._receipts.notify(case)

    # --- precautions --------------------------------------------------------------------------------------------------

    async def _hold(self, case: Case, command: Command) -> Told:
        if not await self._is_held(command.subject):
            await self._precautions.because_of(case.id, PrecautionKind.HOLD, _kept(command.subject))
        await hold(case, command, self._clock.now())
        return DONE

    async def _lift_hold(self, case: Case, command: Command) -> Told:
        if await self._is_held(command.subject):
            return awaits(_LETS_GO[command.action])
        await hold(case, command, self._clock.now())
        return DONE

    async def _is_held(self, subject: Subject) -> bool:
        return (PrecautionKind.HOLD, _kept(subject)) in (await self._known.standing()).precautions

    async def _raise_sampling(self, case: Case, command: Command) -> Told:
        models = self._verifiable(command.subject)
        if not models:
            # Before anything is taken: nobody could replay what it asks for.
            return refused("no-second-engine")
        standing = (await self._known.standing()).precautions
        for model in models:
            if (PrecautionKind.SAMPLING, model) not in standing:
                await self._precautions.because_of(case.id, PrecautionKind.SAMPLING, model)
        return DONE

    async def _is_sampled(self, subject: Subject) -> bool:
        models, standing = self._verifiable(subject), (await self._known.standing()).precautions
        return bool(models) and all((PrecautionKind.SAMPLING, model) in standing for model in models)

    def _verifiable(self, subject: Subject) -> list[ModelId]:
        """Return the models of a subject for which the egress policies name a second engine."""
        found = [(model, self._known.egress(model)) for model in self._known.models_of(subject)]
        return [model for model, policy in found if policy is not None and policy.verified_by is not None]

    # --- releases, gates, people --------------------------------------------------------------------------------------

    async def _freeze(self, _case: Case, command: Command) -> Told:
        for model in self._known.models_of(command.subject):
            stopped = await self._stops.stop(model)
            if stopped.index is not None:
                await self._stops.stored(stopped)
        return DONE

    async def _shut(self, case: Case, command: Command) -> Told:
        subject = command.subject
        if subject.kind is SubjectKind.HOST and subject.name != self._host:
            return refused("another-host")
        gates = self._gates_of(subject)
        if not gates:
            return refused("no-gate")
        # All of them are begun before any is waited for.
        await asyncio.gather(*[gate.begin() for gate in gates])
        await asyncio.gather(*[gate.mark(case.id) for gate in gates])
        return DONE

    def _gates_of(self, subject: Subject) -> tuple[Gate, ...]:
        if subject.kind is SubjectKind.HOST:
            return self._of_host() if subject.name == self._host else ()
        found = {gate.name: gate for model in self._known.models_of(subject) for gate in self._gates.get(model, ())}
        return tuple(found.values())

    def _of_host(self) -> tuple[Gate, ...]:
        return tuple({gate.name: gate for gates in self._gates.values() for gate in gates}.values())

    @staticmethod
    async def _are_shut(gates: Sequence[Gate]) -> bool:
        return bool(gates) and all([await gate.is_shut() for gate in gates])

    async def _suspend(self, _case: Case, command: Command) -> Told:
        person = person_id(command.subject.name)
        if person == self._known.session.wallet.identity.person:
            # Whoever can make an alert about the responder must not have it suspend itself.
            return refused("own-account")
        await self._client.call("suspend", person=person, cause=SuspensionCause.INCIDENT.value)
        return DONE

    async def _is_out(self, subject: Subject) -> bool:
        one = (await self._known.standing()).people.get(subject.name)
        return one is not None and one.suspended

    async def _leases_ended(self, subject: Subject) -> bool:
        # The keeper ends every live lease of a model with its freeze, of a person with the suspension.
        if subject.kind is SubjectKind.PERSON:
            return await self._is_out(subject)
        return await self._is_frozen(subject)

    async def _follows(self, _case: Case, command: Command) -> Told:
        """Answer for what falls by itself with something else, and can't be ended alone."""
        subject = command.subject
        if command.action is ActionName.REVOKE_SESSIONS and subject.kind is not SubjectKind.PERSON:
            return refused("sessions-are-people-s")
        if subject.kind is SubjectKind.HOST:
            return refused("leases-end-with-their-platform")
        if subject.kind is SubjectKind.PERSON:
            return DONE if await self._is_out(subject) else awaits("suspension")
        return DONE if await self._leases_ended(subject) else awaits("freeze")

    async def _let_go(self, _case: Case, command: Command) -> Told:
        subject = command.subject
        match command.action:
            case ActionName.RESUME_RELEASES:
                frozen = (await self._known.standing()).frozen
                held = any(model in frozen for model in self._known.models_of(subject))
            case ActionName.RELEASE_PERSON:
                held = await self._is_out(subject)
            case ActionName.LOWER_SAMPLING:
                standing = (await self._known.standing()).precautions
                held = any((PrecautionKind.SAMPLING, model) in standing for model in self._known.models_of(subject))
            case _:
                held = await self._are_shut(self._gates_of(subject))
        return awaits(_LETS_GO[command.action]) if held else DONE

    async def _grants_fall(self, _case: Case, command: Command) -> Told:
        return awaits("people-revoke-them") if await self._holds_grants(command.subject) else DONE

    async def _platforms_fall(self, _case: Case, command: Command) -> Told:
        if command.subject.name not in self._platforms:
            return refused("host-unknown")
        return awaits("people-revoke-its-platforms") if await self._is_enrolled(command.subject) else DONE

    async def _is_enrolled(self, subject: Subject) -> bool:
        # The keeper's word: the broker goes on showing records of what was revoked, and might leave any out.
        for platform in self._platforms.get(subject.name, ()):
            answer = await self._client.call("attestable", platform=platform)
            if answer.boolean("attestable"):
                return True
        return False

    # --- evidence -----------------------------------------------------------------------------------------------------

    async def _keep_evidence(self, case: Case, command: Command) -> Told:
        """Keep what is known. What can't be had is named: a keeper that doesn't answer is evidence, too."""
        size, parts = 0, dict[str, Json]()
        try:
            now, trust = await self._known.standing(), self._known.trust
            size = trust.head.size
            parts = {
                "log": {"size": size, "root": str(trust.head.root)},
                "documents": dict[str, Json]({kind.value: str(one) for kind, one in trust.digests.items()}),
                "frozen": list[Json](sorted(now.frozen)),
                "suspended": list[Json](sorted(name for name, one in now.people.items() if one.suspended)),
                "grants": [
                    {"grant": str(one.grant), "requester": one.requester, "model": one.model, "uses": one.uses}
                    for one in now.grants
                    if one.live
                ],
            }
        except StrongroomError as error:
            parts["lacking"] = error.reason
        seen: dict[str, Json] = {
            "incident": case.id,
            "about": str(command.subject),
            "at": format_instant(self._clock.now()),
            "record": str(case.incident.last),
            "responder": self._own_record(),
            **parts,
        }
        await keep_evidence(case, command, encode(seen), entries=size)
        return DONE


def _kept(subject: Subject) -> str | None:
    """Return the model that a hold is about; None for all: what tells of a person or a host isn't in one model."""
    return subject.name if subject.kind is SubjectKind.MODEL else None


def _live(now: Standing, subject: Subject) -> list[GrantShown]:
    named = {SubjectKind.PERSON: "requester", SubjectKind.MODEL: "model"}.get(subject.kind)
    if named is None and subject.kind is not SubjectKind.DEPLOYMENT:
        return []
    return [one for one in now.grants if one.live and (named is None or getattr(one, named) == subject.name)]


def _either(yes: str, no: str, holds: Callable[[Subject], Awaitable[bool]]) -> Looks:
    async def look(_case: Case, command: Command) -> str:
        return yes if await holds(command.subject) else no

    return look
