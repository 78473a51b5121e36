"""The machine's end of its one channel: a virtio serial port, which carries bytes and no network."""

from __future__ import annotations

import os
import select
import threading
import time
from pathlib import Path
from typing import Final

from strongroom.core.canonical import Json
from strongroom.core.errors import NotFoundError, UnavailableError
from strongroom.enclave import frames

_PORTS: Final = Path("/sys/class/virtio-ports")
_POLL_MS: Final = 1000
_PAUSE: Final = 0.05


class Port:
    """Bounded messages over an open port. Any thread may send; one receives."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._sending = threading.Lock()

    @classmethod
    def named(cls, name: str, *, ports: Path = _PORTS, devices: Path = Path("/dev")) -> Port:
        """Open the port that the launcher gave this name.

        :raises NotFoundError: there is none.
        """
        for entry in sorted(ports.iterdir()) if ports.is_dir() else ():
            if (entry / "name").is_file() and (entry / "name").read_text(encoding="ascii").strip() == name:
                return cls(os.open(devices / entry.name, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
        raise NotFoundError(f"the machine has no port `{name}`")

    def send(self, message: Json) -> None:
        """Send one message; waits for as long as the launcher doesn't read.

        :raises MalformedError: too long, or without a canonical form. :raises UnavailableError: the port is gone.
        """
        left = memoryview(frames.frame(message))
        with self._sending:
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:
                    self._wait(select.POLLOUT, _POLL_MS)
                except OSError as error:
                    raise UnavailableError(f"the machine's port broke: {error.strerror}") from None

    def receive(self, *, timeout: float) -> Json:
        """Return the next message, waiting at most ``timeout`` seconds.

        :raises MalformedError: too long, or not canonical JSON. :raises UnavailableError: nothing came.
        """
        until = time.monotonic() + timeout
        length = frames.length_of(self._exactly(frames.HEADER, until))
        return frames.unframe(self._exactly(length, until))

    def _exactly(self, count: int, until: float) -> bytes:
        data = bytearray()
        while len(data) < count:
            left = until - time.monotonic()
            if left <= 0:
                raise UnavailableError("the launcher didn't say anything in time", reason="channel.timeout")
            try:
                part = os.read(self._descriptor, count - len(data))
            except BlockingIOError:
                self._wait(select.POLLIN, min(left * 1000, _POLL_MS))
                continue
            except OSError as error:
                raise UnavailableError(f"the machine's port broke: {error.strerror}") from None
            if not part:
                # Nobody is at the other end (any more). The machine is the launcher's: it ends it, not we.
                time.sleep(_PAUSE)
            data += part
        return bytes(data)

    def _wait(self, event: int, milliseconds: float) -> None:
        poll = select.poll()
        poll.register(self._descriptor, event)
        poll.poll(milliseconds)
