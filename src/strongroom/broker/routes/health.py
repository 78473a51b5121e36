"""Health, for supervisors. No identity is asked for beyond what TLS asks."""

from __future__ import annotations

from fastapi import APIRouter

from strongroom.broker.answers import HealthAnswer
from strongroom.broker.routes.shared import TheDirectory
from strongroom.broker.service import Members

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live", response_model=HealthAnswer)
async def live() -> Members:
    """Tell that the process serves."""
    return {"status": "live"}


@router.get("/ready", response_model=HealthAnswer)
async def ready(directory: TheDirectory) -> Members:
    """Tell that keeper, log and store answer, and that the keeper is unlocked."""
    await directory.ready()
    return {"status": "ready"}
