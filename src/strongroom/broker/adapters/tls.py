"""The TLS server: 1.3 only, a client certificate from everybody, no resumption; the gate sees the certificate."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from strongroom.broker.adapters.dev_ca import IssuedCertificate
from strongroom.broker.gate import PEER

HEAD_SECONDS: Final = 10.0
"""How long a connection may take to send a request's head: nobody holds a place by dripping bytes."""

GOODBYE_SECONDS: Final = 0.1


def server_context(authority: bytes) -> ssl.SSLContext:
    """Return the server's context; ``authority`` (PEM) is the only one whose clients are let in."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    # A resumed session would skip the check of the certificate.
    context.num_tickets = 0
    context.load_verify_locations(cadata=authority.decode("ascii"))
    return context


def use_certificate(context: ssl.SSLContext, issued: IssuedCertificate, folder: Path) -> None:
    """Use a server certificate for connections from now on. The library reads it from files, which stay private."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    certificate, key = folder / "server.pem", folder / "server.key"
    issued.save(certificate, key)
    context.load_cert_chain(certificate, key)


class PeerCertProtocol(HttpToolsProtocol):
    """HTTP/1.1 that puts the peer's certificate into ``scope["state"]`` and ends connections that send no head."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the certificate off the finished handshake."""
        super().connection_made(transport)
        peer = transport.get_extra_info("ssl_object")
        der = peer.getpeercert(binary_form=True) if peer is not None else None
        self.app_state: dict[str, Any] = {**self.app_state, PEER: der}
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._head_seen()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of the head."""
        self._expect_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop waiting: the gate bounds the rest of the request."""
        self._head_seen()
        super().on_headers_complete()

    def shutdown(self) -> None:
        """End an idle connection now: waiting for its client's goodbye would hold up the stop for half a minute."""
        super().shutdown()
        if self.cycle is None or self.cycle.response_complete:  # type: ignore[redundant-expr]  # None before a request
            self.loop.call_later(GOODBYE_SECONDS, self.transport.abort)

    def _expect_head(self) -> None:
        self._head_seen()
        self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _head_seen(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
