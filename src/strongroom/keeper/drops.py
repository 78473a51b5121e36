"""Workspaces: what goes in is recorded before weights are opened, and what comes out is charged before it leaves.

docs/spec/drop-protocol.md numbers the steps. As with the odometer, whoever asks shows the delivery that the release was
answered with, and nothing is awaited between a decision and the moment its entry is queued: two drops can't both take
what is left of a quota.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from strongroom.access.request import Action, Purpose
from strongroom.audit.facts import Fact
from strongroom.core.canonical import Json
from strongroom.core.clock import Clock, Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import DeniedError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.egress.bits import MILLI
from strongroom.egress.errors import Limit, LimitReachedError
from strongroom.egress.policy import EgressPolicy
from strongroom.egress.workspace import Drop, check_drop, drop_bits
from strongroom.keeper.egress import policy_of
from strongroom.keeper.leases import Leases
from strongroom.keeper.service import Keeper
from strongroom.release.drop import (
    BEGUN_TYPE,
    TICKET_TYPE,
    Begun,
    PassageAsk,
    Reader,
    Ticket,
    WorkspaceRefusedError,
)
from strongroom.release.drop_ledger import ChargedDrop
from strongroom.release.drop_readers import readers_of
from strongroom.release.ledger_parts import Released
from strongroom.release.statements import StatementKind

MAX_SHOWN: Final = 1000


class Drops:
    """Records inputs, charges drops, and signs for both. Bound to the keeper's event loop."""

    def __init__(self, keeper: Keeper, leases: Leases, clock: Clock) -> None:
        self._keeper, self._leases, self._clock = keeper, leases, clock

    async def begin(self, delivery: Envelope, ask: PassageAsk) -> Envelope:
        """Record an input, once for each use of a request; the same one again is signed for again.

        :raises SignatureError: the delivery isn't the keeper's.
        :raises DeniedError: no such release is in the log.
        :raises WorkspaceRefusedError: the request isn't for research, another input was recorded, or nobody could
            review what comes out, or read it.
        :raises LimitReachedError: nothing could leave: a quota is used up, or too many people hold one.
        :raises NoEgressPolicyError: nothing says what may leave the model.
        :raises OutputNotAllowedError: its policy lets no files leave.
        :raises StrongroomError: the lease doesn't hold, or isn't known to be live.
        """
        released, policy = self._standing(delivery, ask)
        ledger, now = self._keeper.journal.ledger, self._now()
        self._readers(released)
        smallest = drop_bits(policy, 1)
        if not any(request == released.request for request, _drop in ledger.drops.charged):
            # Better refused now than after hours of work. After a crash what was charged may leave, whatever is left.
            self._check(released, policy, smallest, now)
        known = ledger.drops.inputs.get((released.request, released.use))
        if known is not None and known.digest != ask.digest:
            raise WorkspaceRefusedError(
                "another input was recorded for this use", reason="input-changed", remedy="use the request once more"
            )
        if known is None:
            facts: dict[str, Fact] = {
                **_named(released),
                "input": ask.digest,
                "bytes": ask.size,
            }
            index = (await self._keeper.record(EventName.WORKSPACE_BEGUN, facts)).index
        else:
            index = self._durable(known.index)
        begun = Begun(genesis=self._keeper.genesis.digest, request=released.request, ask=ask, log_index=index)
        return sign(BEGUN_TYPE, begun.to_bytes(), self._keeper.vault.signer)

    async def leave(self, delivery: Envelope, ask: PassageAsk) -> Envelope:
        """Charge a drop and sign its ticket. The same bytes of the same request are charged once, and a use has one.

        :raises WorkspaceRefusedError: its input was never recorded, or another drop was charged for its use.
        :raises UsageError: a drop of a size that none may have.
        :raises StrongroomError: as :meth:`begin`.
        """
        released, policy = self._standing(delivery, ask)
        ledger, now = self._keeper.journal.ledger, self._now()
        if (released.request, released.use) not in ledger.drops.inputs:
            raise WorkspaceRefusedError("no input was recorded for this use", reason="workspace-not-begun")
        self._readers(released)
        drop = ledger.drops.charged.get((released.request, ask.digest))
        if drop is None and (released.request, released.use) in ledger.drops.spent:
            raise WorkspaceRefusedError(
                "another drop was charged for this use", reason="drop-changed", remedy="use the request once more"
            )
        if drop is None:
            drop = await self._charge(released, policy, ask, now)
            # While the entry was written a person may have left, or the model been frozen.
            self._leases.require_live(released)
        elif drop.size != ask.size:
            raise WorkspaceRefusedError("this drop was charged with another size", reason="drop-changed")
        else:
            self._durable(drop.index)
        reviewers, researcher = self._readers(released)
        ticket = Ticket(
            genesis=self._keeper.genesis.digest,
            request=released.request,
            model=released.model,
            ask=ask,
            bits=drop.bits,
            log_index=drop.index,
            reviewers=reviewers,
            researcher=researcher,
        )
        return sign(TICKET_TYPE, ticket.to_bytes(), self._keeper.vault.signer)

    def shown(self, model: ModelId) -> list[Json]:
        """Return a model's newest drops, newest first."""
        charged = [one for one in self._keeper.journal.ledger.drops.charged.values() if one.model == model]
        return [
            {
                "index": one.index,
                "at": format_instant(one.at),
                "request": str(one.request),
                "drop": str(one.digest),
                "person": one.person,
                "bytes": one.size,
                "bits": one.bits,
                "reviewer": one.reviewer,
                "outcome": one.outcome or None,
            }
            for one in reversed(charged[-MAX_SHOWN:])
        ]

    # --- inside -------------------------------------------------------------------------------------------------------

    def _standing(self, delivery: Envelope, ask: PassageAsk) -> tuple[Released, EgressPolicy]:
        keeper = self._keeper
        keeper.require_unlocked()
        released = self._leases.delivered(delivery)
        if (released.use, released.recipient) != (ask.use, ask.recipient):
            raise DeniedError("no such release is in the log", reason="lease-unknown", remedy="ask for a release")
        request = self._leases.require_live(released)
        if request.action is not Action.OPEN_IN_ENCLAVE or request.purpose is not Purpose.RESEARCH:
            raise WorkspaceRefusedError(
                f"a workspace is for requests to open for `{Purpose.RESEARCH.value}`, and this one isn't",
                reason="workspace-purpose",
                remedy="ask anew, with that purpose",
            )
        return released, policy_of(keeper, released.model)

    def _check(self, released: Released, policy: EgressPolicy, bits: int, now: Instant) -> int:
        """Check a drop against every quota; returns what the model's odometer would say with it."""
        ledger, model = self._keeper.journal.ledger, released.model
        check_drop(policy, ledger.drops.of(model), Drop(person=released.requester, bits=bits, at=now))
        total = ledger.odometers.of(model).total
        left = policy.lifetime_bits - total
        if bits > left:
            raise LimitReachedError(Limit.LIFETIME, seen=max(0, left), wanted=bits, passes_at=None)
        return total + bits

    async def _charge(self, released: Released, policy: EgressPolicy, ask: PassageAsk, now: Instant) -> ChargedDrop:
        bits = drop_bits(policy, ask.size)
        total = self._check(released, policy, bits, now)
        facts: dict[str, Fact] = {
            **_named(released),
            "drop": ask.digest,
            "bytes": ask.size,
            "bits": bits,
            "total": total,
        }
        recording = self._keeper.record(EventName.DROP_CHARGED, facts)
        for mark in _passed(policy, total - bits, total):
            warned: dict[str, Fact] = {
                "model": released.model,
                "limit": Limit.LIFETIME.value,
                "permille": mark,
                "used": total,
                "of": policy.lifetime_bits,
            }
            await self._keeper.record(EventName.EGRESS_WARNED, warned)
        # Pinned before anybody is told: a rollback must not give a quota back.
        await self._keeper.pinned(recording)
        return self._keeper.journal.ledger.drops.charged[released.request, ask.digest]

    def _durable(self, index: int) -> int:
        if index >= self._keeper.journal.durable[0]:
            raise UnavailableError("the record is being written", reason="drop-busy", remedy="ask again in a second")
        return index

    def _readers(self, released: Released) -> tuple[tuple[Reader, ...], Reader]:
        return readers_of(
            released.requester,
            documents=self._keeper.documents,
            ledger=self._keeper.journal.ledger,
            kept=self._kept,
            now=self._now(),
        )

    def _kept(self, digest: Digest) -> Envelope | None:
        return self._keeper.kept(StatementKind.DROP_KEY.value, digest)

    def _now(self) -> Instant:
        return max(self._clock.now(), self._keeper.journal.ledger.latest)


def _named(released: Released) -> dict[str, Fact]:
    return {
        "request": released.request,
        "use": released.use,
        "model": released.model,
        "person": released.requester,
    }


def _passed(policy: EgressPolicy, before: int, after: int) -> Iterator[int]:
    limit = policy.lifetime_bits
    return (mark for mark in policy.warn_permille if before * MILLI < mark * limit <= after * MILLI)
