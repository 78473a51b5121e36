"""Escrow, and unlocking by shares: carried between custodians and the keeper. Nothing here opens for the broker."""

from __future__ import annotations

from fastapi import APIRouter

from strongroom.broker.answers_keys import EscrowAnswer, EscrowPlanAnswer, OfferAnswer, UnlockedAnswer
from strongroom.broker.bodies import EnvelopeIn, EscrowPlanIn
from strongroom.broker.routes.shared import PEOPLE, TheBroker
from strongroom.broker.service import Members

router = APIRouter(tags=["unlocking"])


@router.get("/escrow", response_model=EscrowAnswer, dependencies=[PEOPLE])
async def escrow(broker: TheBroker) -> Members:
    """Return the escrow that the keeper has, signed by it; also while the keeper is locked."""
    with await broker.keeper.call("escrow") as answer:
        return {"escrow": answer.value("escrow")}


@router.post("/escrow/plans", response_model=EscrowPlanAnswer, dependencies=[PEOPLE])
async def plan(body: EscrowPlanIn, broker: TheBroker) -> Members:
    """Hand the keeper a plan of custodians. It does nothing without the root quorum's order, which names its digest."""
    with await broker.keeper.call("escrow-plan", plan=body.plan) as told:
        return {"plan": told.value("plan")}


@router.get("/unlock", response_model=OfferAnswer, dependencies=[PEOPLE])
async def offer(broker: TheBroker) -> Members:
    """Return a locked keeper's escrow and offer."""
    with await broker.keeper.call("unlock-offer") as answer:
        return {name: answer.value(name) for name in ("escrow", "offer")}


@router.post("/unlock", response_model=UnlockedAnswer, dependencies=[PEOPLE])
async def answer(body: EnvelopeIn, broker: TheBroker) -> Members:
    """Carry a custodian's share to the keeper, for whose key of this one unlocking it is encrypted."""
    with await broker.keeper.call("unlock-share", envelope=body.envelope.envelope().to_json()) as told:
        return {name: told.value(name) for name in ("answered", "needed", "unlocked")}
