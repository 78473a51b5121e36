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

from strongroom.broker.adapters.dev_ca import IssuedCertificate
from strongroom.broker.gate import PEER
from strongroom.broker.identity import Peer
from strongroom.core.errors import UsageError
from strongroom.ipc.adapters.http_server import GOODBYE_SECONDS, BoundedProtocol

_DER: Final = 2  # OpenSSL's name for the encoding is private to the library


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


class PeerCertProtocol(BoundedProtocol):
    """HTTP/1.1 that puts the peer's certificate into ``scope["state"]``."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the certificate off the finished handshake."""
        super().connection_made(transport)
        self.app_state: dict[str, Any] = {**self.app_state, PEER: _peer(transport.get_extra_info("ssl_object"))}

    def shutdown(self) -> None:
        """End an idle connection now: waiting for its client's goodbye would hold up the stop for half a minute."""
        super().shutdown()
        if self.cycle is None or self.cycle.response_complete:  # type: ignore[redundant-expr]  # None before a request
            self.loop.call_later(GOODBYE_SECONDS, self.transport.abort)


def _peer(connection: ssl.SSLObject | None) -> Peer | None:
    certificate = connection.getpeercert(binary_form=True) if connection is not None else None
    if connection is None or certificate is None:
        return None
    if sys.version_info >= (3, 13):
        return Peer(certificate, connection.get_verified_chain()[-1])
    # The chain that OpenSSL verified is public from 3.13 on; before, it stands one object deeper.
    deeper: Any = vars(connection)["_sslobj"]
    return Peer(certificate, deeper.get_verified_chain()[-1].public_bytes(_DER))
