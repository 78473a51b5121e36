"""Collateral: what makers publish about their chips. People import and look; the keeper checks whose it is."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query, Request

from strongroom.broker.answers import CollateralAnswer, PartAnswer
from strongroom.broker.bodies import CollateralIn, CollateralQuery, binary
from strongroom.broker.errors import OtherPartyError, TooManyCallsError
from strongroom.broker.gate import IDENTITY
from strongroom.broker.identity import Identity
from strongroom.broker.routes.shared import PEOPLE, TheBroker, TheDirectory
from strongroom.broker.service import Members
from strongroom.core.digest import Digest
from strongroom.core.ids import person_id

MAX_PART = 128 * 1024
router = APIRouter(tags=["collateral"], dependencies=[PEOPLE])


@router.get("/collateral", response_model=CollateralAnswer)
async def collateral(query: Annotated[CollateralQuery, Query()], directory: TheDirectory) -> Members:
    """Return a page of what is held: names, dates and digests, not the data."""
    return await directory.collateral(skip=query.skip, count=query.count)


@router.post("/collateral", response_model=PartAnswer)
async def import_part(body: CollateralIn, request: Request, broker: TheBroker, directory: TheDirectory) -> Members:
    """Hand in the next part of a bundle; with the last one everything in it is imported, or nothing."""
    identity = request.scope["state"].get(IDENTITY)
    if not isinstance(identity, Identity):
        raise OtherPartyError("this address is for people")
    if body.offset == 0 and (wait := broker.imports.wait(str(identity), time.monotonic())):
        raise TooManyCallsError("too many bundles were handed in", remedy=f"wait {wait:.0f} seconds, then begin again")
    return await directory.import_part(
        person_id(identity.name),
        bundle=Digest.parse(body.bundle),
        size=body.size,
        offset=body.offset,
        part=binary(body.part, "part", max_length=MAX_PART),
    )
