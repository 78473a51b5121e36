"""The keys that open models: their states, and orders of the root quorum about them."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query

from strongroom.broker.answers import Recorded
from strongroom.broker.answers_keys import CertificateAnswer, KeysAnswer
from strongroom.broker.bodies import EnvelopeIn
from strongroom.broker.routes.shared import PEOPLE, TheBroker
from strongroom.broker.service import Members

router = APIRouter(tags=["keys"])
_MOST: Final = 500


@router.get("/keys", response_model=KeysAnswer, dependencies=[PEOPLE])
async def keys(
    broker: TheBroker,
    after: Annotated[str, Query(max_length=64)] = "",
    count: Annotated[int, Query(ge=1, le=_MOST)] = _MOST,
) -> Members:
    """Return the states and ages of root generation, epochs and KEKs; the KEKs of models behind ``after``."""
    with await broker.keeper.call("keys", after=after, count=count) as answer:
        return {name: answer.value(name) for name in ("generation", "since", "epochs", "keks", "more")}


@router.post("/key-orders", response_model=Recorded, dependencies=[PEOPLE])
async def carry_out(body: EnvelopeIn, broker: TheBroker) -> Members:
    """Have the keeper carry out an order that the root quorum signed."""
    return await broker.whole(broker.carry_out(body.envelope.envelope()))


@router.get("/destructions/{model}", response_model=CertificateAnswer, dependencies=[PEOPLE])
async def certificate(model: str, broker: TheBroker) -> Members:
    """Return the newest destruction certificate of a model."""
    with await broker.keeper.call("certificate", model=model) as answer:
        return {"certificate": answer.value("certificate")}


@router.post("/destructions/{model}", response_model=CertificateAnswer, dependencies=[PEOPLE])
async def certify(model: str, broker: TheBroker) -> Members:
    """Have the keeper ask its key services again, and sign another certificate if there is something new to say."""
    return await broker.whole(broker.certify(model))
