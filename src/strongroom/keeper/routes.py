"""The keeper's socket protocol: what may be asked, with which members, and what comes back.

status        {}                          -> the state that the broker may show; clients check it against the log
adopt         {kind, envelope}            -> {index}               a document signed by the root quorum
submit        {request}                   -> {request, index, checkpoint}
approve, deny {envelope}                  -> {index, checkpoint}
challenge     {request, platform}         -> {challenge, nonce, expires}
release       {dossier}                   -> {delivery}            steps 4 to 6
seal          {dossier}                   -> {delivery, wrapped}
control       {dossier}                   -> {index, checkpoint}   freeze, resume, revoke
register      {manifest, request}         -> {index, checkpoint}
enrol-begin   {enrolment}                 -> {session, credential_blob, encrypted_secret, platform, isolation}
enrol-finish  {session, answer}           -> {platform}            the signed record
explain       {dossier}                   -> {allowed, checks, others}
lock          {}                          -> {}
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE
from strongroom.attestation.enrolment import MAX_REQUEST, EnrolmentRequest
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import UsageError
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.core.ids import platform_id
from strongroom.ipc.frames import Call
from strongroom.keeper.journal import Recorded
from strongroom.keeper.registry import PlatformRegistry, register_version
from strongroom.keeper.service import Keeper
from strongroom.release.documents import DocumentKind, adopted
from strongroom.release.dossier import Dossier

Answer = dict[str, Json]


class KeeperRoutes:
    """Maps operations to the keeper. Members are read strictly: an unknown one refuses the call."""

    def __init__(self, keeper: Keeper, platforms: PlatformRegistry) -> None:
        self._keeper = keeper
        self._platforms = platforms
        self._routes: dict[str, Callable[[Fields], Awaitable[Answer]]] = {
            "status": self._status,
            "adopt": self._adopt,
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
            "explain": self._explain,
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
            "log": {"size": size, "root": to_base64(root)},
            "latest": format_instant(ledger.latest),
        }

    async def _adopt(self, fields: Fields) -> Answer:
        kind = fields.parsed("kind", DocumentKind)
        return {"index": await self._keeper.adopt(kind, _envelope(fields, "envelope"))}

    async def _submit(self, fields: Fields) -> Answer:
        envelope = _envelope(fields, "request")
        return {"request": str(envelope.digest), **_recorded(await self._keeper.submit(envelope))}

    async def _approve(self, fields: Fields) -> Answer:
        envelope = _envelope(fields, "envelope")
        return _recorded(await self._keeper.voice(envelope, APPROVAL_TYPE, EventName.REQUEST_APPROVED, "approval"))

    async def _deny(self, fields: Fields) -> Answer:
        envelope = _envelope(fields, "envelope")
        return _recorded(await self._keeper.voice(envelope, DENIAL_TYPE, EventName.REQUEST_DENIED, "denial"))

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
        return {"delivery": (await self._keeper.release(_dossier(fields))).to_json()}

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

    async def _explain(self, fields: Fields) -> Answer:
        verdict = self._keeper.explain(_dossier(fields))
        return {
            "allowed": verdict.allowed,
            "checks": [check.to_json() for check in verdict.trace.checks],
            "others": [{"reason": reason, "remedy": remedy} for reason, remedy in verdict.others],
        }

    async def _lock(self, fields: Fields) -> Answer:
        fields.end()
        self._keeper.lock("asked")
        return {}


def _recorded(recorded: Recorded) -> Answer:
    return {"index": recorded.index, "checkpoint": recorded.checkpoint.decode()}


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
