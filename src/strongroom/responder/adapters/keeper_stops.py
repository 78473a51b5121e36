"""Freezes at the keeper: requests signed beforehand, so that none of the waiting before a freeze is ours.

A request names the documents in force and the log's head as this client verified them. It is made again when it was
used, and once a minute; one that a change of documents made stale is made anew while the freeze waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Final

from strongroom.client.service import Session
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError, UnavailableError
from strongroom.core.ids import ModelId
from strongroom.ipc.adapters.client import UnixClient
from strongroom.responder.acting import Stopped

RENEW_SECONDS: Final = 60.0
TRIES: Final = 5
PAUSE_SECONDS: Final = 0.2

Make = Callable[[ModelId], Envelope]


class KeeperStops:
    """One signed freeze for each model, ready to be handed in.

    :param make: refreshes what is known of the deployment, and signs a freeze of a model; it may wait, in a thread.
    """

    def __init__(self, client: UnixClient, session: Session, make: Make, models: Collection[ModelId]) -> None:
        self._client = client
        self._session = session
        self._make = make
        self._models = tuple(models)
        self._ready: dict[ModelId, Envelope] = {}
        self._making = asyncio.Lock()
        self._used: dict[Digest, tuple[ModelId, Envelope]] = {}
        """Requests that stand in the log and aren't stored yet."""

    async def prepare(self) -> None:
        """Have a request for every model.

        :raises StrongroomError: the deployment doesn't answer, or isn't the one that was seen before.
        """
        for model in self._models:
            self._ready[model] = await self._made(model)

    async def keep_ready(self) -> None:
        """Renew the requests for ever; what can't be renewed is kept."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            with contextlib.suppress(StrongroomError):
                await self.prepare()

    async def stop(self, model: ModelId) -> Stopped:
        """Freeze a model.

        :raises StrongroomError: the keeper refused it again and again, or doesn't answer.
        """
        last: StrongroomError = UnavailableError("no freeze was tried")
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(PAUSE_SECONDS * attempt)
            envelope = self._ready.pop(model, None)
            try:
                if envelope is None:
                    envelope = await self._made(model)
                answer = await self._client.call("stop", request=envelope.to_json())
            except StrongroomError as error:
                last = error
                continue
            with answer:
                index = answer.integer("index") if answer.optional("index") else None
            if index is None:
                # It wasn't used: nothing of it was recorded.
                self._ready.setdefault(model, envelope)
            else:
                self._used[envelope.digest] = model, envelope
            return Stopped(request=envelope.digest, index=index)
        raise last

    async def stored(self, stopped: Stopped) -> None:
        """Have the broker store the request of a freeze that was recorded, and make the next one ready.

        :raises StrongroomError: it isn't stored.
        """
        model, envelope = self._used.pop(stopped.request)
        await asyncio.to_thread(self._session.api.submit, envelope)
        if model not in self._ready:
            self._ready[model] = await self._made(model)

    async def _made(self, model: ModelId) -> Envelope:
        # One at a time: what a client saw is remembered in one place.
        async with self._making:
            return await asyncio.to_thread(self._make, model)
