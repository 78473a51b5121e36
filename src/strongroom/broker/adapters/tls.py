"""The TLS servers: 1.3 only, no resumption. One asks everybody for a certificate, which the gate sees; one asks nobody.

The gate also sees which authority ended the verified chain: several are trusted, and each speaks for one trust domain.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from strongroom.broker.adapters.dev_ca import IssuedCertificate
from strongroom.broker.gate import PEER
from strongroom.broker.identity import Peer
from strongroom.core.errors import UsageError

_DER: Final = 2  # OpenSSL's name for the encoding is private to the library
HEAD_SECONDS: Final = 10.0
"""How long a connection may take to send a request's head: nobody holds a place by dripping bytes."""
MAX_HEAD: Final = 64 * 1024
"""Bytes of a request beside its body, from the second read on: the parser has no bound of its own."""
_TOO_LONG: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
GOODBYE_SECONDS: Final = 0.1


def server_context(authorities: Iterable[bytes]) -> ssl.SSLContext:
    """Return the context of the server for callers with a certificate.

    ``authorities`` (DER) are the only ones whose clients are let in. Without any, start-up must fail: a server that
    then let everybody in would look the same from outside.

    :raises UsageError: there are none, or one can't be read.
    """
    context = login_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    trust_also(context, authorities)
    if not context.cert_store_stats()["x509_ca"]:
        raise UsageError("the server has no certificate authority to check its clients by")
    return context


def login_context() -> ssl.SSLContext:
    """Return the context of the server for who has no certificate yet: it asks for none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A resumed session would skip the check of the certificate.
    context.num_tickets = 0
    return context


def trust_also(context: ssl.SSLContext, authorities: Iterable[bytes]) -> None:
    """Let clients of further authorities (DER) through the handshake, from now on.

    None can be taken out of a context again; the gate knows at each request which of them still count.

    :raises UsageError: one can't be read.
    """
    # A bundle may name an authority that another one signed: it is trusted in itself.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for authority in authorities:
        try:
            context.load_verify_locations(cadata=authority)
        except (ssl.SSLError, ValueError):
            raise UsageError("a certificate authority's certificate can't be read") from None


def use_certificate(contexts: Iterable[ssl.SSLContext], issued: IssuedCertificate, folder: Path) -> None:
    """Use a server certificate for connections from now on. The library reads it from files, which stay private."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    certificate, key = folder / "server.pem", folder / "server.key"
    issued.save(certificate, key)
    for context in contexts:
        context.load_cert_chain(certificate, key)


class PeerCertProtocol(HttpToolsProtocol):
    """HTTP/1.1 that puts the peer's certificate into ``scope["state"]`` and ends connections that send no head.

    Nor a head without an end, or what belongs to no request: the rest of one that was answered, another protocol.
    """

    _head: asyncio.TimerHandle | None = None
    _around = 0
    """Bytes of this request that are no body: head, chunks' sizes, and what follows the last of them."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the certificate off the finished handshake."""
        super().connection_made(transport)
        self.app_state: dict[str, Any] = {**self.app_state, PEER: _peer(transport.get_extra_info("ssl_object"))}
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


def _peer(connection: ssl.SSLObject | None) -> Peer | None:
    certificate = connection.getpeercert(binary_form=True) if connection is not None else None
    if connection is None or certificate is None:
        return None
    if sys.version_info >= (3, 13):
        return Peer(certificate, connection.get_verified_chain()[-1])
    # The chain that OpenSSL verified is public from 3.13 on; before, it stands one object deeper.
    deeper: Any = vars(connection)["_sslobj"]
    return Peer(certificate, deeper.get_verified_chain()[-1].public_bytes(_DER))
