"""The message channel over a connected Unix socket, for both of its ends."""

from __future__ import annotations

import os
import socket
import time
from typing import Final

from strongroom.core.canonical import Json
from strongroom.core.errors import NotFoundError, UnavailableError
from strongroom.enclave import frames

DESCRIPTOR_VARIABLE: Final = "STRONGROOM_FD_"


def inherited_descriptor(name: str) -> int:
    """Return the descriptor that the launcher passed in under ``name`` (``channel``, ``profile``, ``tpm``).

    :raises NotFoundError: nothing was passed in under that name.
    """
    text = os.environ.get(DESCRIPTOR_VARIABLE + name.upper(), "")
    if not text.isdecimal():
        raise NotFoundError(f"no descriptor `{name}` was passed into the enclave")
    return int(text)


class Channel:
    """Bounded messages over ``sock``, one at a time in each direction. One thread may send while another receives."""

    __slots__ = ("_sending", "_socket")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        # A socket object has one timeout for both directions, and each message brings its own.
        self._sending = sock.dup()

    @classmethod
    def inherited(cls) -> Channel:
        """Return the agent's end of the channel to its launcher.

        :raises NotFoundError: this process wasn't started as an agent.
        """
        return cls(socket.socket(fileno=inherited_descriptor("channel")))

    def send(self, message: Json, *, timeout: float) -> None:
        """Send one message within ``timeout`` seconds.

        :raises MalformedError: the message is too long or has no canonical form.
        :raises UnavailableError: the other end is gone or doesn't read.
        """
        data = frames.frame(message)
        try:
            self._sending.settimeout(timeout)
            self._sending.sendall(data)
        except OSError as error:
            raise _lost(error) from None

    def receive(self, *, timeout: float) -> Json:
        """Return the next message; the whole of it must arrive within ``timeout`` seconds.

        :raises MalformedError: too long, or not canonical JSON.
        :raises UnavailableError: the other end is gone or is silent.
        """
        until = time.monotonic() + timeout
        length = frames.length_of(self._exactly(frames.HEADER, until))
        return frames.unframe(self._exactly(length, until))

    def _exactly(self, count: int, until: float) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                # The deadline is for the whole message: a byte a second must not keep the reader for ever.
                self._socket.settimeout(max(until - time.monotonic(), 0.001))
                part = self._socket.recv(min(count - len(data), 65536))
            except OSError as error:
                raise _lost(error) from None
            if not part:
                raise UnavailableError("the other end of the enclave's channel is closed", reason="channel.closed")
            data += part
        return bytes(data)

    def fileno(self) -> int:
        """Return the descriptor that is readable when a message arrives."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this end."""
        self._socket.close()
        self._sending.close()


def _lost(error: OSError) -> UnavailableError:
    if isinstance(error, TimeoutError):
        return UnavailableError(
            "the other end of the enclave's channel didn't answer in time", reason="channel.timeout"
        )
    return UnavailableError(f"the enclave's channel broke: {error.strerror}", reason="channel.broken")
