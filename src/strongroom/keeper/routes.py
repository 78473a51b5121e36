"""The keeper's socket protocol: what may be asked, with which members, and what comes back.

status        {}                          -> the state that the broker may show; clients check it against the log
adopt         {kind, envelope}            -> {index, effective}    a document signed by the root quorum
state         {kind, envelope}            -> {index, checkpoint}   a statement about people or access
suspend       {person, cause}             -> {index, grants, approvals, leases}
people        {}                          -> {people, caps}
grants        {}                          -> {grants}              the newest 1,000
fallen        {digest}                    -> {envelope}            what fell with a suspension
decisions     {count, skip}               -> {decisions}           kept ones, oldest first, without the newest `skip`
decision      {digest}                    -> {decision}            the kept decision that the log names
grant         {dossier}                   -> {index}               issued now, or null
export        {dossier}                   -> {delivery}
submit        {request}                   -> {request, index, checkpoint}
approve, deny {envelope}                  -> {index, checkpoint}
challenge     {request, platform}         -> {challenge, nonce, expires}
release       {dossier}                   -> {delivery, result}    steps 4 to 6; the result is a token for anybody
seal          {dossier}                   -> {delivery, wrapped}
control       {dossier}                   -> {index, checkpoint}   freeze, resume, revoke
register      {manifest, request}         -> {index, checkpoint}
enrol-begin   {enrolment}                 -> {session, credential_blob, encrypted_secret, platform, isolation}
enrol-finish  {session, answer}           -> {platform}            the signed record
chip-begin    {kind}                      -> {session, nonce, expires}
chip-finish   {session, evidence}         -> {platform}            the signed record
collateral    {skip, count}               -> {digest, lost, count, items}
import-collateral {by, bundle, size, offset, part} -> {received, imported}   the last part imports the bundle
explain       {dossier}                   -> {allowed, checks, others, grant}
renew         {request, use, recipient, serial, nonce, proof} -> {lease}  signed; the request's envelope is judged
                                                                   again, and so is the new evidence in `proof`, or null
attested      {digest}                    -> {attested}            the evidence and result that the log names
ended         {request, use, wait}        -> {reason}              why a lease ended; empty when `wait` seconds passed
odometer      {model}                     -> {total, recent, run, index, resumed, frozen, policy}
odometer-open {delivery, seen}            -> {index, entry}        the signed log entry; `seen`: newest kept, or null
odometer-advance {delivery, block}        -> {index, entry}
egress-breach {delivery, cause}           -> {index}               freezes the model; null when it was frozen before
workspace-begin {delivery, ask}           -> {word}                signed: the input `ask` names is recorded
workspace-leave {delivery, ask}           -> {word}                signed: the drop `ask` names is charged
drops         {model}                     -> {drops}               the newest 1,000
lock          {}                          -> {}
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from strongroom.access.request import Request
from strongroom.attestation.bundle.format import MAX_BUNDLE
from strongroom.attestation.collateral import MAX_ITEMS
from strongroom.attestation.enrolment import MAX_REQUEST, EnrolmentRequest
from strongroom.attestation.evidence import MAX_BODY
from strongroom.attestation.kinds import EvidenceKind
from strongroom.audit.entries import MAX_ENTRY
from strongroom.core.canonical import Json
from strongroom.core.clock import Clock, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import NotFoundError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.ids import model_id, person_id, platform_id
from strongroom.egress.odometer import Block
from strongroom.ipc.frames import Call
from strongroom.keeper import voices
from strongroom.keeper.collateral import MAX_PART, CollateralRegistry, Imported
from strongroom.keeper.drops import Drops
from strongroom.keeper.egress import Meters
from strongroom.keeper.journal import Recorded
from strongroom.keeper.leases import LONGEST_WAIT, Leases
from strongroom.keeper.people import People
from strongroom.keeper.pins import DecisionStore
from strongroom.keeper.registry import PlatformRegistry, register_version
from strongroom.keeper.service import Keeper
from strongroom.personnel.lifecycle import SuspensionCause
from strongroom.release.documents import DocumentKind, adopted
from strongroom.release.dossier import Dossier
from strongroom.release.drop import PassageAsk
from strongroom.release.lease import MAX_USE, LeaseAsk, LeaseProof
from strongroom.release.ledger import Ledger
from strongroom.release.metering import MAX_CAUSE, breach_cause
from strongroom.release.statements import StatementKind

MAX_DECISIONS: Final = 500
MAX_SKIPPED: Final = 10_000
MAX_SHOWN: Final = 512
"""Items of collateral in one answer."""
MAX_ANSWERED: Final = 500_000
"""Bytes of decisions in one answer; base64 makes a third more of them, and a frame has 1 MiB."""

Answer = dict[str, Json]


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
    ) -> None:
        self._keeper = keeper
        self._meters = Meters(keeper, leases, clock)
        self._drops = Drops(keeper, leases, clock)
        self._collateral = collateral
        self._platforms = platforms
        self._people = people
        self._leases = leases
        self._decisions = decisions
        self._clock = clock
        self._routes: dict[str, Callable[[Fields], Awaitable[Answer]]] = {
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
            "register": self._register,
            "enrol-begin": self._enrol_begin,
            "enrol-finish": self._enrol_finish,
            "chip-begin": self._chip_begin,
            "chip-finish": self._chip_finish,
            "collateral": self._show_collateral,
            "import-collateral": self._import_collateral,
            "explain": self._explain,
            "renew": self._renew,
            "attested": self._show_attested,
            "ended": self._ended,
            "odometer": self._odometer,
            "odometer-open": self._open_odometer,
            "odometer-advance": self._advance_odometer,
            "egress-breach": self._breach,
            "workspace-begin": self._begin_workspace,
            "workspace-leave": self._leave_workspace,
            "drops": self._show_drops,
            "lock": self._lock,
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
            "log": {"size": size, "root": to_base64(root)},
            "latest": format_instant(ledger.latest),
        }

    async def _adopt(self, fields: Fields) -> Answer:
        kind = fields.parsed("kind", DocumentKind)
        adoption = await self._keeper.adopt(kind, _envelope(fields, "envelope"))
        return {
            "index": adoption.recorded.index if adoption.recorded else None,
            "effective": None if adoption.effective is None else format_instant(adoption.effective),
        }

    async def _state(self, fields: Fields) -> Answer:
        kind = fields.parsed("kind", StatementKind)
        return _recorded(await self._people.state(kind, _envelope(fields, "envelope")))

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
        skip = fields.integer("skip", most=MAX_SKIPPED) if fields.optional("skip") else 0
        fields.end()
        kept = self._decisions.newest(skip + count)
        records: list[Json] = []
        room = MAX_ANSWERED
        for record in reversed(kept[: max(0, len(kept) - skip)]):
            # As many as a frame holds; whoever asked goes on behind them.
            room -= len(record)
            if records and room < 0:
                break
            records.append(to_base64(record))
        return {"decisions": records[::-1]}

    async def _show_decision(self, fields: Fields) -> Answer:
        digest = fields.digest("digest")
        fields.end()
        record = self._decisions.find(digest)
        if record is None:
            raise NotFoundError("this decision isn't kept any more: erased with a person, or to make room for others")
        return {"decision": to_base64(record)}

    async def _grant(self, fields: Fields) -> Answer:
        recorded = await self._keeper.grant(_dossier(fields))
        return {"index": recorded.index if recorded else None}

    async def _export(self, fields: Fields) -> Answer:
        return {"delivery": (await self._keeper.export(_dossier(fields))).to_json()}

    async def _submit(self, fields: Fields) -> Answer:
        envelope = _envelope(fields, "request")
        recorded = await voices.submit(self._keeper, self._clock, envelope)
        return {"request": str(envelope.digest), **_recorded(recorded)}

    async def _approve(self, fields: Fields) -> Answer:
        return _recorded(await voices.approve(self._keeper, self._clock, _envelope(fields, "envelope")))

    async def _deny(self, fields: Fields) -> Answer:
        return _recorded(await voices.deny(self._keeper, _envelope(fields, "envelope")))

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

    async def _register(self, fields: Fields) -> Answer:
        request = fields.digest("request")
        return _recorded(await register_version(self._keeper, _envelope(fields, "manifest"), request))

    async def _enrol_begin(self, fields: Fields) -> Answer:
        request = EnrolmentRequest.parse(fields.binary("enrolment", max_length=MAX_REQUEST))
        fields.end()
        opened = self._platforms.begin(request)
        return {
            "session": opened.session,
            "credential_blob": to_base64(opened.pending.credential.blob),
            "encrypted_secret": to_base64(opened.pending.credential.encrypted_seed),
            "platform": opened.pending.facts.platform,
            "isolation": opened.pending.facts.isolation.value,
        }

    async def _enrol_finish(self, fields: Fields) -> Answer:
        session, answer = fields.text("session", max_length=64), fields.binary("answer", max_length=64)
        fields.end()
        return {"platform": (await self._platforms.finish(session, answer)).to_json()}

    async def _chip_begin(self, fields: Fields) -> Answer:
        kind = fields.parsed("kind", EvidenceKind)
        fields.end()
        opened = self._platforms.begin_chip(kind)
        return {
            "session": opened.session,
            "nonce": to_base64(opened.pending.binding.nonce),
            "expires": format_instant(opened.pending.expires),
        }

    async def _chip_finish(self, fields: Fields) -> Answer:
        session, evidence = fields.text("session", max_length=64), fields.binary("evidence", max_length=MAX_BODY)
        fields.end()
        return {"platform": (await self._platforms.finish_chip(session, evidence)).to_json()}

    async def _show_collateral(self, fields: Fields) -> Answer:
        skip, count = fields.integer("skip", most=MAX_ITEMS), fields.integer("count", least=1, most=MAX_SHOWN)
        fields.end()
        held = self._collateral.held(skip=skip, count=count)
        return {
            "digest": str(self._collateral.digest),
            "lost": self._collateral.lost,
            "count": self._collateral.count,
            "items": [one.to_json() for one in held],
        }

    async def _import_collateral(self, fields: Fields) -> Answer:
        by, bundle = fields.parsed("by", person_id), fields.digest("bundle")
        size, offset = fields.integer("size", most=MAX_BUNDLE), fields.integer("offset", most=MAX_BUNDLE)
        part = fields.binary("part", max_length=MAX_PART)
        fields.end()
        came = await self._collateral.receive(by, bundle=bundle, size=size, offset=offset, part=part)
        if not isinstance(came, Imported):
            return {"received": came, "imported": None}
        return {
            "received": size,
            "imported": {
                "index": came.recorded.index if came.recorded else None,
                "digest": str(came.digest),
                "items": came.items,
                "added": came.added,
                "replaced": came.replaced,
            },
        }

    async def _explain(self, fields: Fields) -> Answer:
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
        return {"lease": self._leases.renew(_envelope(fields, "request"), ask, proof).to_json()}

    async def _show_attested(self, fields: Fields) -> Answer:
        digest = fields.digest("digest")
        fields.end()
        # Tens of megabytes may have to be read: no release or freeze waits for that.
        record = await asyncio.to_thread(self._keeper.attested, digest)
        if record is None:
            raise NotFoundError("this evidence isn't kept any more: it made room for newer")
        return {"attested": record.to_json()}

    async def _ended(self, fields: Fields) -> Answer:
        request, use = fields.digest("request"), fields.integer("use", least=1, most=MAX_USE)
        wait = fields.integer("wait", most=LONGEST_WAIT)
        fields.end()
        return {"reason": await self._leases.ended(request, use, wait=wait)}

    async def _odometer(self, fields: Fields) -> Answer:
        model = fields.parsed("model", model_id)
        fields.end()
        spent, policy = self._meters.spent(model), self._keeper.documents.egress.get(model)
        return {
            "total": spent.total,
            "recent": spent.recent,
            "run": spent.run,
            "index": spent.index,
            "resumed": spent.resumed,
            "frozen": spent.frozen,
            "policy": None if policy is None else str(policy.digest),
        }

    async def _open_odometer(self, fields: Fields) -> Answer:
        seen = fields.binary("seen", max_length=MAX_ENTRY) if fields.optional("seen") else None
        return _entry(await self._meters.open(_envelope(fields, "delivery"), seen))

    async def _advance_odometer(self, fields: Fields) -> Answer:
        with fields.child("block") as child:
            block = Block.read(child)
        return _entry(await self._meters.advance(_envelope(fields, "delivery"), block))

    async def _breach(self, fields: Fields) -> Answer:
        cause = fields.parsed("cause", breach_cause, max_length=MAX_CAUSE)
        recorded = await self._meters.breach(_envelope(fields, "delivery"), cause)
        return {"index": recorded.index if recorded else None}

    async def _begin_workspace(self, fields: Fields) -> Answer:
        ask = _passage(fields)
        return {"word": (await self._drops.begin(_envelope(fields, "delivery"), ask)).to_json()}

    async def _leave_workspace(self, fields: Fields) -> Answer:
        ask = _passage(fields)
        return {"word": (await self._drops.leave(_envelope(fields, "delivery"), ask)).to_json()}

    async def _show_drops(self, fields: Fields) -> Answer:
        model = fields.parsed("model", model_id)
        fields.end()
        return {"drops": self._drops.shown(model)}

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
        "approvers": [*sorted(who for who, at in ledger.approvals.get(name, {}).items() if at <= grant.at)],
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


def _entry(recorded: Recorded) -> Answer:
    return {"index": recorded.index, "entry": to_base64(recorded.entry)}


def _passage(fields: Fields) -> PassageAsk:
    with fields.child("ask") as child:
        return PassageAsk.read(child)


def _envelope(fields: Fields, name: str) -> Envelope:
    with fields.child(name) as child:
        envelope = Envelope.read(child)
    fields.end()
    return envelope


def _dossier(fields: Fields) -> Dossier:
    with fields.child("dossier") as child:
        dossier = Dossier.read(child)
    fields.end()
    return dossier
