"""Workspaces: the asking of their agents, and what left a model through them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from strongroom.broker.answers import DropsAnswer, WordAnswer
from strongroom.broker.bodies import PassageIn
from strongroom.broker.routes.shared import ENCLAVES, PEOPLE, TheBroker
from strongroom.broker.service import Members
from strongroom.core.ids import model_id

router = APIRouter(tags=["workspaces"])


@router.post("/workspaces/inputs", response_model=WordAnswer, dependencies=[ENCLAVES])
async def begin(body: PassageIn, broker: TheBroker) -> Members:
    """Have the keeper record what was handed into a workspace, and sign for it."""
    return await _carry("workspace-begin", body, broker)


@router.post("/workspaces/drops", response_model=WordAnswer, dependencies=[ENCLAVES])
async def leave(body: PassageIn, broker: TheBroker) -> Members:
    """Have the keeper charge a drop, and sign its ticket."""
    return await _carry("workspace-leave", body, broker)


@router.get("/models/{model}/drops", response_model=DropsAnswer, dependencies=[PEOPLE])
async def drops(model: Annotated[str, Path(max_length=64)], broker: TheBroker) -> Members:
    """Return the newest drops of a model, and what reviewers made of them."""
    with await broker.keeper.call("drops", model=model_id(model)) as answer:
        return {"drops": answer.value("drops")}


async def _carry(operation: str, body: PassageIn, broker: TheBroker) -> Members:
    delivery, ask = body.delivery.envelope(), body.ask.passage()
    with await broker.keeper.call(operation, delivery=delivery.to_json(), ask=ask.to_json()) as answer:
        return {"word": answer.value("word")}
