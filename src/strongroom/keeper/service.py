"""The keeper: steps 4, 5 and 6 of the release protocol, and the other acts that only it may record.

4  verify, born refused (4.1 to 4.9, :mod:`strongroom.release.judge`)
5  append the record, durably; then look at freezes and revocations again
6  unwrap the data key, encrypt it to the recipient key, sign the delivery

One event loop, and no waiting between a decision and the moment its record is queued: two releases can't both take
the last use of a grant, and no release slips past a freeze that was decided before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final

from strongroom.access.invariants import Reason
from strongroom.access.request import OPENS, Action, Request
from strongroom.attestation.bundle.format import EMPTY, Bundle
from strongroom.attestation.collateral import Collateral
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.results import AttestationResult
from strongroom.attestation.transcript import Binding
from strongroom.audit.facts import Fact
from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import DeniedError, MalformedError, TamperedError, UsageError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PlatformId
from strongroom.core.secret import SecretBytes
from strongroom.keeper.dead_man import DeadManGate
from strongroom.keeper.journal import Journal, Recorded
from strongroom.keeper.pins import AttestedStore, DecisionStore, DocumentStore, KeyringStore, PinStore
from strongroom.keeper.quotas import Quotas, SummedRefusals
from strongroom.keeper.state import KeeperState, Stores
from strongroom.keeper.trees import TreeClosedError, makes_kek_apart, require_open, tree_of, wants_tree
from strongroom.keeper.use_facts import (
    CONTROL_EVENTS,
    control_records,
    data_key_facts,
    granted_facts,
    handed_over_facts,
    released_facts,
)
from strongroom.keeper.vault import Vault
from strongroom.keeper.witnesses import WitnessGate
from strongroom.keys.hierarchy import Tree
from strongroom.keys.states import KeyUnusableError, require_processes, require_protects
from strongroom.keys.wrapping import RandomBytes
from strongroom.release.attested import Attested
from strongroom.release.challenge import CHALLENGE_SECONDS, Challenge, OpenChallenges
from strongroom.release.chronicle import UnfoundedError
from strongroom.release.decided import Decided
from strongroom.release.delivery import DELIVERY_TYPE, Delivery
from strongroom.release.dossier import Dossier, WrappedDataKey
from strongroom.release.judge import Verdict, examine
from strongroom.release.lease import LEASE_SECONDS, Sampling
from strongroom.release.ledger_parts import Version
from strongroom.release.recount import require_recounted
from strongroom.release.steps import ReleaseRefusedError, Step

CHALLENGE_BYTES: Final = 16
NONCE_BYTES: Final = 32
GRANTABLE: Final = frozenset({*OPENS, Action.SEAL, Action.EXPORT_PLAINTEXT, Action.DESTROY})
_MAY_WAIT: Final = frozenset({Reason.ENCLAVE_MISSING, Reason.COOLING_OFF, Reason.NOT_YET_VALID})
"""What may still be missing when a grant is issued: each is looked at again at the use."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A release: the signed delivery, and the signed attestation result, which may be shown to anybody."""

    delivery: Envelope
    result: str


async def _no_tree(_tree: Tree) -> None:
    """Stand in until rotation takes its place."""


