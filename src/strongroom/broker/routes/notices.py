"""Notices of what is in the log, for people, as they come: a reader waits for the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request

from strongroom.broker.answers import NoticesAnswer
from strongroom.broker.bodies import NoticesQuery
from strongroom.broker.errors import TooManyCallsError
from strongroom.broker.gate import IDENTITY
from strongroom.broker.routes.shared import PEOPLE, TheBroker
from strongroom.broker.service import Members
from strongroom.core.digest import Digest

router = APIRouter(tags=["notices"])
MOST_WAITING: Final = 8
"""How many calls of one caller may wait at once: connections are few, and others need them."""
MOST_IN_ALL: Final = 256


@router.get("/notices", response_model=NoticesAnswer, dependencies=[PEOPLE])
async def notices(query: Annotated[NoticesQuery, Query()], request: Request, broker: TheBroker) -> Members:
    """Return notices of entries after `after`, or wait up to `wait` seconds for the first; without `after`, the end."""
    if query.after is None:
        return {"notices": [], "after": await broker.notices.end()}
    about = Digest.parse(query.request) if query.request else None
    async with _place(broker.notices.waiting, str(request.scope["state"][IDENTITY])):
        page = await broker.notices.page(query.after, wait=query.wait, request=about)
    return {"notices": [notice.to_json() for notice in page.notices], "after": page.place}


@asynccontextmanager
async def _place(waiting: Counter[str], caller: str) -> AsyncIterator[None]:
    if waiting[caller] >= MOST_WAITING or waiting.total() >= MOST_IN_ALL:
        raise TooManyCallsError("too many calls wait for notices", remedy="let one of them end first")
    waiting[caller] += 1
    try:
        yield
    finally:
        waiting[caller] -= 1
        if not waiting[caller]:
            del waiting[caller]
