"""The deployment's state and its genesis."""

from __future__ import annotations

from fastapi import APIRouter

from strongroom.broker.answers import GenesisAnswer, StateAnswer
from strongroom.broker.routes.shared import TheDirectory
from strongroom.broker.service import Members
from strongroom.core.canonical import Json

router = APIRouter(tags=["state"])


@router.get("/state", response_model=StateAnswer)
async def state(directory: TheDirectory) -> Members:
    """Return the keeper's status, the documents in force, and the newest signed checkpoint."""
    return await directory.state()


@router.get("/genesis", response_model=GenesisAnswer)
async def genesis(directory: TheDirectory) -> Json:
    """Return the genesis. Clients compare it with the one that they pinned."""
    return directory.genesis()
