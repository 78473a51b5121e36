"""Leases: what was released is renewed while it holds, and ended in the moment when it doesn't.

Two ways lead to an end. A renewal judges its release again; and whenever the log records something that may take
access away, every live lease is judged at once. Whoever waits for a lease's end is told then; who is cut off from here
sees its own deadline pass. Renewals aren't logged; new evidence is, and each end, once.

No lease outlives its evidence: before that grows older than the appraisal policy allows, a renewal is refused as
`reattestation-due` until new evidence comes with it.

Live leases are known in memory only. After a restart they are learnt again as their agents renew, each with new
evidence; those that ended are in the ledger.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from strongroom.access.request import Request
from strongroom.attestation.results import AttestationResult
from strongroom.audit.facts import Fact
from strongroom.core.canonical import Json
from strongroom.core.clock import Clock, Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign, verify
from strongroom.core.errors import DeniedError, StrongroomError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId, PlatformId
from strongroom.keeper.journal import Recorded
from strongroom.keeper.quotas import Quota
from strongroom.keeper.reattest import reappraise
from strongroom.keeper.service import Keeper
from strongroom.release.delivery import DELIVERY_TYPE, Delivery
from strongroom.release.lease import (
    LEASE_TYPE,
    Lease,
    LeaseAsk,
    LeaseEndedError,
    LeaseProof,
    ReattestationDueError,
    evidence_due,
)
from strongroom.release.ledger_parts import Released
from strongroom.release.standing import still_holds

MAX_WAITING: Final = 4096
LONGEST_WAIT: Final = 30
"""Seconds that one call may wait for an end."""
_SLICE: Final = 16
_Name = tuple[Digest, int]
_Rests = tuple[Digest, PlatformId, tuple[PersonId, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLease:
    """A lease that some enclave may be holding now, until ``until`` at the latest by the keeper's clock."""

    request: Digest
    use: int
    recipient: Digest
    platform: PlatformId
    model: ModelId
    person: PersonId
    until: Instant

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "request": str(self.request),
            "use": self.use,
            "recipient": str(self.recipient),
            "platform": self.platform,
            "model": self.model,
            "person": self.person,
            "until": format_instant(self.until),
        }


@dataclass(frozen=True, slots=True)
class _Held:
    released: Released
    request: Request
    until: Instant
    attested: Instant
    """When evidence was appraised last."""


