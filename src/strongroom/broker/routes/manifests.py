"""Signed manifests of sealed versions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from strongroom.broker.answers import ManifestAnswer, Recorded
from strongroom.broker.bodies import ManifestIn
from strongroom.broker.routes.shared import PEOPLE, TheBroker
from strongroom.broker.service import Members
from strongroom.core.digest import Digest
from strongroom.core.ids import model_id

router = APIRouter(tags=["manifests"])


@router.post("/manifests", response_model=Recorded, dependencies=[PEOPLE])
async def register(body: ManifestIn, broker: TheBroker) -> Members:
    """Register a sealed version: from then on it is its model's current one. The same one again answers the same."""
    return await broker.register(body.manifest.envelope(), Digest.parse(body.request))


@router.get("/manifests/{model}/{version}", response_model=ManifestAnswer)
async def manifest(
    model: Annotated[str, Path(max_length=64)], version: Annotated[int, Path(ge=1, lt=2**53)], broker: TheBroker
) -> Members:
    """Return a registered manifest."""
    return await broker.manifest(model_id(model), version)
