"""The one HTTP server of every process that has one: signals are its process's, and it says when it listens."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from strongroom.core.errors import UnavailableError

HEAD_SECONDS: Final = 10.0
"""How long a connection may take to send a request's head: nobody holds a place by dripping bytes."""
MAX_HEAD: Final = 64 * 1024
"""Bytes of a request beside its body, from the second read on: the parser has no bound of its own."""
_TOO_LONG: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
GOODBYE_SECONDS: Final = 0.1


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 that ends connections which send no request's head in time.

    Nor a head without an end, or what belongs to no request: the rest of one that was answered, another protocol.
    """

    _head: asyncio.TimerHandle | None = None
    _around = 0
    """Bytes of this request that are no body: head, chunks' sizes, and what follows the last of them."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._head_seen()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, and see that a request comes of it."""
        self._around += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        idle = self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]  # None before a request
        if self._around > MAX_HEAD:
            if idle and self._head is not None:
                self.transport.write(_TOO_LONG)
            self.transport.close()
            # Closing waits for the client's goodbye, and reads what it sends until then.
            self.loop.call_later(GOODBYE_SECONDS, self.transport.abort)
        elif idle and self._head is None:
            # Any byte stops the timer of idle connections; these belong to no request that is still to be answered.
            self._expect_head()

    def on_body(self, body: bytes) -> None:
        """Take some of the body, which whoever reads it bounds."""
        self._around -= len(body)
        super().on_body(body)

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of the head."""
        self._around = 0
        self._expect_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop waiting: whoever reads the rest of the request bounds it."""
        self._head_seen()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._head_seen()
        self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _head_seen(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None


def http_config(
    app: Callable[..., Awaitable[None]],
    *,
    host: str,
    port: int,
    most: int,
    http: type[BoundedProtocol] = BoundedProtocol,
    **further: Any,
) -> uvicorn.Config:
    """Return how an application is served: no line of its own is logged, no proxy is believed, no version is told.

    :param most: connections at once. :param further: what else uvicorn knows by that name.
    """
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=http,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=most,
        **further,
    )


class HttpServer(uvicorn.Server):
    """A server that leaves signals alone: whoever runs it calls :meth:`end`, so that SIGTERM exits with 0.

    :param listening: called with its port, once it listens.
    :param remedy: what to do where the address can't be listened on.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        listening: Callable[[int], None] = lambda _port: None,
        *,
        remedy: str = "choose another",
    ) -> None:
        super().__init__(config)
        self._listening = listening
        self._remedy = remedy
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    @property
    def port(self) -> int:
        """The port that it listens on, once started."""
        return int(self.servers[0].sockets[0].getsockname()[1])

    def end(self) -> None:
        """Take no more connections, finish what is in work, and return from ``serve``."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then let it be known.

        :raises UnavailableError: the address can't be listened on.
        """
        try:
            await super().startup(sockets)
        except SystemExit:
            raise UnavailableError(f"can't listen on port {self.config.port}", remedy=self._remedy) from None
        self._listening(self.port)
        self.up.set()
