"""The one HTTP server of every process that has one: signals are its process's, and it says when it listens."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn

from strongroom.core.errors import UnavailableError


def http_config(
    app: Callable[..., Awaitable[None]], *, host: str, port: int, most: int, **further: Any
) -> uvicorn.Config:
    """Return how an application is served: no line of its own is logged, no proxy is believed, no version is told.

    :param most: connections at once. :param further: what else uvicorn knows by that name.
    """
    return uvicorn.Config(
        app,
        host=host,
        port=port,
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
