"""An address for sensors that post each event by HTTP: Canarytokens' webhooks, Falco's ``http_output``.

Whoever knows the secret path may say that a decoy was touched, so the path is compared in constant time, and what is
behind it is read within bounds: one request a connection, its size, its seconds, connections at once, requests a
second. Nobody here is waited for. It listens on this machine alone; what comes from outside comes through a proxy.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httptools

from strongroom.core.buckets import Buckets, Rate
from strongroom.core.clock import uptime
from strongroom.core.errors import MalformedError, UnavailableError, UsageError
from strongroom.detection.sensors.reading import MAX_LINE, Event, Reader
from strongroom.ipc.adapters.server import clear_stale

RATE: Final = Rate(per_second=50.0, burst=500)
MAX_HEAD: Final = 16384
MAX_CONNECTIONS: Final = 32
SECONDS: Final = 5.0
"""How long one connection may last."""
LEAST_SECRET: Final = 24
MAX_SECRET: Final = 256


class Webhook:
    """Listens for one sensor.

    :param secret: the path that counts, without its slash.
    :param read: the sensor's reader. :param take: is told each event. :param heard: that the sensor said something.
    """

    def __init__(
        self, name: str, secret: str, read: Reader, take: Callable[[Event], object], heard: Callable[[], None]
    ) -> None:
        self.name = name
        self._path = f"/{secret}".encode()
        self._read, self._take, self._heard = read, take, heard
        self._buckets = Buckets(RATE)
        self._server: asyncio.Server | None = None
        self._open: dict[_Connection, None] = {}
        self.missed = 0
        """Posts to the secret path that weren't read, for there were too many, or that aren't this sensor's."""

    async def start(self, address: str) -> None:
        """Listen at ``127.0.0.1:PORT``, ``[::1]:PORT`` or the path of a socket that programs of this machine may use.

        :raises UnavailableError: nobody can listen there.
        """
        loop = asyncio.get_running_loop()
        try:
            if address.startswith("/"):
                clear_stale(Path(address))
                before = os.umask(0o111)
                try:
                    self._server = await loop.create_unix_server(lambda: _Connection(self), address)
                finally:
                    os.umask(before)
            else:
                host, _, port = address.rpartition(":")
                self._server = await loop.create_server(lambda: _Connection(self), host.strip("[]"), int(port))
        except OSError as error:
            raise UnavailableError(f"nobody can listen for `{self.name}`: {error.strerror}") from None

    @property
    def port(self) -> int:
        """The TCP port that it listens on; 0 for a socket file."""
        name = self._server.sockets[0].getsockname() if self._server and self._server.sockets else ""
        return name[1] if isinstance(name, tuple) else 0

    async def stop(self) -> None:
        """Stop listening, and end every connection."""
        if self._server is not None:
            self._server.close()
        for one in list(self._open):
            one.end()

    def admit(self, connection: _Connection) -> None:
        """Take a connection. Of too many the oldest ends: who holds them open mustn't keep the sensor out."""
        if len(self._open) >= MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            self.forget(oldest)
            oldest.end()
        self._open[connection] = None

    def forget(self, connection: _Connection) -> None:
        """Let go of a connection that ended."""
        self._open.pop(connection, None)

    def answer(self, method: bytes, url: bytes, body: bytes) -> bytes:
        """Take a whole request; returns the answer's status line."""
        # All of it, in a time that doesn't tell how much of it was right.
        if not hmac.compare_digest(url, self._path):
            return b"404 Not Found"
        if method != b"POST":
            return b"405 Method Not Allowed"
        if self._buckets.wait(self.name, uptime()):
            self.missed += 1
            self._heard()
            return b"429 Too Many Requests"
        try:
            read = self._read(body)
            self._heard()
            for event in read.events:
                self._take(event)
        except MalformedError:
            self.missed += 1
            return b"400 Bad Request"
        return b"204 No Content"


class _Connection(asyncio.Protocol):
    """One connection with one request."""

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._body = bytearray(), bytearray()
        self._came = 0
        self._answered = False
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a stream server hands over
        self._transport = transport
        self._webhook.admit(self)
        self._timer = asyncio.get_running_loop().call_later(SECONDS, self.end)

    def connection_lost(self, _error: Exception | None) -> None:
        self._webhook.forget(self)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        # The parser keeps no more than what it is given: this is the bound on heads, trailers and chunks alike.
        self._came += len(data)
        if self._came > MAX_HEAD + MAX_LINE:
            self._say(b"413 Content Too Large")
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            self._say(b"400 Bad Request")

    def end(self) -> None:
        """End it, whatever it still wanted to say."""
        if self._transport is not None:
            self._transport.abort()

    # What the parser calls.

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._answered:
            # A second request on one connection: the answer to the first has closed it.
            return
        self._answered = True
        method = self._parser.get_method()
        self._say(self._webhook.answer(method, bytes(self._url), bytes(self._body)))

    def _say(self, status: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        transport.close()


def read_secret(path: Path) -> str:
    """Read the secret path from a file that its owner alone may read.

    :raises UsageError: it can't be read, others can read it, or it isn't 24 to 256 letters, digits, ``-`` and ``_``.
    """
    try:
        with path.open("rb") as file:
            mode, data = os.fstat(file.fileno()).st_mode, file.read(MAX_SECRET + 2)
    except OSError as error:
        raise UsageError(f"`{path}` can't be read: {error.strerror}") from None
    if mode & 0o077:
        raise UsageError(f"others may read `{path}`", remedy="chmod 600 it, and put another secret into it")
    secret = data.decode("ascii", "replace").strip()
    if not LEAST_SECRET <= len(secret) <= MAX_SECRET or not secret.replace("-", "").replace("_", "").isalnum():
        raise UsageError(f"`{path}` holds {LEAST_SECRET} to {MAX_SECRET} letters, digits, `-` or `_`")
    return secret
