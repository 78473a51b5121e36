"""The second engine, live: its channel leads to the comparison, and from there nowhere.

It runs in the gateway's event loop. What it says is judged by :class:`~strongroom.enclave.gateway.replay.Replays` and
ends as a number in a settlement; no client's answer waits for it, and none is ever made of it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

import structlog

from strongroom.core.clock import Clock
from strongroom.egress.policy import VerifiedBy
from strongroom.enclave.gateway.errors import ChannelBreachError
from strongroom.enclave.gateway.replay import Replays, Verdict

OVER: Final = "over"
"""Why it ends with the gateway: nothing to be told of."""
_READ: Final = 65536
_log = structlog.get_logger("strongroom.governor")


class Replayer:
    """A second engine of the same model. ``stop`` is called once when it can't go on, and kills it."""

    def __init__(self, channel: socket.socket, replays: Replays, clock: Clock, stop: Callable[[], None]) -> None:
        self._channel, self.replays, self._clock, self._stop = channel, replays, clock, stop
        self._unsent = bytearray()
        self._over = False
        self._asked_at = 0

    def start(self, settle: Callable[[Verdict], None], breach: Callable[[ChannelBreachError], None]) -> None:
        """Begin to read, in the running event loop. ``settle`` takes what became of an answer."""
        self._settle, self._breach = settle, breach
        self._loop = asyncio.get_running_loop()
        self._channel.settimeout(0)
        self._loop.add_reader(self._channel, self._readable)

    def _go_on(self) -> None:
        if not self._over and not self._unsent and (order := self.replays.next()) is not None:
            self._unsent += order
            self._asked_at = self._clock.now()
            self._writable()

    def look(self) -> None:
        """Have what waits replayed, or give up on an engine that is too slow; to be called a few times a second."""
        if not self._over and self.replays.overdue(self._clock.now()):
            self.end("slow")
        self._go_on()

    def under(self, rules: VerifiedBy | None) -> None:
        """Go on under another policy, or end where it doesn't name this engine."""
        if rules is None or rules.image != self.replays.rules.image:
            self.end("policy")
        else:
            self.replays.rules = rules

    def end(self, why: str) -> None:
        """End it, for good: the channel is closed and the engine killed; what waited is settled at its full price."""
        if self._over:
            return
        self._over = True
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)
        self._channel.close()
        # In a thread: until a killed enclave is gone may take seconds, and clients don't wait for that.
        self._loop.run_in_executor(None, self._stop)
        self._settled(self.replays.stop(why))
        if why == OVER:
            return
        _log.warning(
            "answers aren't replayed any more: every token costs its full price",
            model=self.replays.model,
            cause=self.replays.stopped,
            compared=self.replays.compared,
            differed=self.replays.differed,
        )

    def _settled(self, verdicts: tuple[Verdict, ...]) -> None:
        for verdict in verdicts:
            self._settle(verdict)

    def _readable(self) -> None:
        try:
            data = self._channel.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.end("gone")
            return
        try:
            verdicts = self.replays.received(data)
            if verdicts:
                self.replays.took(max(0, self._clock.now() - self._asked_at))
            self._settled(verdicts)
        except ChannelBreachError as error:
            self.end(error.found)
            self._breach(error)
            return
        if self.replays.stopped is not None:
            self.end(self.replays.stopped)
        self._go_on()

    def _writable(self) -> None:
        try:
            sent = self._channel.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self.end("gone")
            return
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._channel, self._writable)
        else:
            self._loop.remove_writer(self._channel)
