"""Odometers: a governor's process has the log say how much may leave its model, before it leaves."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from strongroom.broker.answers import BreachAnswer, OdometerAnswer, ReadingAnswer
from strongroom.broker.bodies import BlockIn, BreachIn, OdometerIn
from strongroom.broker.routes.shared import ENCLAVES, TheBroker
from strongroom.broker.service import Broker, Members
from strongroom.core.canonical import Json
from strongroom.core.fields import Fields
from strongroom.core.ids import model_id

router = APIRouter(prefix="/egress", tags=["egress"])


@router.get("/{model}", response_model=OdometerAnswer)
async def odometer(model: Annotated[str, Path(max_length=64)], broker: TheBroker) -> Members:
    """Return how far a model's odometer stands, and where the log's entry about it is."""
    with await broker.keeper.call("odometer", model=model_id(model)) as answer:
        return {name: answer.value(name) for name in OdometerAnswer.model_fields}


@router.post("/runs", response_model=ReadingAnswer, dependencies=[ENCLAVES])
async def open_run(body: OdometerIn, broker: TheBroker) -> Members:
    """Begin a run for the governor of a release. The newest run of a model is the only one that gets blocks."""
    return await _reading(broker, "odometer-open", body.delivery.envelope().to_json(), seen=body.seen)


@router.post("/blocks", response_model=ReadingAnswer, dependencies=[ENCLAVES])
async def advance(body: BlockIn, broker: TheBroker) -> Members:
    """Have the log say that more may leave. The same block again gives nothing more."""
    return await _reading(broker, "odometer-advance", body.delivery.envelope().to_json(), block=body.block.model_dump())


@router.post("/breaches", response_model=BreachAnswer, dependencies=[ENCLAVES])
async def breach(body: BreachIn, broker: TheBroker) -> Members:
    """Freeze a model out of which something came that nothing explains."""
    return await broker.whole(_breach(broker, body))


async def _reading(broker: Broker, operation: str, delivery: Json, **members: Json) -> Members:
    async def call() -> Fields:
        return await broker.keeper.call(operation, delivery=delivery, **members)

    with await broker.whole(call()) as answer:
        return {name: answer.value(name) for name in ("index", "entry")}


async def _breach(broker: Broker, body: BreachIn) -> Members:
    delivery = body.delivery.envelope().to_json()
    with await broker.keeper.call("egress-breach", delivery=delivery, cause=body.cause) as answer:
        return {"index": answer.value("index")}