class Leases:
    """Renews and ends leases. Bound to the keeper's event loop."""

    def __init__(self, keeper: Keeper, clock: Clock) -> None:
        self._keeper = keeper
        self._clock = clock
        self._live: dict[_Name, _Held] = {}
        self._waiting: dict[_Name, set[asyncio.Future[str]]] = {}
        self._waiters = 0
        self._tidied: Instant = 0
        self._due = False
        self._looking: asyncio.Task[None] | None = None
        keeper.on_delivered = self._delivered
        keeper.changed = self._changed

    async def renew_witnessed(self, request: Envelope, ask: LeaseAsk, proof: LeaseProof | None) -> Envelope:
        """Renew as :meth:`renew` does, where the witnesses' word is as fresh as a release would need it.

        :raises WitnessQuorumStaleError: it isn't: whoever cuts the log off from its witnesses gets no longer leases.
        """
        await self._keeper.witnesses.require_for(request.payload)
        return self.renew(request, ask, proof)

    def renew(self, request: Envelope, ask: LeaseAsk, proof: LeaseProof | None) -> Envelope:
        """Judge a release again and sign its next lease.

        :param request: the request's envelope, from wherever: its digest says that it is the one in the log.
        :param proof: new evidence, looked at whether it is due or not; None when none came.
        :raises DeniedError: no such release is in the log, or the evidence is for something else.
        :raises LeaseEndedError: it doesn't hold any more, or was ended before.
        :raises ReattestationDueError: it holds, and new evidence must come with the asking.
        :raises AttestationRefusedError: the evidence isn't good (any more).
        :raises PlatformRestartedError: it is of a machine that was started anew since.
        :raises ResponderSilentError: nobody watches: it holds, and isn't prolonged.
        """
        self._keeper.require_unlocked()
        self._keeper.dead_man.require()
        released = self._released(request.digest, ask.use)
        if released.recipient != ask.recipient:
            raise _unknown()
        asked = Request.parse(request.payload)
        held = self._live.get((released.request, released.use))
        known = held.released if held else released
        self._judge(known, asked)
        now, period = self._clock.now(), self._keeper.lease_period
        if proof is not None:
            known, attested = self._reattest(released, asked, proof, now), now
        else:
            attested = self._still_proven(held, now, period)
        self._hold(known, asked, attested)
        lease = Lease(
            genesis=self._keeper.genesis.digest,
            request=released.request,
            platform=released.platform,
            ask=ask,
            issued=now,
            period=period,
            sampling=self._keeper.journal.ledger.precautions.sampling(released.model, now),
        )
        return sign(LEASE_TYPE, lease.to_bytes(), self._keeper.vault.signer)

    def delivered(self, delivery: Envelope) -> Released:
        """Return the release that a delivery answered: the keeper signed it, and gave it to its launcher alone.

        :raises SignatureError: the delivery isn't the keeper's.
        :raises DeniedError: no such release is in the log.
        """
        genesis = self._keeper.genesis
        verify(delivery, DELIVERY_TYPE, [genesis.keeper_key], threshold=1)
        told = Delivery.parse(delivery.payload)
        released = self._released(told.request, told.use)
        if told.genesis != genesis.digest or told.recipient != released.recipient:
            raise _unknown()
        return released

    def require_live(self, released: Released) -> Request:
        """Return what was asked for while a release's lease is live; it is judged again, so that nothing that just fell
        still counts.

        :raises LeaseEndedError: it doesn't hold any more, or was ended before.
        :raises UnavailableError: it isn't known to be live: it ran out, or the keeper was started anew since and waits
            for its next renewal.
        """
        name = released.request, released.use
        ended = self._keeper.journal.ledger.ended.get(name)
        if ended is not None:
            raise LeaseEndedError(ended)
        held = self._live.get(name)
        if held is None or held.until <= self._clock.now():
            raise UnavailableError(
                "this release's lease isn't known to be live",
                reason="lease-not-live",
                remedy="renew it, then ask again",
            )
        self._judge(held.released, held.request)
        return held.request

    async def ended(self, request: Digest, use: int, *, wait: int) -> str:
        """Return why a lease ended; waits up to ``wait`` seconds for that, then returns an empty text.

        :raises DeniedError: no such release is in the log.
        :raises UnavailableError: too many wait.
        """
        name = request, use
        self._released(*name)
        reason = self._keeper.journal.ledger.ended.get(name, "")
        if reason or not wait:
            return reason
        if self._waiters >= MAX_WAITING:
            raise UnavailableError("too many wait for the end of a lease", reason="leases-busy")
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(name, set()).add(told)
        self._waiters += 1
        try:
            return await asyncio.wait_for(told, min(wait, LONGEST_WAIT))
        except TimeoutError:
            return ""
        finally:
            self._waiters -= 1
            self._waiting[name].discard(told)
            if not self._waiting[name]:
                del self._waiting[name]

    def live(
        self, *, person: PersonId | None = None, model: ModelId | None = None, platform: PlatformId | None = None
    ) -> tuple[LiveLease, ...]:
        """Return the live leases that hang on a person (as requester or approver), a model or a platform; or all."""
        self._tidy()
        return tuple(
            LiveLease(
                request=one.request,
                use=one.use,
                recipient=one.recipient,
                platform=one.platform,
                model=one.model,
                person=one.requester,
                until=held.until,
            )
            for held in self._live.values()
            for one in (held.released,)
            if (person is None or person in {one.requester, *one.approvers})
            and (model is None or model == one.model)
            and (platform is None or platform == one.platform)
        )

    # --- inside -------------------------------------------------------------------------------------------------------

    def _released(self, request: Digest, use: int) -> Released:
        released = self._keeper.journal.ledger.released.get((request, use))
        if released is None:
            raise _unknown()
        return released

    def _delivered(self, delivery: Delivery, request: Request, result: AttestationResult) -> None:
        """Begin the first lease. A key that is delivered again doesn't bring back a lease that was ended."""
        released = replace(self._released(delivery.request, delivery.use), isolation=result.isolation.value)
        self._judge(released, request)
        self._hold(released, request, result.at)

    def _still_proven(self, held: _Held | None, now: Instant, period: int) -> Instant:
        values = self._keeper.documents.reference_values
        # One that ran out, or that an earlier keeper knew, has proved nothing to this one.
        attested = held.attested if held is not None and held.until > now else None
        most = values.appraisal.reattest_seconds if values else 0
        if attested is None or evidence_due(attested, now=now, period=period, most=most):
            raise ReattestationDueError("new evidence is due with the next asking for this lease")
        return attested

    def _reattest(self, released: Released, request: Request, proof: LeaseProof, now: Instant) -> Released:
        keeper = self._keeper
        keeper.quotas.take(Quota.EVIDENCE, f"{released.request}/{released.use}")
        good = reappraise(keeper, released, request, proof, now)
        known = replace(released, isolation=good.result.isolation.value)
        # The machine may be worth less than it was: a lower class must be enough today.
        self._judge(known, request)
        kept = keeper.attest(good.evidence, good.binding, good.result)
        facts: dict[str, Fact] = {
            "request": released.request,
            "use": released.use,
            "isolation": good.result.isolation.value,
            "evidence": good.result.evidence,
            "result": kept.result_digest,
            "attested": kept.digest,
            "reference_values": good.result.reference_values,
            "appraisal_policy": good.result.policy,
            "collateral": keeper.bundle.digest,
            "sampling": keeper.journal.ledger.precautions.sampling(released.model, now).value,
        }
        keeper.record(EventName.LEASE_ATTESTED, facts).add_done_callback(_seen)
        return known

    def _judge(self, released: Released, request: Request) -> None:
        reason = self._fallen(released, request)
        if reason:
            self._tell(released, reason)
            self._record(released, reason)
            raise LeaseEndedError(reason)

    def _fallen(self, released: Released, request: Request) -> str:
        ledger = self._keeper.journal.ledger
        try:
            still_holds(released, request, documents=self._keeper.documents, ledger=ledger, now=self._clock.now())
        except LeaseEndedError as error:
            return ledger.ended.get((released.request, released.use), error.reason)
        return ledger.ended.get((released.request, released.use), "")

    def _hold(self, released: Released, request: Request, attested: Instant) -> None:
        # One second more, because clocks are read in whole ones: nothing that lives may be missing here.
        until = self._clock.now() + self._keeper.lease_seconds + 1
        self._live[released.request, released.use] = _Held(released, request, until, attested)
        if self._clock.now() >= self._tidied + self._keeper.lease_seconds:
            self._tidy()

    def _tidy(self) -> None:
        self._tidied = self._clock.now()
        self._live = {name: held for name, held in self._live.items() if held.until > self._tidied}

    def _changed(self) -> None:
        # Called in the middle of an act: a document that is being adopted is in force once that act pauses.
        self._due = True
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_again(), name="leases")

    async def _look_again(self) -> None:
        """Judge every live lease, a few at a time: releases and renewals go on, and whoever waits is told meanwhile."""
        while self._due:
            self._due = False
            self._tidy()
            # Uses of one grant by one platform stand and fall together.
            standing: set[_Rests] = set()
            ended: list[tuple[Released, str]] = []
            for count, held in enumerate(list(self._live.values())):
                if count % _SLICE == 0:
                    await asyncio.sleep(0)
                released = held.released
                rests = released.request, released.platform, released.approvers
                if rests in standing:
                    continue
                reason = self._fallen(released, held.request)
                if reason:
                    self._tell(released, reason)
                    ended.append((released, reason))
                else:
                    standing.add(rests)
            for count, (released, reason) in enumerate(ended):
                if count % _SLICE == 0:
                    await asyncio.sleep(0)
                self._record(released, reason)

    def _tell(self, released: Released, reason: str) -> None:
        # Before it is recorded: an end needs no proof, and must not wait for a disk or for other ends.
        name = released.request, released.use
        self._live.pop(name, None)
        for waiting in self._waiting.get(name, ()):
            if not waiting.done():
                waiting.set_result(reason)

    def _record(self, released: Released, reason: str) -> None:
        if (released.request, released.use) in self._keeper.journal.ledger.ended:
            return
        facts: dict[str, Fact] = {
            "request": released.request,
            "use": released.use,
            "recipient": released.recipient,
            "reason": reason,
        }
        try:
            recording = self._keeper.journal.record(EventName.LEASE_ENDED, facts, self._keeper.vault.signer)
        except StrongroomError:
            # The log failed or the keeper was locked: it renews nothing any more, and says so itself.
            return
        recording.add_done_callback(_seen)


def _seen(recording: asyncio.Future[Recorded]) -> None:
    # A failed append locks the keeper; nobody here waits for it.
    if not recording.cancelled():
        recording.exception()


def _unknown() -> DeniedError:
    return DeniedError("no such release is in the log", reason="lease-unknown", remedy="ask for a release")