class Keeper(KeeperState):
    """The decisions and their effects. Its state is the ledger, the documents in force, and the open challenges."""

    def __init__(
        self,
        *,
        genesis: Genesis,
        vault: Vault,
        journal: Journal,
        pins: PinStore,
        keyrings: KeyringStore,
        documents: DocumentStore,
        decisions: DecisionStore,
        attested: AttestedStore,
        clock: Clock,
        random_bytes: RandomBytes,
    ) -> None:
        super().__init__(genesis, vault, journal, Stores(pins=pins, keyrings=keyrings, documents=documents), clock)
        self._decisions = decisions
        self._attested = attested
        self.bundle: Bundle = EMPTY
        """What chip makers published, as far as it was carried here."""
        self._random = random_bytes
        self.quotas = Quotas(clock)
        self.refusals = SummedRefusals(self.quotas)
        self._challenges = OpenChallenges()
        self.carries_out: dict[Action, Callable[[Request, Digest], asyncio.Future[Recorded]]] = {}
        """Further actions on a model: each queues its record before it awaits anything."""
        self.found_tree: Callable[[Tree], Awaitable[None]] = _no_tree
        """Makes the root key and the first epoch of a tree of keys that has none."""
        self.lease_seconds = LEASE_SECONDS
        self.on_delivered: Callable[[Delivery, Request, AttestationResult], None] = lambda _d, _request, _result: None
        self.witnesses = WitnessGate(
            genesis=genesis,
            documents=self.documents,
            ledger=journal.ledger,
            log=lambda: journal.succession,
            cosigned=journal.cosigned,
            lock=self.lock,
            clock=clock,
        )
        self.dead_man = DeadManGate(genesis=genesis, documents=self.documents, ledger=journal.ledger, clock=clock)

    @property
    def collateral(self) -> Collateral:
        """What evidence is judged with."""
        return self.bundle.collateral

    @property
    def lease_period(self) -> int:
        """Seconds that a lease lasts now: never longer than what it rests on may be old."""
        values = self.documents.reference_values
        return self.lease_seconds if values is None else min(self.lease_seconds, values.appraisal.reattest_seconds)

    # --- requests -----------------------------------------------------------------------------------------------------

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

    def attested(self, digest: Digest) -> Attested | None:
        """Return what a release or renewal was proved by, if it is kept."""
        record = self._attested.find(digest)
        return None if record is None else Attested.parse(record)

    def answered(self, challenge: str) -> Challenge | None:
        """Take an open challenge out: whatever comes of its answer, it can't be answered again."""
        return self._challenges.take(challenge)

    def explain(self, dossier: Dossier) -> Verdict:
        """Judge a dossier without any effect: nothing is recorded, and no challenge is used up."""
        return self._examine(dossier, None)

    # --- acts ---------------------------------------------------------------------------------------------------------

    async def release(self, dossier: Dossier) -> HandedOver:
        """Steps 4 to 6 for an enclave. Returns the signed delivery and attestation result.

        :raises ReleaseRefusedError: a step refused; the refusal is in the log when the request is.
        """
        verdict, request = await self._decide(dossier, OPENS)
        evidence, result, version = verdict.evidence, verdict.result, verdict.version
        if evidence is None or result is None or version is None:
            raise ReleaseRefusedError(Step.DECISION, "incomplete", "the dossier lacks evidence")
        # A wrapped key that doesn't open is refused before a use is spent on it.
        self._open_data_key(request, version, dossier).wipe()
        proof = self._attest(verdict)
        self._reached(Step.DECISION)
        owed = self._sampling(request.model)
        if verdict.earlier is not None:
            use = verdict.earlier.number
            recorded = await self.record(
                EventName.REDELIVERED,
                {
                    "request": dossier.request.digest,
                    "use": use,
                    "recipient": evidence.recipient_digest,
                    "released": verdict.earlier.index,
                    "evidence": result.evidence,
                    "result": proof.result_digest,
                    "attested": proof.digest,
                    "sampling": owed.value,
                },
            )
        else:
            use = self.journal.ledger.times_used(dossier.request.digest) + 1
            self._issue(verdict, request)
            decision, collateral = self._keep_decision(verdict), self.bundle.digest
            recorded = await self.record(
                EventName.RELEASED,
                released_facts(verdict, use, proof, self.documents, decision, collateral, owed),
            )
        self._reached(Step.RECORD)
        self._look_again(request, dossier.request.digest, result.platform)
        delivery = self._delivery(dossier, request, use, recorded, version, evidence.recipient_digest)
        # Never less than its entry says; more where a precaution was taken while that became durable.
        sampling = owed if owed is Sampling.WHOLE else self._sampling(request.model)
        delivery = replace(delivery, lease_seconds=self.lease_period, sampling=sampling)
        self.on_delivered(delivery, request, result)
        with self._open_data_key(request, version, dossier) as data_key:
            delivery = delivery.carrying(data_key, evidence.recipient_key)
        self._reached(Step.DELIVERY)
        return HandedOver(sign(DELIVERY_TYPE, delivery.to_bytes(), self.vault.signer), proof.result)

    async def seal(self, dossier: Dossier) -> tuple[Envelope, WrappedDataKey]:
        """Make a data key for the next version and deliver it to the publisher's recipient key.

        The model's first version brings its KEK into the keyring.

        :raises ReleaseRefusedError: a step refused.
        """
        await self._need_tree(dossier)
        verdict, request = await self._decide(dossier, {Action.SEAL})
        recipient = self._named_recipient(dossier, request)
        kek = self._active_kek(request.model)
        data_key, wrapped = self.vault.create(request.model, request.version, kek, self._random)
        self._issue(verdict, request)
        use = self.journal.ledger.times_used(dossier.request.digest) + 1
        with data_key:
            recorded = await self.record(
                EventName.DATA_KEY_CREATED, data_key_facts(request, dossier.request.digest, use, wrapped, recipient)
            )
            delivery = self._delivery(dossier, request, use, recorded, None, recipient, wrapped.data_key)
            delivery = delivery.carrying(data_key, dossier.recipient_key)
        return sign(DELIVERY_TYPE, delivery.to_bytes(), self.vault.signer), wrapped

    async def export(self, dossier: Dossier) -> Envelope:
        """Deliver the data key of the current version to a person's recipient key: whoever has it can copy.

        :raises ReleaseRefusedError: a step refused.
        """
        verdict, request = await self._decide(dossier, {Action.EXPORT_PLAINTEXT})
        recipient, version = self._named_recipient(dossier, request), verdict.version
        if version is None:
            raise ReleaseRefusedError(Step.DECISION, "incomplete", "the dossier names no version")
        self._open_data_key(request, version, dossier).wipe()
        self._issue(verdict, request)
        use = self.journal.ledger.times_used(dossier.request.digest) + 1
        facts = handed_over_facts(
            verdict, request, version, use, recipient, self.documents, self._keep_decision(verdict)
        )
        recorded = await self.record(EventName.EXPORTED, facts)
        self._look_again(request, dossier.request.digest, None)
        delivery = self._delivery(dossier, request, use, recorded, version, recipient)
        with self._open_data_key(request, version, dossier) as data_key:
            delivery = delivery.carrying(data_key, dossier.recipient_key)
        return sign(DELIVERY_TYPE, delivery.to_bytes(), self.vault.signer)

    async def grant(self, dossier: Dossier) -> Recorded | None:
        """Issue a grant as soon as its quorum agreed; None when it was issued before, or isn't agreed on yet.

        Everything is judged again at each use. What is issued here is counted against the caps, and starts no clock
        but that of the approvals: agreement that came in time stays good for the grant's window.

        :raises WitnessQuorumStaleError: no quorum of witnesses has seen the log lately.
        """
        self.require_unlocked()
        await self.witnesses.require_for(dossier.request.payload)
        verdict = self._examine(dossier, None)
        request, refusal = verdict.request, verdict.refusal
        reasons = {refusal.reason, *(reason for reason, _remedy in verdict.others)} if refusal else set()
        if request is None or verdict.facts is None or request.action not in GRANTABLE or reasons - _MAY_WAIT:
            return None
        if dossier.request.digest in self.journal.ledger.grants:
            return None
        recording = self._issue(verdict, request)
        return await recording if recording else None

    async def control(self, dossier: Dossier) -> Recorded:
        """Freeze, resume, revoke, lift a precaution, or do what another part registered for an action."""
        await self._need_tree(dossier)
        _verdict, request = await self._decide(dossier, {*CONTROL_EVENTS, *self.carries_out})
        name = dossier.request.digest
        act = self.carries_out.get(request.action)
        if act is not None:
            return await self.pinned(act(request, name))
        *others, last = control_records(request, name)
        for event, facts in others:
            self.record(event, facts)
        return await self.pinned(self.record(*last))

    # --- inside -------------------------------------------------------------------------------------------------------

    async def _need_tree(self, dossier: Dossier) -> None:
        """Make the tree of keys that is in no escrow, for the first request that will need it and is allowed.

        Before the decision, which mustn't wait for a key service: everything is judged again afterwards.
        """
        policy = self.documents.policy
        if self.locked_because or not wants_tree(policy, self.journal.ledger.keys):
            return
        verdict = self._examine(dossier, None)
        if verdict.allowed and verdict.request is not None and makes_kek_apart(policy, verdict.request):
            await self.found_tree(Tree.UNESCROWED)

    def _active_kek(self, model: ModelId) -> str:
        keys = self.journal.ledger.keys
        known = keys.active(model)
        if known is not None:
            require_protects(known.kek, known.state)
            require_open(self.vault, Tree.of(escrowed=known.escrowed), model)
            return known.kek
        if model in keys.by_model:
            raise DeniedError(
                f"the keys of `{model}` were lost", reason="kek-lost", remedy="seal the weights under another name"
            )
        tree = tree_of(self.documents.policy, model)
        require_open(self.vault, tree, model)
        held, keyring = self.vault.plan_kek(model, tree, self._random)
        escrowed = int(tree is Tree.ESCROWED)
        facts: dict[str, Fact] = {"model": model, "kek": held.kek, "epoch": held.epoch, "escrowed": escrowed}
        self.begin(keyring, EventName.KEK_CREATED, facts)
        return held.kek

    def _delivery(
        self,
        dossier: Dossier,
        request: Request,
        use: int,
        recorded: Recorded,
        version: Version | None,
        recipient: Digest,
        data_key: str = "",
    ) -> Delivery:
        """Return the delivery of a recorded use, without its key; ``data_key`` names a key that is new."""
        return Delivery(
            genesis=self.genesis.digest,
            action=request.action,
            request=dossier.request.digest,
            use=use,
            model=request.model,
            version=request.version,
            manifest=version.manifest if version else None,
            publisher_key=version.publisher_key if version else None,
            data_key=version.data_key if version else data_key,
            recipient=recipient,
            log_index=recorded.index,
            checkpoint=recorded.checkpoint.decode(),
            issued=self._clock.now(),
        )

    async def _decide(self, dossier: Dossier, actions: AbstractSet[Action]) -> tuple[Verdict, Request]:
        self.require_unlocked()
        # Before the decision: nothing may wait between that and the moment its record is queued.
        await self.witnesses.require_for(dossier.request.payload)
        self.dead_man.require_for(dossier.request.payload)
        testimony = dossier.testimony
        verdict = self._examine(dossier, self._challenges.take(testimony.challenge) if testimony else None)
        if verdict.request is not None and verdict.request.action not in actions:
            raise ReleaseRefusedError(Step.REQUEST_GENUINE, "other-action", "the request is for another action")
        if verdict.refusal is not None or not verdict.allowed or verdict.request is None:
            refusal = verdict.refusal or ReleaseRefusedError(Step.DECISION, "refused", "no decision was made")
            await self._record_refusal(dossier.request.digest, refusal, verdict)
            raise refusal
        try:
            require_recounted(
                dossier,
                verdict.request,
                verdict.version,
                documents=self.documents,
                ledger=self.journal.ledger,
                now=self._clock.now(),
            )
        except ReleaseRefusedError as refusal:
            await self._record_refusal(dossier.request.digest, refusal, verdict)
            raise
        return verdict, verdict.request

    def attest(self, evidence: Evidence, binding: Binding, result: AttestationResult) -> Attested:
        """Sign an attestation result, and keep what it was made of."""
        now, collateral = self._clock.now(), self.bundle.digest
        proof = Attested.of(evidence, binding, result, signer=self.vault.signer, collateral=collateral, at=now)
        self._attested.append(proof.to_bytes())
        return proof

    def _attest(self, verdict: Verdict) -> Attested:
        evidence, binding, result = verdict.evidence, verdict.binding, verdict.result
        if evidence is None or binding is None or result is None:
            raise ReleaseRefusedError(Step.DECISION, "incomplete", "the verdict isn't of a release")
        try:
            return self.attest(evidence, binding, result)
        except (MalformedError, UsageError) as error:
            # What can't be said to anybody else isn't relied on here either.
            raise ReleaseRefusedError(Step.EVIDENCE_WANTED, "result-not-signed", error.message) from None

    def _keep_decision(self, verdict: Verdict) -> Digest | None:
        decided = Decided.of(verdict)
        if decided is None:
            return None
        record = decided.to_bytes()
        self._decisions.append(record)
        return Digest.of(record)

    def _named_recipient(self, dossier: Dossier, request: Request) -> Digest:
        recipient = Digest.of(dossier.recipient_key)
        if recipient != request.recipient:
            raise ReleaseRefusedError(
                Step.REQUEST_GENUINE, "other-recipient", "the request names another recipient key"
            )
        return recipient

    def _issue(self, verdict: Verdict, request: Request) -> asyncio.Future[Recorded] | None:
        """Queue the grant's record with the use that it is for: nothing is decided between counting and recording."""
        name, facts = verdict.request_digest, verdict.facts
        if name is None or facts is None or name in self.journal.ledger.grants:
            return None
        return self.record(EventName.GRANT_ISSUED, granted_facts(request, name, verdict.approvers, facts.holders))

    def _examine(self, dossier: Dossier, challenge: Challenge | None) -> Verdict:
        return examine(
            dossier,
            genesis=self.genesis,
            documents=self.documents,
            ledger=self.journal.ledger,
            challenge=challenge,
            collateral=self.collateral,
            now=self._clock.now(),
        )

    def record(self, event: EventName, facts: Mapping[str, Fact]) -> asyncio.Future[Recorded]:
        """Queue a record now; the future ends when it is durable.

        :raises UnfoundedError: it doesn't follow from the log. That this was refused is queued in its place: the judges
            let something through, and whoever watches the log has to see it.
        """
        try:
            return super().record(event, facts)
        except UnfoundedError as error:
            asked, now = facts.get("request"), self._clock.now()
            if isinstance(asked, Digest) and asked in self.journal.ledger.created and self.refusals.single(asked, now):
                step = Step.RECORD.number
                super().record(
                    EventName.REFUSED, {"request": asked, "step": step, "reason": error.reason, "decision": None}
                )
            raise

    async def _record_refusal(self, request: Digest, refusal: ReleaseRefusedError, verdict: Verdict) -> None:
        # Only requests that are in the log have their refusals logged, and not each of a flood by an entry of its own:
        # nobody can fill the log with noise.
        if request in self.journal.ledger.created and self.refusals.single(request, self._clock.now()):
            facts: dict[str, Fact] = {
                "request": request,
                "step": refusal.step.number,
                "reason": refusal.reason,
                "decision": self._keep_decision(verdict),
            }
            await self.record(EventName.REFUSED, facts)

    def _open_data_key(self, request: Request, version: Version, dossier: Dossier) -> SecretBytes:
        if dossier.wrapped is None:
            raise ReleaseRefusedError(Step.DELIVERY, "wrapped-key-missing", "no wrapped data key was handed in")
        known = self.journal.ledger.keys.keks.get(dossier.wrapped.kek)
        try:
            if known is not None:
                require_processes(known.kek, known.state)
                require_open(self.vault, Tree.of(escrowed=known.escrowed), request.model)
            return self.vault.open(request.model, request.version, version.data_key, dossier.wrapped)
        except (TamperedError, KeyUnusableError, TreeClosedError) as error:
            raise ReleaseRefusedError(Step.DELIVERY, error.reason, error.message, remedy=error.remedy) from None

    def _sampling(self, model: ModelId) -> Sampling:
        return self.journal.ledger.precautions.sampling(model, self._clock.now())

    def _look_again(self, request: Request, name: Digest, platform: PlatformId | None) -> None:
        ledger = self.journal.ledger
        if request.model in ledger.frozen:
            raise ReleaseRefusedError(Step.RECORD, "model-frozen", "the model was frozen while the record was written")
        if (
            name in ledger.fallen
            or name in ledger.denied
            or name in ledger.revoked
            or platform in ledger.revoked_platforms
        ):
            raise ReleaseRefusedError(
                Step.RECORD, "request-denied", "the grant was revoked while the record was written"
            )

    def _reached(self, step: Step) -> None:
        """Called as each numbered step ends; does nothing. Crash tests replace it."""
