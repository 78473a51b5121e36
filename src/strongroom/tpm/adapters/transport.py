"""Carrying TPM commands over an open descriptor: a character device, or swtpm's data channel (Unix or TCP socket).

Only ``read``, ``write`` and ``poll`` are used once it is open, so that a sandboxed process can be handed the
descriptor and nothing else.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import time
from pathlib import Path
from typing import Final, Protocol, Self

from strongroom.tpm.errors import TpmError

MAX_MESSAGE: Final = 4096
HEADER_BYTES: Final = 10
COMMAND_SECONDS: Final = 90.0
"""Making an RSA key takes a slow hardware TPM tens of seconds."""


class TpmTransport(Protocol):
    """Whatever carries one command to a TPM and its response back."""

    def transact(self, command: bytes) -> bytes:
        """Send one command and return the whole response.

        :raises TpmError: the TPM can't be reached, doesn't answer in time, or answers with a broken frame.
        """
        ...

    def close(self) -> None:
        """Give the connection up."""
        ...


class DescriptorTransport:
    """A transport over an open file descriptor, which it owns from now on."""

    def __init__(self, descriptor: int, *, seconds: float = COMMAND_SECONDS) -> None:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
            raise TpmError("a TPM is reached through a character device or a socket, not another kind of file")
        self._descriptor = descriptor
        self._seconds = seconds

    @property
    def descriptor(self) -> int:
        """The descriptor, for passing it on to a process that is to speak with the TPM."""
        return self._descriptor

    @classmethod
    def device(cls, path: Path = Path("/dev/tpmrm0")) -> Self:
        """Open the kernel's TPM resource manager (or another character device).

        :raises TpmError: it can't be opened.
        """
        try:
            return cls(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            raise TpmError(f"the TPM device can't be opened: {error.strerror}") from None

    @classmethod
    def unix(cls, path: Path) -> Self:
        """Connect to a Unix stream socket.

        :raises TpmError: nobody listens there.
        """
        return cls._connect(socket.AF_UNIX, str(path))

    @classmethod
    def tcp(cls, host: str, port: int) -> Self:
        """Connect to a TCP data channel on an IPv4 address.

        :raises TpmError: nobody listens there.
        """
        return cls._connect(socket.AF_INET, (host, port))

    @classmethod
    def _connect(cls, family: int, address: str | tuple[str, int]) -> Self:
        channel = socket.socket(family, socket.SOCK_STREAM)
        try:
            channel.connect(address)
        except OSError as error:
            channel.close()
            raise TpmError(f"the TPM's socket can't be reached: {error.strerror}") from None
        return cls(channel.detach())

    def transact(self, command: bytes) -> bytes:
        """Send one command and return the whole response; see :class:`TpmTransport`."""
        deadline = time.monotonic() + self._seconds
        try:
            self._send(command, deadline)
            # A character device hands over the response in one read, and only in one: ask for the most there can be.
            response = self._receive(deadline)
            while len(response) < HEADER_BYTES or len(response) < _size(response):
                response += self._receive(deadline)
        except OSError as error:
            raise TpmError(f"the TPM's connection broke: {error.strerror}") from None
        if len(response) != _size(response):
            raise TpmError("the TPM answered with more bytes than its header says")
        return response

    def _send(self, command: bytes, deadline: float) -> None:
        left = memoryview(command)
        while left:
            self._wait(select.POLLOUT, deadline)
            left = left[os.write(self._descriptor, left) :]

    def _receive(self, deadline: float) -> bytes:
        self._wait(select.POLLIN, deadline)
        data = os.read(self._descriptor, MAX_MESSAGE)
        if not data:
            raise TpmError("the TPM closed its connection")
        return data

    def _wait(self, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._descriptor, event)
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TpmError("the TPM didn't answer in time")

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _size(response: bytes) -> int:
    size = int.from_bytes(response[2:6], "big")
    if not HEADER_BYTES <= size <= MAX_MESSAGE:
        raise TpmError("the TPM answered with a frame of an impossible size")
    return size
