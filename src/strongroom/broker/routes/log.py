"""The log: checkpoints, entries and proofs. Readers verify all of it with the key in the genesis."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from strongroom.broker.answers_log import (
    CheckpointAnswer,
    ConsistencyAnswer,
    EntriesAnswer,
    InclusionAnswer,
    SeamsAnswer,
    TogetherAnswer,
)
from strongroom.broker.bodies import ConsistencyQuery, EntriesQuery, InclusionQuery, SeamsQuery, TogetherQuery
from strongroom.broker.routes.shared import TheDirectory
from strongroom.broker.service import Members

router = APIRouter(prefix="/log", tags=["log"])


@router.get("/checkpoint", response_model=CheckpointAnswer)
async def checkpoint(directory: TheDirectory) -> Members:
    """Return the newest signed checkpoint."""
    return await directory.checkpoint()


@router.get("/seams", response_model=SeamsAnswer)
async def seams(query: Annotated[SeamsQuery, Query()], directory: TheDirectory) -> Members:
    """Return how shards of the log were closed, at most 32."""
    return await directory.seams(query)


@router.get("/entries", response_model=EntriesAnswer)
async def entries(query: Annotated[EntriesQuery, Query()], directory: TheDirectory) -> Members:
    """Return entries, base64 each; fewer than asked for where the answer would grow too large."""
    return await directory.entries(query)


@router.get("/proof/inclusion", response_model=InclusionAnswer)
async def inclusion(query: Annotated[InclusionQuery, Query()], directory: TheDirectory) -> Members:
    """Return an entry's leaf hash and audit path."""
    return await directory.inclusion(query.index, query.size)


@router.get("/proof/entries", response_model=TogetherAnswer)
async def together(query: Annotated[TogetherQuery, Query()], directory: TheDirectory) -> Members:
    """Return up to 32 entries of one shard, each with its audit path; fewer where there would be too much."""
    return await directory.together(query.places, query.size)


@router.get("/proof/consistency", response_model=ConsistencyAnswer)
async def consistency(query: Annotated[ConsistencyQuery, Query()], directory: TheDirectory) -> Members:
    """Return the proof that the log of one size is a prefix of that of another."""
    return await directory.consistency(query.old, query.new)
