"""The meter at work, inside the machine: the engine's socket on one side, the launcher's port on the other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Self

from strongroom.core.errors import StrongroomError, UnavailableError
from strongroom.enclave.metered import MAX_BACKLOG
from strongroom.enclave.taximeter import Taximeter
from strongroom.enclave.vm.adapters.port import Port
from strongroom.enclave.vm.messages import MAX_METERED, FramesOut, MeterOpened, OrdersIn, Vouched, tell


class Metering:
    """One engine's channel.

    Orders wait in a queue of their own: an engine that doesn't read must not keep the agent from hearing of its lease.
    """

    def __init__(self, taximeter: Taximeter, port: Port) -> None:
        self._taximeter, self._port = taximeter, port
        self._metering = threading.Lock()
        self._ours, self.theirs = socket.socketpair()
        self._backlog: SimpleQueue[bytes] = SimpleQueue()
        self._waiting = 0
        self.error: StrongroomError | None = None
        """What may not pass."""

    def start(self, *, end: Callable[[], None]) -> None:
        """Begin to carry; the engine's end must have been passed on.

        ``end`` is called once, when something came that may not pass: it kills the engine.
        """
        self.theirs.close()
        self._end = end
        for work in (self._towards_engine, self._towards_launcher):
            threading.Thread(target=work, daemon=True).start()

    def released(self, use: int) -> None:
        """Take the use of the release from the agent."""
        with self._metering:
            self._taximeter.released(use)

    def hear(self, said: MeterOpened | Vouched | OrdersIn) -> None:
        """Take what the launcher says. What may not pass ends everything, and is told by :attr:`error`."""
        try:
            with self._metering:
                match said:
                    case MeterOpened(vocabulary=vocabulary):
                        self._taximeter.begin(vocabulary)
                    case Vouched(entry=entry):
                        self._taximeter.vouch(entry)
                    case OrdersIn(data=data):
                        self._queue(self._taximeter.ordered(data))
        except StrongroomError as error:
            self._fail(error)

    def _queue(self, orders: bytes) -> None:
        # More than a gateway lets wait: the host has another.
        if self._waiting + len(orders) > MAX_BACKLOG:
            raise UnavailableError("the engine doesn't read its orders", reason="vm.backlog")
        self._waiting += len(orders)
        self._backlog.put(orders)

    def _towards_engine(self) -> None:
        with suppress(OSError):
            while True:
                orders = self._backlog.get()
                self._ours.sendall(orders)
                with self._metering:
                    self._waiting -= len(orders)

    def _towards_launcher(self) -> None:
        try:
            while part := self._ours.recv(MAX_METERED):
                with self._metering:
                    frames = self._taximeter.said(part)
                # What waited for its turn leaves with what let it go: it can be more than came.
                for at in range(0, len(frames), MAX_METERED):
                    self._port.send(tell(FramesOut(frames[at : at + MAX_METERED])))
        except StrongroomError as error:
            self._fail(error)
        except OSError:
            # The engine is gone; the agent says how it ended.
            return

    def _fail(self, error: StrongroomError) -> None:
        if self.error is None:
            self.error = error
            self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        # Wakes the two threads: what they wait for can't come any more.
        with suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        self._ours.close()
        self.theirs.close()
