"""Documents that the root quorum signed come into force here, or wait until they may (SL4-WMO-01)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from strongroom.access.governance import CHANGE_DELAY
from strongroom.access.policy import POLICY_TYPE, Policy
from strongroom.access.self_test import safe_engine
from strongroom.audit.facts import Fact
from strongroom.core.clock import Clock, Instant, format_instant
from strongroom.core.envelope import Envelope
from strongroom.core.errors import DeniedError
from strongroom.core.events import EventName
from strongroom.keeper.journal import Recorded
from strongroom.keeper.service import Keeper
from strongroom.release.documents import (
    ADOPTED_EVENTS,
    Candidate,
    DocumentKind,
    change_refused,
    examine_document,
    only_takes_away,
)

CHANGE_WAITS: Final = "change-waits"


class ChangeRefusedError(DeniedError):
    """A document that the root quorum signed may not come into force, now or ever. ``reason`` says which."""

    code = "change-refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What became of a document: in force now (``recorded`` is None if it was before), or waiting until a time."""

    recorded: Recorded | None
    effective: Instant | None = None


async def adopt(keeper: Keeper, clock: Clock, kind: DocumentKind, envelope: Envelope) -> Adoption:
    """Take a document signed by the root quorum into force, or record that it waits (SL4-WMO-01).

    Handed in again once its time has come, it comes into force.

    A policy doesn't wait for witnesses: were they gone for good, nothing else could name others. Nor do reference
    values and egress policies that only take away.

    :raises ChangeRefusedError: an approver stopped it, or the policy in force forbids the change.
    :raises WitnessQuorumStaleError: no quorum of witnesses has seen the log lately.
    """
    keeper.require_unlocked()
    if kind is not DocumentKind.POLICY and not only_takes_away(kind, envelope, keeper.documents, keeper.journal.ledger):
        await keeper.witnesses.require()
    if kind is DocumentKind.POLICY:
        # Thousands of trial decisions, in a thread: a freeze needn't wait for them. What they came to is kept, and
        # asked for again below, where nothing waits in between.
        keeper.genesis.verify_root(envelope, POLICY_TYPE)
        await asyncio.to_thread(safe_engine, Policy.parse(envelope.payload))
    candidate, in_force = examine_document(kind, envelope, keeper.genesis, keeper.journal.ledger)
    keeper.keep(kind.value, envelope)
    if in_force:
        candidate.put_into(keeper.documents)
        return Adoption(recorded=None)
    ledger, now = keeper.journal.ledger, clock.now()
    refused = change_refused(kind, envelope, keeper.genesis, keeper.documents, ledger, now)
    if refused is None:
        return Adoption(recorded=await _adopt(keeper, candidate))
    reason, remedy = refused
    if reason != CHANGE_WAITS:
        raise ChangeRefusedError(f"the {kind.value} may not come into force", reason=reason, remedy=remedy)
    proposal = ledger.proposals.get(candidate.digest)
    if proposal is not None:
        return Adoption(recorded=None, effective=proposal.effective)
    effective = now + CHANGE_DELAY
    facts: dict[str, Fact] = {
        "kind": kind.value,
        "epoch": candidate.epoch,
        "document": candidate.digest,
        "effective": format_instant(effective),
    }
    recorded = await keeper.record_pinned(EventName.CHANGE_PROPOSED, facts)
    return Adoption(recorded=recorded, effective=effective)


async def _adopt(keeper: Keeper, candidate: Candidate) -> Recorded:
    facts: dict[str, Fact] = {"epoch": candidate.epoch, "document": candidate.digest}
    before = keeper.documents.roster
    recording = keeper.record(ADOPTED_EVENTS[candidate.kind], facts)
    candidate.put_into(keeper.documents)
    keeper.changed()
    recorded = await keeper.pinned(recording)
    if candidate.kind is DocumentKind.ROSTER:
        await keeper.on_roster(before, keeper.roster())
    return recorded
