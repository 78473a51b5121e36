"""A second engine that is a thread of the test, as a gateway has it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from strongroom.core.clock import SystemClock
from strongroom.egress.policy import EgressPolicy, VerifiedBy
from strongroom.enclave.gateway.adapters.replayer import Replayer
from strongroom.enclave.gateway.replay import Replays
from support.egress import VERIFIED_BY
from support.gateways import ATLAS, Engine, roomy

RESIDUAL = 75
"""Millibits."""


def verifying(**changes: Any) -> EgressPolicy:
    """Return a roomy policy under which tokens are verified; `changes` are those of who does."""
    return roomy(residual_millibits_per_token=RESIDUAL, verified_by=replace(VERIFIED_BY, **changes))


class Second:
    """What stands behind a replayer: the engine's end of the channel, and whether it was killed."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel, self.stopped = channel, threading.Event()

    def kill(self) -> None:
        """End it, as a process's end does."""
        with suppress(OSError):
            self.channel.shutdown(socket.SHUT_RDWR)


@contextmanager
def second(engine: Engine, rules: VerifiedBy = VERIFIED_BY, *, draw: int = 0) -> Iterator[tuple[Replayer, Second]]:
    """Run `engine` as a second one. `draw` is what is drawn for every answer."""
    ours, theirs = socket.socketpair()
    made = Second(theirs)

    def run() -> None:
        with theirs, suppress(OSError):
            engine(theirs)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    replays = Replays(ATLAS, rules, draw=lambda: draw)
    try:
        yield Replayer(ours, replays, SystemClock(), made.stopped.set), made
    finally:
        made.kill()
        with suppress(OSError):
            ours.close()
        thread.join(60)
        assert not thread.is_alive()
