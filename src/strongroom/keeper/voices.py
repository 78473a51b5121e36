"""What people say about access: requests, approvals, denials. Recorded when they may be said; counted when they count.

Each is a signature by a key of the roster, made for this one act: no session, no remembered login. A security key also
shows a counter, which only rises unless the key was copied or an old signature is shown again.
"""

from __future__ import annotations

import asyncio

from strongroom.access.decision import may_speak
from strongroom.access.governance import Voice, VoiceFacts
from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE, REQUEST_TYPE, Request
from strongroom.audit.facts import Fact
from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, Signature, verify
from strongroom.core.errors import ConflictError, DeniedError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.signature import PublicKey
from strongroom.core.webauthn import assertion_counter
from strongroom.framework.levels import SecurityLevel
from strongroom.keeper.journal import Recorded
from strongroom.keeper.quotas import Quota
from strongroom.keeper.service import Keeper
from strongroom.personnel.roster import Person
from strongroom.release.judge import check_signed
from strongroom.release.people import person_facts


class CounterRegressedError(DeniedError):
    """A security key showed an older counter than before: the key was copied, or an old signature is shown again."""

    code = "counter-regressed"


async def submit(keeper: Keeper, clock: Clock, envelope: Envelope) -> Recorded:
    """Record a request, and wait until it is durable; raises as :func:`receive` does."""
    return await receive(keeper, clock, envelope)


def receive(keeper: Keeper, clock: Clock, envelope: Envelope) -> asyncio.Future[Recorded]:
    """Queue the record of a request, once its own requester's signature is found good.

    :raises SignatureError: not the requester's signature.
    :raises DeniedError: another deployment's, or somebody who may not ask.
    :raises ConflictError: it is recorded already.
    """
    keeper.require_unlocked()
    request = Request.parse(envelope.payload)
    person = keeper.roster().person(request.requester)
    check_signed(envelope, REQUEST_TYPE, person.keys)
    if envelope.digest in keeper.journal.ledger.created:
        # Before it is counted: it brings nothing into the log.
        raise ConflictError("the request is in the log already", reason="request-known")
    keeper.quotas.take(Quota.VOICE, person.id)
    if request.genesis != keeper.genesis.digest:
        raise DeniedError("the request belongs to another deployment", reason="other-deployment")
    _may(keeper, clock, Voice.REQUEST, person, request.requester, request.model)
    facts: dict[str, Fact] = {
        "request": envelope.digest,
        "action": request.action.value,
        "requester": request.requester,
        "model": request.model,
    }
    return keeper.record(EventName.REQUEST_CREATED, facts)


async def approve(keeper: Keeper, clock: Clock, envelope: Envelope) -> Recorded:
    """Record an approval of a recorded request, by somebody else than who made it.

    :raises SignatureError: not a signature by that key over those bytes.
    :raises CounterRegressedError: the security key was copied, or an old signature is shown again.
    :raises ConflictError: it is recorded already.
    :raises DeniedError: who signed may not approve.
    """
    person, key, signature = _speaker(keeper, envelope, APPROVAL_TYPE)
    created = keeper.journal.ledger.created[envelope.digest]
    _may(keeper, clock, Voice.APPROVE, person, created.requester, created.model)
    return await _record(keeper, EventName.REQUEST_APPROVED, "approval", envelope, person, key, signature)


async def deny(keeper: Keeper, envelope: Envelope) -> Recorded:
    """Record a denial: it ends the request. Any active person may; stopping doesn't wait for who is entitled to agree.

    :raises SignatureError: not a signature by that key over those bytes.
    :raises DeniedError: who signed isn't active.
    """
    person, key, signature = _speaker(keeper, envelope, DENIAL_TYPE)
    return await _record(keeper, EventName.REQUEST_DENIED, "denial", envelope, person, key, signature)


def _speaker(keeper: Keeper, envelope: Envelope, kind: str) -> tuple[Person, PublicKey, Signature]:
    keeper.require_unlocked()
    if envelope.digest not in keeper.journal.ledger.created:
        raise DeniedError("no such request is in the log", reason="request-not-recorded")
    if len(envelope.signatures) != 1:
        raise DeniedError("an approval or denial carries exactly one signature", reason="approval-malformed")
    signature = envelope.signatures[0]
    person, key = keeper.roster().holder(signature.key_id)
    verify(envelope, kind, [key], threshold=1)
    keeper.quotas.take(Quota.VOICE, person.id)
    if not person.active or person.id in keeper.journal.ledger.suspended:
        raise DeniedError(f"`{person.id}` isn't active", reason="approver-inactive")
    return person, key, signature


def _may(keeper: Keeper, clock: Clock, voice: Voice, person: Person, requester: PersonId, model: ModelId) -> None:
    documents = keeper.documents
    if documents.engine is None or documents.policy is None:
        raise DeniedError("no policy is in force", reason="no-documents", remedy="have the root quorum sign one")
    level = next((terms.level for terms in documents.policy.models if terms.model == model), SecurityLevel.SL1)
    now = clock.now()
    facts = VoiceFacts(
        now=now,
        voice=voice,
        person=person_facts(person, documents, keeper.journal.ledger, now),
        requester=requester,
        model=model,
        level=level,
    )
    refusal = may_speak(facts, documents.engine)
    if refusal is not None:
        reason, remedy = refusal
        raise DeniedError(f"`{person.id}` may not {voice.value} this", reason=reason, remedy=remedy)


async def _record(
    keeper: Keeper,
    event: EventName,
    label: str,
    envelope: Envelope,
    person: Person,
    key: PublicKey,
    signature: Signature,
) -> Recorded:
    voice = Digest.of(envelope.to_bytes())
    if voice in keeper.journal.ledger.voices:
        raise ConflictError(f"this {label} is in the log already", reason="voice-known")
    counter = assertion_counter(signature.value) if key.hardware else 0
    seen = keeper.journal.ledger.counters.get(key.key_id, 0)
    facts: dict[str, Fact] = {
        "request": envelope.digest,
        "person": person.id,
        "key": key.key_id,
        "counter": counter,
    }
    # Devices without a counter always say 0. Any other that stands still or falls is an alarm, and counts for nothing.
    if key.hardware and (counter or seen) and counter <= seen:
        await keeper.record_pinned(EventName.AUTHENTICATOR_REGRESSED, {**facts, "seen": seen})
        raise CounterRegressedError(
            f"a security key of `{person.id}` showed counter {counter} after {seen}",
            remedy="treat this as an incident: take the key out of the roster and enrol another",
        )
    return await keeper.record(event, {**facts, label: voice})
