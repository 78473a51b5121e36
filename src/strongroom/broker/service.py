"""The broker's acts: store what was signed, carry it to the keeper, hand back what the keeper said.

An act that the keeper carries out and the store then keeps runs to its end even when its caller leaves or waits too
long. A crash in between loses nothing that the log doesn't hold: posting the same object again stores it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import structlog

from strongroom.access.policy import MAX_APPROVALS
from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE, REQUEST_TYPE, Action, Request
from strongroom.audit.entries import read_entry
from strongroom.broker.door import Door
from strongroom.broker.noticeboard import Announcing, NoticeBoard
from strongroom.broker.ports import (
    KeeperPort,
    LogPort,
    ManifestRow,
    RequestRow,
    StorePort,
    VoiceKind,
    VoiceRow,
    WrappedRow,
)
from strongroom.broker.rows import envelope_text, stored_envelope, stored_wrapped, wrapped_text
from strongroom.core.buckets import Buckets, Rate
from strongroom.core.canonical import Json
from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import (
    ConflictError,
    DeniedError,
    MalformedError,
    NotFoundError,
    StrongroomError,
    UsageError,
)
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.release.dossier import Dossier, Testimony, WrappedDataKey
from strongroom.sealing.manifest import Manifest, read_manifest

T = TypeVar("T")
Members = dict[str, Json]
FIND_ENTRIES: Final = 65_536
"""How far back the log is searched for a record that the store has lost."""
MAX_LEASE_WAITS: Final = 256
"""Enclaves that may wait for their lease's end at once; the keeper's socket and the server have room for more calls."""
IMPORTS: Final = Rate(per_second=0.1, burst=12)
"""Bundles of collateral that a person may begin to hand in: to check one takes the keeper up to seconds."""
_READ: Final = 256
_VOICES: Final = {
    VoiceKind.APPROVE: (EventName.REQUEST_APPROVED, "approval"),
    VoiceKind.DENY: (EventName.REQUEST_DENIED, "denial"),
}
_SIGNED_AS: Final = {VoiceKind.APPROVE: APPROVAL_TYPE, VoiceKind.DENY: DENIAL_TYPE}
_log = structlog.get_logger("strongroom.broker")


class Broker:
    """Everything that the routes can ask for. Bound to one event loop."""

    def __init__(
        self, *, genesis: Genesis, keeper: KeeperPort, log: LogPort, store: StorePort, door: Door, clock: Clock
    ) -> None:
        self.genesis = genesis
        self._door = door
        self.notices = NoticeBoard(log=log, store=store, keeper_key=genesis.keeper_key, find=self._recorded_at)
        self.keeper: KeeperPort = Announcing(keeper, self.notices.wake)
        self.log = log
        self.store = store
        self.clock = clock
        self.lease_waits = asyncio.Semaphore(MAX_LEASE_WAITS)
        self.imports = Buckets(IMPORTS)
        self.keys_wait = asyncio.Event()
        """Set when data keys may wait to be moved to another KEK."""
        self._acts: set[asyncio.Task[Any]] = set()

    async def drain(self) -> None:
        """Wait for the acts under way."""
        if self._acts:
            await asyncio.wait(self._acts)

    # --- requests and what is said about them -------------------------------------------------------------------------

    async def submit(self, envelope: Envelope) -> Members:
        """Have the keeper record a request, and store it.

        :raises NotTheirsError: the requester didn't sign it.
        """
        request = Request.parse(envelope.payload)
        await self._door.require_author(envelope, REQUEST_TYPE, request.requester)
        return await self.whole(self._submit(envelope, request))

    async def _submit(self, envelope: Envelope, request: Request) -> Members:
        name = envelope.digest
        try:
            recorded = _recorded(await self.keeper.call("submit", request=envelope.to_json()), "request")
        except ConflictError as error:
            if error.reason != "request-known":
                raise
            recorded = await self._recorded_before(name, error)
        await self.store.put_request(
            RequestRow(
                digest=str(name),
                action=request.action.value,
                model=request.model,
                requester=request.requester,
                created=self.clock.now(),
                envelope=envelope_text(envelope),
                expires=request.expires,
                log_index=recorded[0],
                checkpoint=recorded[1],
            )
        )
        await self._grant(name)
        return {"request": str(name), **_answer(recorded)}

    async def _recorded_before(self, request: Digest, error: ConflictError) -> tuple[int, str]:
        row = await self.store.request(str(request))
        if row is not None and row.log_index is not None and row.checkpoint is not None:
            return row.log_index, row.checkpoint
        # The keeper recorded it, and the row was lost before it was written, or taken away since.
        return await self._find(EventName.REQUEST_CREATED, "request", request, error)

    async def voice(self, request: Digest, envelope: Envelope, kind: VoiceKind) -> Members:
        """Have the keeper record an approval or denial, and store it. The same one again answers the same.

        :raises UsageError: it is about another request than the one it was posted to.
        :raises NotTheirsError: the person whose key it names didn't sign it.
        :raises ConflictError: as many others approved as are ever looked at.
        """
        if envelope.digest != request:
            raise UsageError("the envelope is about another request than the one it was posted to")
        await self._door.require_author(envelope, _SIGNED_AS[kind])
        await self._request(request)
        return await self.whole(self._voice(request, envelope, kind))

    async def _voice(self, request: Digest, envelope: Envelope, kind: VoiceKind) -> Members:
        text = envelope_text(envelope)
        said = [row for row in await self.store.voices(str(request)) if row.kind is kind]
        for row in said:
            if row.envelope == text and row.log_index is not None and row.checkpoint is not None:
                return _answer((row.log_index, row.checkpoint))
        # Of each key the last word is kept, else one person could fill what is looked at. A denial is never refused for
        # its number, or for what rows say: it ends the request by the log.
        by_key = _by_key(said)
        before = by_key.pop(_key_ids(envelope), None)
        if kind is VoiceKind.APPROVE and before is None and len(by_key) >= MAX_APPROVALS:
            raise ConflictError(
                f"{MAX_APPROVALS} others approved this request, and no more are looked at",
                reason="approvals-full",
                remedy="if theirs don't count, have the requester make a new one",
            )
        try:
            recorded = _recorded(await self.keeper.call(kind.value, envelope=envelope.to_json()))
        except ConflictError as error:
            if error.reason != "voice-known":
                raise
            event, fact = _VOICES[kind]
            recorded = await self._find(event, fact, Digest.of(envelope.to_bytes()), error)
        await self.store.put_voice(
            VoiceRow(
                request=str(request),
                kind=kind,
                envelope=text,
                created=self.clock.now(),
                log_index=recorded[0],
                checkpoint=recorded[1],
            ),
            instead_of=before,
        )
        if kind is VoiceKind.APPROVE:
            await self._grant(request)
        return _answer(recorded)

    async def _grant(self, request: Digest) -> None:
        """Let the keeper issue the grant if the quorum agreed. If it can't now, it does so at the first use."""
        try:
            await self.keeper.call("grant", dossier=(await self._dossier(request)).to_json())
        except StrongroomError as error:
            _log.warning("a grant wasn't issued yet", code=error.reason)

    async def shown(self, request: Digest) -> Members:
        """Return a request with everything said about it."""
        row = await self._request(request)
        approvals, denials = await self._voices(request)
        return {
            "request": stored_envelope(row.envelope, "request").to_json(),
            "approvals": [envelope.to_json() for envelope in approvals],
            "denials": [envelope.to_json() for envelope in denials],
        }

    async def explain(self, request: Digest) -> Members:
        """Have the keeper say how it would judge the request now, without any effect."""
        dossier = await self._dossier(request)
        with await self.keeper.call("explain", dossier=dossier.to_json()) as answer:
            return {name: answer.value(name) for name in ("allowed", "checks", "others", "grant")}

    async def suspend(self, person: PersonId, cause: str) -> Members:
        """Take everything from a person at once. Needs no signature: whoever is believed here can only lower."""
        return await self.whole(self._suspend(person, cause))

    async def _suspend(self, person: PersonId, cause: str) -> Members:
        with await self.keeper.call("suspend", person=person, cause=cause) as answer:
            return {name: answer.value(name) for name in ("index", "grants", "approvals", "leases")}

    # --- acts ---------------------------------------------------------------------------------------------------------

    async def control(self, request: Digest) -> Members:
        """Have the keeper freeze, resume or revoke."""
        return await self.whole(self._control(request))

    async def _control(self, request: Digest) -> Members:
        dossier = await self._dossier(request)
        asked = Request.parse(dossier.request.payload)
        if asked.action is Action.DESTROY:
            # Its wait begins with the grant: one that couldn't be issued when people agreed is asked for again.
            await self._grant(request)
        recorded = _recorded(await self.keeper.call("control", dossier=dossier.to_json()))
        await self.store.close_request(str(request), self.clock.now())
        if asked.action is Action.DESTROY:
            # They open nothing any more. They go all the same: what isn't there needn't be proved useless.
            await self.store.erase_wrapped(asked.model)
        # It may have been a rotation: data keys wait to be moved.
        self.keys_wait.set()
        return _answer(recorded)

    async def carry_out(self, order: Envelope) -> Members:
        """Have the keeper carry out an order of the root quorum."""
        return _answer(_recorded(await self.keeper.call("key-order", envelope=order.to_json())))

    async def certify(self, model: str) -> Members:
        """Have the keeper sign another destruction certificate, if there is something new to say."""
        with await self.keeper.call("certify", model=model) as answer:
            certificate = answer.value("certificate")
        # A crash may have kept them after the destruction.
        await self.store.erase_wrapped(model)
        return {"certificate": certificate}

    async def seal(self, request: Digest, recipient_key: bytes) -> Members:
        """Have the keeper make a data key. Its wrapped form is durable here before the delivery is handed out.

        Otherwise a publisher could seal weights under a key that nobody can ever unwrap again.
        """
        return await self.whole(self._seal(request, recipient_key))

    async def _seal(self, request: Digest, recipient_key: bytes) -> Members:
        row = await self._request(request)
        envelope = stored_envelope(row.envelope, "request")
        asked = Request.parse(envelope.payload)
        dossier = await self._dossier(request, recipient_key=recipient_key)
        with await self.keeper.call("seal", dossier=dossier.to_json()) as answer:
            delivery = answer.value("delivery")
            with answer.child("wrapped") as child:
                wrapped = WrappedDataKey.read(child)
        await self.store.put_wrapped(
            WrappedRow(data_key=wrapped.data_key, model=asked.model, version=asked.version, body=wrapped_text(wrapped))
        )
        await self.store.close_request(str(request), self.clock.now())
        return {"delivery": delivery}

    async def export(self, request: Digest, recipient_key: bytes) -> Members:
        """Have the keeper deliver the data key to a person's recipient key. Deliveries are not stored."""
        return await self.whole(self._export(request, recipient_key))

    async def _export(self, request: Digest, recipient_key: bytes) -> Members:
        row = await self._request(request)
        asked = Request.parse(stored_envelope(row.envelope, "request").payload)
        wrapped = await self._wrapped(asked.model, asked.version)
        dossier = await self._dossier(request, wrapped=wrapped, recipient_key=recipient_key)
        with await self.keeper.call("export", dossier=dossier.to_json()) as answer:
            delivery = answer.value("delivery")
        await self.store.close_request(str(request), self.clock.now())
        return {"delivery": delivery}

    async def challenge(self, request: Digest, platform: str) -> Members:
        """Have the keeper issue a challenge."""
        with await self.keeper.call("challenge", request=str(request), platform=platform) as answer:
            return {name: answer.value(name) for name in ("challenge", "nonce", "expires")}

    async def release(self, request: Digest, *, challenge: str, platform: str, evidence: bytes) -> Members:
        """Hand the keeper a dossier made of stored rows and an enclave's evidence. Deliveries are not stored."""
        record = await self.store.platform(platform)
        if record is None:
            raise NotFoundError("no enrolment record of this platform is stored", remedy="enrol the platform")
        row = await self._request(request)
        asked = Request.parse(stored_envelope(row.envelope, "request").payload)
        dossier = await self._dossier(
            request,
            testimony=Testimony(
                challenge=challenge, platform=stored_envelope(record.envelope, "platform record"), evidence=evidence
            ),
            wrapped=await self._wrapped(asked.model, asked.version),
        )
        with await self.keeper.call("release", dossier=dossier.to_json()) as answer:
            return {name: answer.value(name) for name in ("delivery", "result")}

    async def _wrapped(self, model: str, version: int) -> WrappedDataKey | None:
        # A version may have been sealed more than once; its manifest names the data key that counts. If the row lies,
        # the keeper finds that the key isn't the one in the log.
        manifest = await self.store.manifest(model, version)
        row = None
        if manifest is not None:
            row = await self.store.wrapped(_manifest(stored_envelope(manifest.envelope, "manifest")).data_key_id)
        if row is None:
            row = await self.store.newest_wrapped(model, version)
        return stored_wrapped(row.body) if row else None

    # --- manifests ----------------------------------------------------------------------------------------------------

    async def register(self, envelope: Envelope, request: Digest) -> Members:
        """Have the keeper register a version, and store its manifest. The same one again answers the same."""
        manifest = read_manifest(envelope)
        return await self.whole(self._register(envelope, manifest, request))

    async def _register(self, envelope: Envelope, manifest: Manifest, request: Digest) -> Members:
        try:
            answer = await self.keeper.call("register", manifest=envelope.to_json(), request=str(request))
            recorded = _recorded(answer)
        except DeniedError as error:
            recorded = await self._registered_before(manifest, error)
        await self.store.put_manifest(
            ManifestRow(
                model=manifest.model,
                version=manifest.version,
                digest=str(manifest.digest),
                envelope=envelope_text(envelope),
                log_index=recorded[0],
                checkpoint=recorded[1],
            )
        )
        return _answer(recorded)

    async def _registered_before(self, manifest: Manifest, error: DeniedError) -> tuple[int, str]:
        row = await self.store.manifest(manifest.model, manifest.version)
        known = row is not None and row.digest == str(manifest.digest)
        if known and row is not None and row.log_index is not None and row.checkpoint is not None:
            return row.log_index, row.checkpoint
        return await self._find(EventName.VERSION_REGISTERED, "manifest", manifest.digest, error)

    async def manifest(self, model: str, version: int) -> Members:
        """Return a registered manifest."""
        row = await self.store.manifest(model, version)
        if row is None:
            raise NotFoundError("no manifest of this version is stored")
        return {"manifest": stored_envelope(row.envelope, "manifest").to_json()}

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _request(self, request: Digest) -> RequestRow:
        row = await self.store.request(str(request))
        if row is None:
            raise NotFoundError("no such request is stored", remedy="submit it; if it was submitted, submit it again")
        return row

    async def _voices(self, request: Digest) -> tuple[tuple[Envelope, ...], tuple[Envelope, ...]]:
        approvals, denials = [], []
        for row in await self.store.voices(str(request)):
            if row.kind is VoiceKind.APPROVE:
                approvals.append(stored_envelope(row.envelope, "approval"))
            else:
                denials.append(stored_envelope(row.envelope, "denial"))
        return tuple(approvals), tuple(denials)

    async def _dossier(
        self,
        request: Digest,
        *,
        testimony: Testimony | None = None,
        wrapped: WrappedDataKey | None = None,
        recipient_key: bytes = b"",
    ) -> Dossier:
        row = await self._request(request)
        approvals, _denials = await self._voices(request)
        return Dossier(
            request=stored_envelope(row.envelope, "request"),
            approvals=approvals[:MAX_APPROVALS],
            testimony=testimony,
            wrapped=wrapped,
            recipient_key=recipient_key,
        )

    async def _find(self, event: EventName, fact: str, digest: Digest, error: StrongroomError) -> tuple[int, str]:
        """Find a record in the log, newest first.

        :raises StrongroomError: ``error``, when the log holds none.
        """
        size, checkpoint = await self.log.checkpoint()
        needle, end, least = str(digest).encode(), size, max(0, size - FIND_ENTRIES)
        while end > least:
            start = max(least, end - _READ)
            entries = await self._entries(start, end)
            for offset in reversed(range(len(entries))):
                if needle in entries[offset]:
                    entry = read_entry(entries[offset])
                    if entry.event is event and entry.facts.get(fact) == str(digest):
                        return start + offset, checkpoint
            end = start
        raise error

    async def _recorded_at(self, request: Digest) -> int:
        none = NotFoundError("the log shows no such request")
        return (await self._find(EventName.REQUEST_CREATED, "request", request, none))[0]

    async def _entries(self, start: int, end: int) -> list[bytes]:
        entries: list[bytes] = []
        while start + len(entries) < end:
            more = await self.log.read(start + len(entries), end - start - len(entries))
            if not more:
                raise NotFoundError("the log shows fewer entries than its checkpoint says")
            entries += more
        return entries

    async def whole(self, act: Coroutine[Any, Any, T]) -> T:
        """Run an act to its end, whatever becomes of who asked for it."""
        task = asyncio.create_task(act)
        self._acts.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._acts.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("an act was refused", error=type(error).__name__)


def _manifest(envelope: Envelope) -> Manifest:
    try:
        return read_manifest(envelope)
    except MalformedError as error:
        raise NotFoundError(f"the stored manifest can't be read: {error.message}", remedy="post it again") from None


def _recorded(answer: Fields, *more: str) -> tuple[int, str]:
    with answer:
        for name in more:
            answer.value(name)
        index, checkpoint = answer.integer("index"), answer.value("checkpoint")
    if not isinstance(checkpoint, str):
        raise MalformedError("the keeper's answer carries no checkpoint")
    return index, checkpoint


def _answer(recorded: tuple[int, str]) -> Members:
    return {"index": recorded[0], "checkpoint": recorded[1]}


def _key_ids(envelope: Envelope) -> tuple[str, ...]:
    return tuple(signature.key_id for signature in envelope.signatures)


def _by_key(rows: Sequence[VoiceRow]) -> dict[tuple[str, ...], str]:
    """Return what was said last by each key; a row that can't be read is nobody's."""
    found: dict[tuple[str, ...], str] = {}
    for row in rows:
        with suppress(StrongroomError):
            found[_key_ids(stored_envelope(row.envelope, row.kind.value))] = row.envelope
    return found
