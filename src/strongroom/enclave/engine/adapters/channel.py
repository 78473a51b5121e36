"""The engine's end of the metered channel: orders in, frames out, on the one descriptor that it was started with."""

from __future__ import annotations

import select
import socket

from strongroom.enclave.engine.schedule import Model, Schedule
from strongroom.enclave.metered import OPENING, Code, Frame, Orders

_READ = 65536


def serve(channel: socket.socket, model: Model) -> None:
    """Carry out orders until the other end closes the channel.

    :raises MalformedError: the other end says what isn't an order.
    """
    schedule, orders = Schedule(model), Orders()
    waiting = select.poll()
    waiting.register(channel, select.POLLIN)
    channel.sendall(Frame(OPENING, Code.READY).to_bytes())
    while True:
        said: list[Frame] = []
        while waiting.poll(None if schedule.idle and not said else 0):
            data = channel.recv(_READ)
            if not data:
                return
            for order in orders.feed(data):
                said += schedule.take(order)
        said += schedule.round()
        if said:
            channel.sendall(b"".join(frame.to_bytes() for frame in said))
