"""Requests, approvals and denials, and the acts of people: seal, freeze, resume, revoke."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from strongroom.broker.answers import (
    DeliveryAnswer,
    ExplanationAnswer,
    Recorded,
    RequestAnswer,
    RequestsAnswer,
    SubmittedAnswer,
)
from strongroom.broker.bodies import EnvelopeIn, ListQuery, RequestIn, SealIn, binary
from strongroom.broker.ports import VoiceKind
from strongroom.broker.routes.shared import PEOPLE, DigestPath, TheBroker, TheDirectory
from strongroom.broker.service import Members
from strongroom.core.digest import Digest
from strongroom.keys.recipient import RECIPIENT_KEY_BYTES

router = APIRouter(tags=["requests"])


@router.post("/requests", response_model=SubmittedAnswer, dependencies=[PEOPLE])
async def submit(body: RequestIn, broker: TheBroker) -> Members:
    """Submit a signed request. The same one again answers the same."""
    return await broker.submit(body.request.envelope())


@router.get("/requests", response_model=RequestsAnswer, dependencies=[PEOPLE])
async def requests(query: Annotated[ListQuery, Query()], directory: TheDirectory) -> Members:
    """List requests, newest first."""
    return await directory.requests(query)


@router.get("/requests/{digest}", response_model=RequestAnswer)
async def request(digest: DigestPath, broker: TheBroker) -> Members:
    """Return a request with everything said about it."""
    return await broker.shown(Digest.parse(digest))


@router.post("/requests/{digest}/approvals", response_model=Recorded, dependencies=[PEOPLE])
async def approve(digest: DigestPath, body: EnvelopeIn, broker: TheBroker) -> Members:
    """Record an approval. The same one again answers the same."""
    return await broker.voice(Digest.parse(digest), body.envelope.envelope(), VoiceKind.APPROVE)


@router.post("/requests/{digest}/denials", response_model=Recorded, dependencies=[PEOPLE])
async def deny(digest: DigestPath, body: EnvelopeIn, broker: TheBroker) -> Members:
    """Record a denial. The same one again answers the same."""
    return await broker.voice(Digest.parse(digest), body.envelope.envelope(), VoiceKind.DENY)


@router.get("/requests/{digest}/explanation", response_model=ExplanationAnswer)
async def explain(digest: DigestPath, broker: TheBroker) -> Members:
    """Return how the keeper would judge the request now; nothing is recorded."""
    return await broker.explain(Digest.parse(digest))


@router.post("/requests/{digest}/control", response_model=Recorded, dependencies=[PEOPLE])
async def control(digest: DigestPath, broker: TheBroker) -> Members:
    """Carry out a request to freeze, resume or revoke. Takes no body."""
    return await broker.control(Digest.parse(digest))


@router.post("/requests/{digest}/seal", response_model=DeliveryAnswer, dependencies=[PEOPLE])
async def seal(digest: DigestPath, body: SealIn, broker: TheBroker) -> Members:
    """Carry out a request to seal: a new data key, delivered to the recipient key that the request names."""
    key = binary(body.recipient_key, "recipient_key", max_length=RECIPIENT_KEY_BYTES)
    return await broker.seal(Digest.parse(digest), key)


@router.post("/requests/{digest}/export", response_model=DeliveryAnswer, dependencies=[PEOPLE])
async def export(digest: DigestPath, body: SealIn, broker: TheBroker) -> Members:
    """Carry out a request to export: the data key, delivered to the recipient key that the request names."""
    key = binary(body.recipient_key, "recipient_key", max_length=RECIPIENT_KEY_BYTES)
    return await broker.export(Digest.parse(digest), key)
