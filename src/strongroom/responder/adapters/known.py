"""The deployment as its documents in force and its keeper show it, and its log as far as incidents go into it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.access.request import Action
from strongroom.client.service import Session
from strongroom.client.state import PersonStanding
from strongroom.client.told import GrantShown
from strongroom.client.trust import Trust
from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.errors import NotFoundError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, PersonId, model_id
from strongroom.core.signature import PublicKey
from strongroom.egress.policy import EgressPolicy
from strongroom.ipc.adapters.client import UnixClient
from strongroom.release.incident_statements import INCIDENT_TYPE, IncidentStanding
from strongroom.release.precaution_ledger import MAX_PRECAUTIONS
from strongroom.release.precaution_ledger import Standing as Precaution
from strongroom.release.precautions import PrecautionKind
from strongroom.release.statements import StatementKind
from strongroom.responder.cases import Case
from strongroom.responder.people import who_may_act
from strongroom.response.actions import LEAST_QUORUM
from strongroom.response.grading import Certainty
from strongroom.response.run import MAX_PEOPLE, Terms
from strongroom.response.subjects import Subject, SubjectKind

MAX_PEOPLE_SHOWN: Final = 2000
MAX_GRANTS_SHOWN: Final = 1000
MAX_FROZEN: Final = 4096


def read_precautions(status: Fields) -> frozenset[tuple[PrecautionKind, str | None]]:
    """Return the precautions that stand, as the keeper's status says: which, and about whom; None for all.

    :raises MalformedError: another form.
    """
    shown = status.objects("precautions", Precaution.read, most=MAX_PRECAUTIONS)
    return frozenset((one.kind, one.subject) for one in shown)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the deployment stands now, as the keeper says."""

    frozen: frozenset[ModelId]
    people: Mapping[str, PersonStanding]
    grants: tuple[GrantShown, ...]
    precautions: frozenset[tuple[PrecautionKind, str | None]]
    """Those that stand: which, and about whom; None for the whole deployment."""


class KnownDeployment:
    """What the deployment's documents say, as the responder's wallet last verified them.

    :param models: the models that are guarded.
    """

    def __init__(self, session: Session, client: UnixClient, models: Sequence[ModelId]) -> None:
        self.session = session
        self.genesis: Digest = session.wallet.genesis().digest
        self._client = client
        self._models = tuple(models)
        self._trust: Trust | None = None
        self._out: frozenset[str] = frozenset()
        self._running: asyncio.Task[Trust] | None = None
        self._next: asyncio.Task[Trust] | None = None

    async def refresh(self) -> Trust:
        """Fetch what is in force, and who is suspended: what was asked for after this was called.

        However many wait, there is one at a time, and one for all who come meanwhile: whoever floods the desk would
        else keep an alarm's record waiting for a thread, and the keeper busy.

        :raises StrongroomError: the deployment doesn't answer, or isn't the one that was seen before.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running))
        # Whoever asked may leave; others wait for the same.
        return await asyncio.shield(self._next)

    async def _after(self, before: asyncio.Task[Trust] | None) -> Trust:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        return await self._refreshed()

    async def _refreshed(self) -> Trust:
        self._trust = await asyncio.to_thread(self.session.refresh)
        people = (await self.standing()).people.values()
        self._out = frozenset(one.person for one in people if one.suspended or not one.active)
        return self._trust

    async def standing(self) -> Standing:
        """Ask the keeper how things stand."""
        status = await self._client.call("status")
        people = await self._client.call("people")
        grants = await self._client.call("grants")
        shown = people.objects("people", PersonStanding.read, most=MAX_PEOPLE_SHOWN)
        return Standing(
            frozen=frozenset(model_id(name) for name in status.texts("frozen", most=MAX_FROZEN)),
            people={one.person: one for one in shown},
            grants=grants.objects("grants", GrantShown.read, most=MAX_GRANTS_SHOWN),
            precautions=read_precautions(status),
        )

    @property
    def trust(self) -> Trust:
        """What was last verified.

        :raises NotFoundError: nothing was yet.
        """
        if self._trust is None:
            raise NotFoundError("the deployment wasn't seen yet")
        return self._trust

    def models_of(self, subject: Subject) -> tuple[ModelId, ...]:
        """Return the models that a subject stands for."""
        if subject.kind is SubjectKind.MODEL and not subject.shadow:
            return (model_id(subject.name),)
        return self._models if subject.kind is SubjectKind.DEPLOYMENT else ()

    def level(self, subject: Subject) -> int:
        """Return a model's level, or the highest of all guarded ones: also where the policy doesn't name that model."""
        policy = None if self._trust is None else self._trust.policy
        levels = {} if policy is None else {terms.model: terms.level.rank for terms in policy.models}
        named = [levels[model] for model in self.models_of(subject) if model in levels]
        return max(named or [levels[model] for model in self._models if model in levels], default=0)

    def egress(self, model: ModelId) -> EgressPolicy | None:
        """Return a model's egress policy in force, None where there is none."""
        policies = self.trust.egress
        return None if policies is None else policies.by_model.get(model)

    def theft_bound(self, model: ModelId) -> int | None:
        """Return a model's theft bound in bits, 0 where none is in force; None: nobody knows such a model."""
        policy = self.trust.policy
        if model not in self._models and (policy is None or all(terms.model != model for terms in policy.models)):
            return None
        bound = self.egress(model)
        return 0 if bound is None else bound.effective_size

    def terms(self, certainty: Certainty, subject: Subject) -> Terms:
        """Return who may agree: responders and approvers of a resume, who are people and active."""
        named = self.models_of(subject) or self._models
        policy = None if self._trust is None else self._trust.policy
        counts = [LEAST_QUORUM]
        if policy is not None:
            levels = {terms.level for terms in policy.models if terms.model in named}
            rules = [rule for rule in policy.rules if rule.action is Action.RESUME and rule.level in levels]
            counts += [rule.quorum for rule in rules]
        people = sorted(person for person in who_may_act(self._trust) if self.keys(person))[:MAX_PEOPLE]
        return Terms(certainty=certainty, eligible=frozenset(people), quorum=min(MAX_PEOPLE, max(counts)))

    def keys(self, person: PersonId) -> tuple[PublicKey, ...]:
        """Return the keys of a person who may act in incidents."""
        return () if person in self._out else who_may_act(self._trust).get(person, ())

    def masters(self) -> tuple[PublicKey, ...]:
        """Return the keys of everybody who may hold a drill: whoever may act in incidents."""
        return tuple(key for person in who_may_act(self._trust) for key in self.keys(person))


class LogNotes:
    """Has the deployment's log hold how far records have come, through the keeper."""

    def __init__(self, client: UnixClient, session: Session, clock: Clock) -> None:
        self._client = client
        self._session = session
        self._clock = clock

    async def note(self, case: Case) -> None:
        """Hand a signed statement in; raises what the keeper refuses with."""
        standing = IncidentStanding(
            genesis=self._session.wallet.genesis().digest,
            incident=case.id,
            entry=case.incident.last,
            entries=case.incident.size,
            phase=case.incident.phase.value,
            drill=case.incident.shadow,
            at=self._clock.now(),
        )
        envelope = sign(INCIDENT_TYPE, standing.to_bytes(), self._session.wallet.signer())
        await self._client.call("state", kind=StatementKind.INCIDENT.value, envelope=envelope.to_json())
