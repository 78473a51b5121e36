"""The keeper: steps 4, 5 and 6 of the release protocol, and the other acts that only it may record.

4  verify, born refused (4.1 to 4.9, :mod:`strongroom.release.judge`)
5  append the record, durably; then look at freezes and revocations again
6  unwrap the data key, encrypt it to the recipient key, sign the delivery

One event loop, and no waiting between a decision and the moment its record is queued: two releases can't both take
the last use of a grant, and no release slips past a freeze that was decided before it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Final

from strongroom.access.request import REQUEST_TYPE, Action, Request
from strongroom.audit.facts import Fact
from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign, verify
from strongroom.core.errors import ConflictError, DeniedError, LockedError, TamperedError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PlatformId
from strongroom.core.secret import SecretBytes
from strongroom.keeper.journal import Journal, Recorded
from strongroom.keeper.pins import DocumentStore, PinStore
from strongroom.keeper.vault import Vault
from strongroom.keys.wrapping import RandomBytes
from strongroom.personnel.roster import Roster
from strongroom.release.challenge import CHALLENGE_SECONDS, Challenge, OpenChallenges
from strongroom.release.delivery import DELIVERY_TYPE, Delivery
from strongroom.release.documents import (
    ADOPTED_EVENTS,
    Candidate,
    DocumentKind,
    Documents,
    StaleDocumentError,
    adopted,
    examine_document,
)
from strongroom.release.dossier import Dossier, WrappedDataKey
from strongroom.release.judge import Verdict, examine
from strongroom.release.ledger import Version
from strongroom.release.steps import ReleaseRefusedError, Step

CHALLENGE_BYTES: Final = 16
NONCE_BYTES: Final = 32
_CONTROL_EVENTS: Final = {
    Action.FREEZE: EventName.MODEL_FROZEN,
    Action.RESUME: EventName.MODEL_RESUMED,
    Action.REVOKE_GRANT: EventName.GRANT_REVOKED,
    Action.REVOKE_PLATFORM: EventName.PLATFORM_REVOKED,
}


class Keeper:
    """The decisions and their effects. Its state is the ledger, the documents in force, and the open challenges."""

    def __init__(
        self,
        *,
        genesis: Genesis,
        vault: Vault,
        journal: Journal,
        pins: PinStore,
        documents: DocumentStore,
        clock: Clock,
        random_bytes: RandomBytes,
    ) -> None:
        self.genesis = genesis
        self.vault = vault
        self.journal = journal
        self.documents = Documents()
        self._pins = pins
        self._kept = documents
        self._clock = clock
        self._random = random_bytes
        self._challenges = OpenChallenges()
        self._pinning = threading.Lock()
        self.locked_because = ""
        journal.on_failure = lambda: self.lock("log-failed")

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Replay the log against the pins, take the kept documents into force, and record the unlocking.

        :raises TamperedError: the log, the pins or a kept document contradict each other.
        """
        pins = self._pins.load()
        await self.journal.replay(pins)
        for kind in DocumentKind:
            in_force = adopted(self.journal.ledger, kind)
            data = self._kept.load(kind.value, in_force.document) if in_force else None
            if data is not None:
                candidate, known = examine_document(kind, Envelope.parse(data), self.genesis, self.journal.ledger)
                if not known:
                    raise StaleDocumentError(f"the keeper's copy of the {kind.value} isn't the one in force")
                candidate.put_into(self.documents)
        if self.journal.ledger.key_epoch == 0:
            self._record(EventName.EPOCH_CREATED, {"epoch": self.vault.epoch})
        await self._pinned(self._record(EventName.KEEPER_UNLOCKED, {}))

    def keep(self, kind: str, envelope: Envelope) -> None:
        """Keep a signed object in the keeper's own folder, named by its digest."""
        self._kept.save(kind, envelope.digest, envelope.to_bytes())

    def kept(self, kind: str, digest: Digest) -> Envelope | None:
        """Return a signed object that was kept."""
        data = self._kept.load(kind, digest)
        return None if data is None else Envelope.parse(data)

    def lock(self, cause: str) -> None:
        """Wipe the keys; nothing is decided or released until the process is started again."""
        self.locked_because = self.locked_because or cause
        self.vault.lock()

    def pin(self) -> None:
        """Pin the state as far as it is durable: after each control act, and every second, from a thread, for releases.

        Without pins a rollback would go unseen: when they can't be written the keeper locks.

        :raises UnavailableError: the pins couldn't be written.
        """
        # Taken and written under one lock: an older state must not be pinned over a newer one.
        with self._pinning:
            try:
                self._pins.save(self.journal.pins())
            except UnavailableError:
                self.lock("pins-failed")
                raise

    # --- documents and platforms --------------------------------------------------------------------------------------

    async def adopt(self, kind: DocumentKind, envelope: Envelope) -> int | None:
        """Take a document signed by the root quorum into force; returns its log index, None if it was in force."""
        self.require_unlocked()
        candidate, in_force = examine_document(kind, envelope, self.genesis, self.journal.ledger)
        self._kept.save(kind.value, candidate.digest, envelope.to_bytes())
        if in_force:
            candidate.put_into(self.documents)
            return None
        return (await self._adopt(candidate)).index

    async def _adopt(self, candidate: Candidate) -> Recorded:
        facts: dict[str, Fact] = {"epoch": candidate.epoch, "document": candidate.digest}
        recording = self._record(ADOPTED_EVENTS[candidate.kind], facts)
        candidate.put_into(self.documents)
        return await self._pinned(recording)

    # --- requests -----------------------------------------------------------------------------------------------------

    async def submit(self, envelope: Envelope) -> Recorded:
        """Record a request, once its own requester's signature is found good."""
        self.require_unlocked()
        request = Request.parse(envelope.payload)
        person = self.roster().person(request.requester)
        verify(envelope, REQUEST_TYPE, person.keys, threshold=1)
        if request.genesis != self.genesis.digest or not person.active:
            raise DeniedError("the request belongs to another deployment, or to somebody who left")
        if envelope.digest in self.journal.ledger.created:
            raise ConflictError("the request is in the log already", reason="request-known")
        return await self._record(
            EventName.REQUEST_CREATED,
            {
                "request": envelope.digest,
                "action": request.action.value,
                "requester": request.requester,
                "model": request.model,
            },
        )

    async def voice(self, envelope: Envelope, kind: str, event: EventName, label: str) -> Recorded:
        """Record an approval or denial: one signature by somebody of the roster over a recorded request's bytes."""
        self.require_unlocked()
        if envelope.digest not in self.journal.ledger.created:
            raise DeniedError("no such request is in the log", reason="request-not-recorded")
        if len(envelope.signatures) != 1:
            raise DeniedError("an approval or denial carries exactly one signature", reason="approval-malformed")
        person, key = self.roster().holder(envelope.signatures[0].key_id)
        verify(envelope, kind, [key], threshold=1)
        if not person.active:
            raise DeniedError(f"`{person.id}` isn't active", reason="approver-inactive")
        facts: dict[str, Fact] = {
            "request": envelope.digest,
            "person": person.id,
            label: Digest.of(envelope.to_bytes()),
        }
        return await self._record(event, facts)

    def challenge(self, request: Digest, platform: PlatformId) -> Challenge:
        """Step 3: issue a challenge for a recorded request and an enrolled platform."""
        self.require_unlocked()
        ledger = self.journal.ledger
        if request not in ledger.created:
            raise DeniedError("no such request is in the log", reason="request-not-recorded")
        if platform not in ledger.platforms or platform in ledger.revoked_platforms:
            raise DeniedError("the platform isn't enrolled, or was revoked", reason="platform-not-enrolled")
        now = self._clock.now()
        challenge = Challenge(
            id=self._random(CHALLENGE_BYTES).hex(),
            nonce=self._random(NONCE_BYTES),
            request=request,
            platform=platform,
            expires=now + CHALLENGE_SECONDS,
        )
        self._challenges.add(challenge, now)
        return challenge

    def explain(self, dossier: Dossier) -> Verdict:
        """Judge a dossier without any effect: nothing is recorded, and no challenge is used up."""
        return self._examine(dossier, None)

    # --- acts ---------------------------------------------------------------------------------------------------------

    async def release(self, dossier: Dossier) -> Envelope:
        """Steps 4 to 6 for an enclave. Returns the signed delivery.

        :raises ReleaseRefusedError: a step refused; the refusal is in the log when the request is.
        """
        verdict, request = await self._decide(dossier, {Action.OPEN_IN_ENCLAVE})
        evidence, result, version = verdict.evidence, verdict.result, verdict.version
        if evidence is None or result is None or version is None:
            raise ReleaseRefusedError(Step.DECISION, "incomplete", "the dossier lacks evidence")
        # A wrapped key that doesn't open is refused before a use is spent on it.
        self._open_data_key(request, version, dossier).wipe()
        self._reached(Step.DECISION)
        if verdict.earlier is not None:
            use = verdict.earlier.number
            recorded = await self._record(
                EventName.REDELIVERED,
                {
                    "request": dossier.request.digest,
                    "use": use,
                    "recipient": evidence.recipient_digest,
                    "released": verdict.earlier.index,
                },
            )
        else:
            use = self.journal.ledger.times_used(dossier.request.digest) + 1
            recorded = await self._record(EventName.RELEASED, self._release_facts(verdict, use))
        self._reached(Step.RECORD)
        self._look_again(request, dossier.request.digest, result.platform)
        delivery = Delivery(
            genesis=self.genesis.digest,
            action=request.action,
            request=dossier.request.digest,
            use=use,
            model=request.model,
            version=request.version,
            manifest=version.manifest,
            publisher_key=version.publisher_key,
            data_key=version.data_key,
            recipient=evidence.recipient_digest,
            log_index=recorded.index,
            checkpoint=recorded.checkpoint.decode(),
            issued=self._clock.now(),
        )
        with self._open_data_key(request, version, dossier) as data_key:
            delivery = delivery.carrying(data_key, evidence.recipient_key)
        self._reached(Step.DELIVERY)
        return sign(DELIVERY_TYPE, delivery.to_bytes(), self.vault.signer)

    async def seal(self, dossier: Dossier) -> tuple[Envelope, WrappedDataKey]:
        """Make a data key for the next version and deliver it to the publisher's recipient key.

        ``dossier.wrapped`` may hold the wrapped key of an earlier version, whose KEK is then used again.
        """
        _verdict, request = await self._decide(dossier, {Action.SEAL})
        recipient = Digest.of(dossier.recipient_key)
        if recipient != request.recipient:
            raise ReleaseRefusedError(
                Step.REQUEST_GENUINE, "other-recipient", "the request names another recipient key"
            )
        data_key, wrapped = self.vault.create(request.model, request.version, self._random, dossier.wrapped)
        use = self.journal.ledger.times_used(dossier.request.digest) + 1
        with data_key:
            recorded = await self._record(
                EventName.DATA_KEY_CREATED,
                {
                    "request": dossier.request.digest,
                    "use": use,
                    "model": request.model,
                    "version": request.version,
                    "data_key": wrapped.data_key,
                    "epoch": wrapped.epoch,
                    "recipient": recipient,
                },
            )
            delivery = Delivery(
                genesis=self.genesis.digest,
                action=request.action,
                request=dossier.request.digest,
                use=use,
                model=request.model,
                version=request.version,
                manifest=None,
                publisher_key=None,
                data_key=wrapped.data_key,
                recipient=recipient,
                log_index=recorded.index,
                checkpoint=recorded.checkpoint.decode(),
                issued=self._clock.now(),
            ).carrying(data_key, dossier.recipient_key)
        return sign(DELIVERY_TYPE, delivery.to_bytes(), self.vault.signer), wrapped

    async def control(self, dossier: Dossier) -> Recorded:
        """Freeze or resume a model, revoke a grant or platforms."""
        _verdict, request = await self._decide(dossier, set(_CONTROL_EVENTS))
        name = dossier.request.digest
        event = _CONTROL_EVENTS[request.action]
        if request.action is Action.REVOKE_PLATFORM:
            for platform in request.platforms[:-1]:
                self._record(event, {"platform": platform, "request": name})
            return await self._pinned(self._record(event, {"platform": request.platforms[-1], "request": name}))
        if request.action is Action.REVOKE_GRANT:
            return await self._pinned(self._record(event, {"grant": request.target, "request": name}))
        return await self._pinned(self._record(event, {"model": request.model, "request": name}))

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _decide(self, dossier: Dossier, actions: set[Action]) -> tuple[Verdict, Request]:
        self.require_unlocked()
        testimony = dossier.testimony
        verdict = self._examine(dossier, self._challenges.take(testimony.challenge) if testimony else None)
        if verdict.request is not None and verdict.request.action not in actions:
            raise ReleaseRefusedError(Step.REQUEST_GENUINE, "other-action", "the request is for another action")
        if verdict.refusal is not None or not verdict.allowed or verdict.request is None:
            refusal = verdict.refusal or ReleaseRefusedError(Step.DECISION, "refused", "no decision was made")
            await self._record_refusal(dossier.request.digest, refusal)
            raise refusal
        return verdict, verdict.request

    def _examine(self, dossier: Dossier, challenge: Challenge | None) -> Verdict:
        return examine(
            dossier,
            genesis=self.genesis,
            documents=self.documents,
            ledger=self.journal.ledger,
            challenge=challenge,
            now=self._clock.now(),
        )

    async def _record_refusal(self, request: Digest, refusal: ReleaseRefusedError) -> None:
        # Only requests that are in the log have their refusals logged: a stranger can't fill the log with noise.
        if request in self.journal.ledger.created:
            facts: dict[str, Fact] = {"request": request, "step": refusal.step.number, "reason": refusal.reason}
            await self._record(EventName.REFUSED, facts)

    def _open_data_key(self, request: Request, version: Version, dossier: Dossier) -> SecretBytes:
        if dossier.wrapped is None:
            raise ReleaseRefusedError(Step.DELIVERY, "wrapped-key-missing", "no wrapped data key was handed in")
        try:
            return self.vault.open(request.model, request.version, version.data_key, dossier.wrapped)
        except TamperedError as error:
            raise ReleaseRefusedError(Step.DELIVERY, error.reason, error.message, remedy=error.remedy) from None

    def _look_again(self, request: Request, name: Digest, platform: PlatformId) -> None:
        ledger = self.journal.ledger
        if request.model in ledger.frozen:
            raise ReleaseRefusedError(Step.RECORD, "model-frozen", "the model was frozen while the record was written")
        if name in ledger.denied or name in ledger.revoked or platform in ledger.revoked_platforms:
            raise ReleaseRefusedError(
                Step.RECORD, "request-denied", "the grant was revoked while the record was written"
            )

    def _release_facts(self, verdict: Verdict, use: int) -> dict[str, Fact]:
        request, version, result, evidence = verdict.request, verdict.version, verdict.result, verdict.evidence
        if request is None or version is None or result is None or evidence is None:
            raise ReleaseRefusedError(Step.DECISION, "incomplete", "the verdict isn't of a release")
        return {
            "request": verdict.request_digest,
            "use": use,
            "model": request.model,
            "version": request.version,
            "manifest": version.manifest,
            "data_key": version.data_key,
            "platform": result.platform,
            "image": result.image,
            "isolation": result.isolation.value,
            "evidence": result.evidence,
            "recipient": evidence.recipient_digest,
            "approvals": verdict.approvals,
            "roster": self.documents.roster_digest,
            "policy": self.documents.policy_digest,
            "reference_values": self.documents.reference_values_digest,
            "requester": request.requester,
            "approvers": verdict.approvers,
        }

    def _record(self, event: EventName, facts: Mapping[str, Fact]) -> asyncio.Future[Recorded]:
        """Queue a record now; the future ends when it is durable."""
        return self.journal.record(event, facts, self.vault.signer)

    async def record_pinned(self, event: EventName, facts: Mapping[str, Fact]) -> Recorded:
        """Record a control act and pin it before anybody is told: it must not be rolled back unseen."""
        return await self._pinned(self._record(event, facts))

    async def _pinned(self, recording: asyncio.Future[Recorded]) -> Recorded:
        recorded = await recording
        self.pin()
        return recorded

    def roster(self) -> Roster:
        """Return the roster in force.

        :raises DeniedError: there is none yet.
        """
        if self.documents.roster is None:
            raise DeniedError("no roster is in force", reason="no-documents", remedy="have the root quorum sign one")
        return self.documents.roster

    def _reached(self, step: Step) -> None:
        """Called as each numbered step ends; does nothing. Crash tests replace it."""

    def require_unlocked(self) -> None:
        """Refuse when locked, or when the clock is behind the log.

        :raises LockedError: the keys were wiped.
        :raises DeniedError: the clock went back, behind the log or behind what was pinned.
        """
        if self.locked_because:
            raise LockedError(
                f"the keeper is locked: {self.locked_because}", remedy="mend the cause and start the deployment again"
            )
        if self._clock.now() < self.journal.latest:
            raise DeniedError(
                "the clock is behind what was seen before", reason="clock-behind", remedy="mend the clock"
            )
