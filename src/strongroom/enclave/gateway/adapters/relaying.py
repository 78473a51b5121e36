"""The relay between an agent and the broker, in a thread beside the gateway's event loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from strongroom.core.errors import StrongroomError
from strongroom.enclave.agent.messages import Order
from strongroom.enclave.gateway.errors import EngineGoneError
from strongroom.enclave.launch.relay import Opened, ReleasePort, relay
from strongroom.enclave.runner import Running
from strongroom.release.lease import Sampling

REASON_SECONDS: Final = 2.0
"""How long an agent may take to say why its command ended, before everything is killed."""
END_SECONDS: Final = 10.0
"""How long a killed enclave's relay may take to end."""
FOREVER: Final = 10 * 365 * 86400.0
_log = structlog.get_logger("strongroom.governor")


@contextmanager
def relayed(running: Running, order: Order, broker: ReleasePort) -> Iterator[Relaying]:
    """Relay between an agent and the broker; leaving the block ends both."""
    relaying = Relaying(running, order, broker)
    try:
        yield relaying
    finally:
        relaying.end()


class Relaying(threading.Thread):
    """The relay between agent and broker, beside the gateway's event loop."""

    def __init__(self, running: Running, order: Order, broker: ReleasePort) -> None:
        super().__init__(daemon=True)
        self._running, self._order, self._broker = running, order, broker
        self._killing, self._known = threading.Lock(), threading.Event()
        self._facts: Opened | None = None
        self.error: StrongroomError | None = None
        self.sampling = Sampling.POLICY
        """What the delivery, or the newest lease, asks for."""
        self.start()

    def run(self) -> None:
        """Relay until the command ends; its end closes the channel, which is what the gateway waits for."""
        try:
            relay(
                self._running,
                self._order,
                self._broker,
                opened=self._opened,
                seconds=FOREVER,
                sampling=self._sampled,
            )
        except StrongroomError as error:
            self.error = error
            # Nobody raises what ends a second engine: answers go on without it, and this is all that says why.
            _log.info("an engine's release ended", model=self._order.model, reason=error.reason)
        finally:
            # A refusal leaves an agent that waits, with the channel open.
            self.kill()
            self._known.set()

    def kill(self) -> None:
        """End the enclave. This thread and the gateway's may both want it, at the same moment."""
        with self._killing:
            self._running.kill()

    def end(self) -> None:
        """Kill the enclave, and wait a while until the relay knows why it ended."""
        self.kill()
        self.join(END_SECONDS)

    def why(self) -> StrongroomError | None:
        """Return why the command ended, once its agent has said so; or nothing, if it doesn't within a moment."""
        self.join(REASON_SECONDS)
        return self.error

    def released(self) -> Opened:
        """Wait until the agent has opened the model; returns what it says of it.

        :raises EngineGoneError: it never will.
        """
        self._known.wait()
        if self._facts is None:
            raise EngineGoneError("the enclave ended before the model was open")
        return self._facts

    def _sampled(self, sampling: Sampling) -> None:
        self.sampling = sampling

    def _opened(self, facts: Opened) -> None:
        self._facts = facts
        self._known.set()
