"""The keeper's socket protocol: what may be asked, with which members, and what comes back.

status        {}                          -> the state that the broker may show; clients check it against the log
adopt         {kind, envelope}            -> {index, effective}    a document signed by the root quorum
state         {kind, envelope}            -> {index, checkpoint}   a statement about people or access
suspend       {person, cause}             -> {index, grants, approvals, leases}
people        {}                          -> {people, caps}
grants        {}                          -> {grants}              the newest 1,000
fallen        {digest}                    -> {envelope}            what fell with a suspension
decisions     {count, before}             -> {decisions}           kept ones, oldest first; before one by its digest
decision      {digest}                    -> {decision}            the kept decision that the log names
grant         {dossier}                   -> {index}               issued now, or null
export        {dossier}                   -> {delivery}
submit        {request}                   -> {request, index, checkpoint}
approve, deny {envelope}                  -> {index, checkpoint}
challenge     {request, platform}         -> {challenge, nonce, expires}
release       {dossier}                   -> {delivery, result}    steps 4 to 6; the result is a token for anybody
seal          {dossier}                   -> {delivery, wrapped}
control       {dossier}                   -> {index, checkpoint}   freeze, resume, revoke
stop          {request}                   -> {index}               records a request to freeze, and freezes, in one go;
                                                                   null when the model is frozen already
attestable    {platform}                  -> {attestable}          enrolled, and not revoked
beat          {heartbeat}                 -> {}                    a responder lives
register      {manifest, request}         -> {index, checkpoint}
explain       {dossier}                   -> {allowed, checks, others, grant}
renew         {request, use, recipient, serial, nonce, proof} -> {lease}  signed; the request's envelope is judged
                                                                   again, and so is the new evidence in `proof`, or null
attested      {digest}                    -> {attested}            the evidence and result that the log names
ended         {request, use, wait}        -> {reason}              why a lease ended; empty when `wait` seconds passed
close-shard   {}                          -> {index, checkpoint}   the log goes on in a new tree
prune-shard   {shard, minimum}            -> {index, checkpoint}   entries below aren't published any more
walls         {}                          -> {reach, system_calls, files, anchor, secrets}  its guards
lock          {}                          -> {}

What concerns keys is told in :mod:`strongroom.keeper.key_routes`; platforms and what they are judged with in
:mod:`strongroom.keeper.platform_routes`; what leaves a model in :mod:`strongroom.keeper.egress_routes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from strongroom.access.request import Request
from strongroom.core.canonical import Json
from strongroom.core.clock import Clock, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import NotFoundError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.ids import person_id, platform_id
from strongroom.ipc.frames import Call
from strongroom.keeper import trees, voices
from strongroom.keeper.adoption import adopt
from strongroom.keeper.collateral import CollateralRegistry
from strongroom.keeper.drops import Drops
from strongroom.keeper.egress import Meters
from strongroom.keeper.egress_routes import EgressRoutes
from strongroom.keeper.journal import Recorded
from strongroom.keeper.key_routes import KeyRoutes
from strongroom.keeper.leases import LONGEST_WAIT, Leases
from strongroom.keeper.people import People
from strongroom.keeper.pins import DecisionStore
from strongroom.keeper.platform_routes import PlatformRoutes
from strongroom.keeper.registry import PlatformRegistry, register_version
from strongroom.keeper.route_parts import Answer, Route, last_envelope
from strongroom.keeper.service import Keeper
from strongroom.keeper.shards import Shards
from strongroom.keeper.stopping import stop
from strongroom.personnel.lifecycle import SuspensionCause
from strongroom.release.decided import DecisionNotKeptError
from strongroom.release.documents import DocumentKind, adopted
from strongroom.release.dossier import Dossier
from strongroom.release.lease import MAX_USE, LeaseAsk, LeaseProof
from strongroom.release.ledger import Ledger
from strongroom.release.pending import pending
from strongroom.release.statements import StatementKind

MAX_DECISIONS: Final = 500
MAX_ANSWERED: Final = 500_000
"""Bytes of decisions in one answer; base64 makes a third more of them."""


T = TypeVar("T")


class KeeperRoutes:
    """Maps operations to the keeper. Members are read strictly: an unknown one refuses the call."""

    def __init__(
        self,
        keeper: Keeper,
        platforms: PlatformRegistry,
        people: People,
        leases: Leases,
        decisions: DecisionStore,
        clock: Clock,
        collateral: CollateralRegistry,
        *,
        shards: Shards,
        keys: KeyRoutes,
    ) -> None:
        self._keeper = keeper
        self._people = people
        self._leases = leases
        self._decisions = decisions
        self._clock = clock
        self._shards = shards
        self._questions = asyncio.Lock()
        self._searches = asyncio.Lock()
        self._routes: dict[str, Route] = {
            "status": self._status,
            "adopt": self._adopt,
            "state": self._state,
            "suspend": self._suspend,
            "people": self._show_people,
            "grants": self._show_grants,
            "fallen": self._fallen,
            "statement": self._statement,
            "decisions": self._show_decisions,
            "decision": self._show_decision,
            "grant": self._grant,
            "export": self._export,
            "submit": self._submit,
            "approve": self._approve,
            "deny": self._deny,
            "challenge": self._challenge,
            "release": self._release,
            "seal": self._seal,
            "control": self._control,
            "stop": self._stop,
            "attestable": self._attestable,
            "beat": self._beat,
            "register": self._register,
            "explain": self._explain,
            "renew": self._renew,
            "attested": self._show_attested,
            "ended": self._ended,
            "close-shard": self._close_shard,
            "prune-shard": self._prune_shard,
            "walls": self._walls,
            "lock": self._lock,
            **PlatformRoutes(platforms, collateral).routes,
            **EgressRoutes(keeper, Meters(keeper, leases, clock), Drops(keeper, leases, clock)).routes,
            **keys.routes,
        }

    async def serve(self, call: Call, _uid: int) -> Answer:
        """Serve one call.

        :raises UsageError: no such operation.
        """
        route = self._routes.get(call.operation)
        if route is None:
            raise UsageError("the keeper has no such operation")
        return await route(call.fields)

    async def _status(self, fields: Fields) -> Answer:
        fields.end()
        keeper, ledger = self._keeper, self._keeper.journal.ledger
        documents: dict[str, Json] = {}
        for kind in DocumentKind:
            document = adopted(ledger, kind)
            if document is not None:
                documents[kind.value] = {"epoch": document.epoch, "digest": str(document.document)}
        models: Json = {
            model: {
                "version": versions[-1].version,
                "manifest": str(versions[-1].manifest),
                "data_key": versions[-1].data_key,
                "frozen": model in ledger.frozen,
            }
            for model, versions in ledger.versions.items()
        }
        size, root = keeper.journal.durable
        return {
            "locked": bool(keeper.locked_because),
            "cause": keeper.locked_because,
            "genesis": str(keeper.genesis.digest),
            "documents": documents,
            "models": models,
            "frozen": [*sorted(ledger.frozen)],
            "suspended": [*sorted(ledger.suspended)],
            "waiting": [
                {
                    "kind": proposal.kind,
                    "epoch": proposal.epoch,
                    "document": str(document),
                    "effective": format_instant(proposal.effective),
                }
                for document, proposal in ledger.proposals.items()
                if document not in ledger.stopped and not _in_force(ledger, proposal.kind, proposal.epoch)
            ],
            "destructions": [one.to_json() for one in pending(ledger, keeper.documents.policy, self._clock.now())],
            "destroyed": [*ledger.keys.destroyed],
            "irrecoverable": [*trees.irrecoverable(ledger.keys)],
            "closed": [*trees.closed(ledger.keys, keeper.vault)],
            "lost": [*trees.lost(ledger.keys)],
            "precautions": [one.to_json() for one in ledger.precautions.standing(self._clock.now())],
            "log": {"size": size, "root": to_base64(root)},
            "latest": format_instant(ledger.latest),
        }

    async def _adopt(self, fields: Fields) -> Answer:
        kind = fields.parsed("kind", DocumentKind)
        adoption = await adopt(self._keeper, self._clock, kind, last_envelope(fields, "envelope"))
        return {
            "index": adoption.recorded.index if adoption.recorded else None,
            "effective": None if adoption.effective is None else format_instant(adoption.effective),
        }

    async def _state(self, fields: Fields) -> Answer:
        kind = fields.parsed("kind", StatementKind)
        return _recorded(await self._people.state(kind, last_envelope(fields, "envelope")))

    async def _suspend(self, fields: Fields) -> Answer:
        person, cause = fields.parsed("person", person_id), fields.parsed("cause", SuspensionCause)
        fields.end()
        fallen = await self._people.suspend(person, cause)
        return {
            "index": fallen.record.index if fallen.record else None,
            "grants": fallen.grants,
            "approvals": fallen.approvals,
            "leases": fallen.leases,
        }

    async def _show_people(self, fields: Fields) -> Answer:
        fields.end()
        return {"people": self._people.standing(), "caps": self._people.caps()}

    async def _show_grants(self, fields: Fields) -> Answer:
        fields.end()
        return {"grants": self._people.grants()}

    async def _fallen(self, fields: Fields) -> Answer:
        digest = fields.digest("digest")
        fields.end()
        envelope = self._people.fallen(digest)
        if envelope is None:
            raise NotFoundError("no such record of what fell is kept")
        return {"envelope": envelope.to_json()}

    async def _statement(self, fields: Fields) -> Answer:
        kind, digest = fields.parsed("kind", StatementKind), fields.digest("digest")
        fields.end()
        envelope = self._keeper.kept(kind.value, digest)
        if envelope is None:
            raise NotFoundError("no such statement is kept; what is said of one person's vetting is never shown")
        return {"envelope": envelope.to_json()}

    async def _show_decisions(self, fields: Fields) -> Answer:
        count = fields.integer("count", least=1, most=MAX_DECISIONS)
        before = fields.digest("before") if fields.optional("before") else None
        fields.end()
        kept = await self._searched(lambda: self._decisions.newest(count, before))
        records: list[Json] = []
        room = MAX_ANSWERED
        for record in reversed(kept):
            # As many as a frame holds; whoever asked goes on behind them.
            room -= len(record)
            if records and room < 0:
                break
            records.append(to_base64(record))
        return {"decisions": records[::-1]}

    async def _searched(self, search: Callable[[], T]) -> T:
        """Look through what is kept: hundreds of megabytes where a hold set files aside.

        In a thread, for no release or freeze waits for that; and one at a time, for whoever asks often would take the
        memory, and the threads that pinning and key services need.
        """
        async with self._searches:
            return await asyncio.to_thread(search)

    async def _show_decision(self, fields: Fields) -> Answer:
        digest = fields.digest("digest")
        fields.end()
        record = await self._searched(lambda: self._decisions.find(digest))
        if record is None:
            raise DecisionNotKeptError
        return {"decision": to_base64(record)}

    async def _grant(self, fields: Fields) -> Answer:
        recorded = await self._keeper.grant(_dossier(fields))
        return {"index": recorded.index if recorded else None}

    async def _export(self, fields: Fields) -> Answer:
        return {"delivery": (await self._keeper.export(_dossier(fields))).to_json()}

    async def _submit(self, fields: Fields) -> Answer:
        envelope = last_envelope(fields, "request")
        recorded = await voices.submit(self._keeper, self._clock, envelope)
        return {"request": str(envelope.digest), **_recorded(recorded)}

    async def _approve(self, fields: Fields) -> Answer:
        return _recorded(await voices.approve(self._keeper, self._clock, last_envelope(fields, "envelope")))

    async def _deny(self, fields: Fields) -> Answer:
        return _recorded(await voices.deny(self._keeper, last_envelope(fields, "envelope")))

    async def _challenge(self, fields: Fields) -> Answer:
        request, platform = fields.digest("request"), fields.parsed("platform", platform_id)
        fields.end()
        challenge = self._keeper.challenge(request, platform)
        return {
            "challenge": challenge.id,
            "nonce": to_base64(challenge.nonce),
            "expires": format_instant(challenge.expires),
        }

    async def _release(self, fields: Fields) -> Answer:
        handed_over = await self._keeper.release(_dossier(fields))
        return {"delivery": handed_over.delivery.to_json(), "result": handed_over.result}

    async def _seal(self, fields: Fields) -> Answer:
        delivery, wrapped = await self._keeper.seal(_dossier(fields))
        return {"delivery": delivery.to_json(), "wrapped": wrapped.to_json()}

    async def _control(self, fields: Fields) -> Answer:
        return _recorded(await self._keeper.control(_dossier(fields)))

    async def _stop(self, fields: Fields) -> Answer:
        recorded = await stop(self._keeper, self._clock, last_envelope(fields, "request"))
        return {"index": recorded.index if recorded else None}

    async def _register(self, fields: Fields) -> Answer:
        request = fields.digest("request")
        return _recorded(await register_version(self._keeper, last_envelope(fields, "manifest"), request))

    async def _explain(self, fields: Fields) -> Answer:
        async with self._questions:
            # One in each turn of the loop: a freeze that comes in doesn't wait behind all that were asked before.
            await asyncio.sleep(0)
            dossier = _dossier(fields)
            verdict = self._keeper.explain(dossier)
        return {
            "allowed": verdict.allowed,
            "checks": [check.to_json() for check in verdict.trace.checks],
            "others": [{"reason": reason, "remedy": remedy} for reason, remedy in verdict.others],
            "grant": _granted(self._keeper.journal.ledger, dossier.request.digest, verdict.request),
        }

    async def _renew(self, fields: Fields) -> Answer:
        ask = LeaseAsk.read(fields)
        proof = None
        if fields.optional("proof"):
            with fields.child("proof") as told:
                proof = LeaseProof.read(told)
        request = last_envelope(fields, "request")
        return {"lease": (await self._leases.renew_witnessed(request, ask, proof)).to_json()}

    async def _attestable(self, fields: Fields) -> Answer:
        platform = fields.parsed("platform", platform_id)
        fields.end()
        ledger = self._keeper.journal.ledger
        return {"attestable": platform in ledger.platforms and platform not in ledger.revoked_platforms}

    async def _beat(self, fields: Fields) -> Answer:
        self._keeper.require_unlocked()
        self._keeper.dead_man.hear(last_envelope(fields, "heartbeat"))
        return {}

    async def _show_attested(self, fields: Fields) -> Answer:
        digest = fields.digest("digest")
        fields.end()
        record = await self._searched(lambda: self._keeper.attested(digest))
        if record is None:
            raise NotFoundError("this evidence isn't kept any more: it made room for newer")
        return {"attested": record.to_json()}

    async def _ended(self, fields: Fields) -> Answer:
        request, use = fields.digest("request"), fields.integer("use", least=1, most=MAX_USE)
        wait = fields.integer("wait", most=LONGEST_WAIT)
        fields.end()
        return {"reason": await self._leases.ended(request, use, wait=wait)}

    async def _close_shard(self, fields: Fields) -> Answer:
        fields.end()
        return _recorded(await self._shards.turn())

    async def _prune_shard(self, fields: Fields) -> Answer:
        shard, minimum = fields.integer("shard", least=1), fields.integer("minimum")
        fields.end()
        return _recorded(await self._shards.prune(shard, minimum))

    async def _walls(self, fields: Fields) -> Answer:
        fields.end()
        standing = self._keeper.standing
        return {} if standing is None else standing.to_json()

    async def _lock(self, fields: Fields) -> Answer:
        fields.end()
        self._keeper.lock("asked")
        return {}


def _granted(ledger: Ledger, name: Digest, request: Request | None) -> Json:
    """Return what became of a request's grant: when it was issued, on whose word, and what is left of it."""
    grant = ledger.grants.get(name)
    if grant is None or request is None:
        return None
    return {
        "issued": format_instant(grant.at),
        "approvers": [*grant.approvers],
        "access": grant.access,
        "expires": format_instant(grant.expires),
        "uses": request.max_uses,
        "used": ledger.times_used(name),
        "ended": name in ledger.revoked or name in ledger.denied or name in ledger.fallen,
    }


def _in_force(ledger: Ledger, kind: str, epoch: int) -> bool:
    document = adopted(ledger, DocumentKind(kind))
    return document is not None and document.epoch >= epoch


def _recorded(recorded: Recorded) -> Answer:
    return {"index": recorded.index, "checkpoint": recorded.checkpoint.decode()}


def _dossier(fields: Fields) -> Dossier:
    with fields.child("dossier") as child:
        dossier = Dossier.read(child)
    fields.end()
    return dossier
