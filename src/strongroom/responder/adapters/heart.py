"""The responder's heartbeat to the keeper: sent while everything that it watches with works, and not otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from strongroom.access.request import LogHead
from strongroom.client.wallet import Wallet
from strongroom.core.clock import Clock
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError
from strongroom.ipc.adapters.client import UnixClient
from strongroom.release.heartbeat import Heartbeat
from strongroom.responder.health import Health

BEAT_SECONDS: Final = 3.0


class Checked(Protocol):
    """The responder's own record."""

    async def check(self) -> None:
        """Check that it can be written.

        :raises StrongroomError: it can't.
        """
        ...


class Heart:
    """Beats at the keeper.

    :param head: how far the log was read.
    """

    def __init__(
        self,
        client: UnixClient,
        sign: Callable[[LogHead], Envelope],
        *,
        health: Health,
        record: Checked,
        head: Callable[[], LogHead],
        now: Callable[[], float],
    ) -> None:
        self._client = client
        self._sign = sign
        self._health = health
        self._record = record
        self._head = head
        self._now = now

    async def beat(self) -> str:
        """Beat once, if there is reason to; returns why it didn't, or was refused: a code, empty where it was heard."""
        head = self._head()
        if not head.size:
            return "log-unread"
        if self._health.silent(self._now()):
            return "sensor-silent"
        try:
            await self._record.check()
            envelope = await asyncio.to_thread(self._sign, head)
            (await self._client.call("beat", heartbeat=envelope.to_json())).end()
        except StrongroomError as error:
            return error.reason
        return ""


def signed_heartbeat(wallet: Wallet, clock: Clock) -> Callable[[LogHead], Envelope]:
    """Return what signs a heartbeat as the wallet's owner."""
    signer, genesis, person = wallet.signer(), wallet.genesis().digest, wallet.identity.person

    def make(head: LogHead) -> Envelope:
        return Heartbeat(genesis=genesis, responder=person, at=clock.now(), log=head).sign(signer)

    return make
