"""Connections as the console takes them: no address gets all of the places."""

from __future__ import annotations

import asyncio
from typing import Final

from strongroom.broker.adapters.tls import PeerCertProtocol
from strongroom.core.buckets import share_of

MAX_OF_ADDRESS: Final = 64
"""Connections of one address (of IPv6, one /64) at once, a quarter of all places: browsers keep up to six each."""


class SharedProtocol(PeerCertProtocol):
    """HTTP/1.1 that ends a connection whose address has its share already. Those that it has stay."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count, once the handshake is over: before it, a connection takes no place."""
        super().connection_made(transport)
        address = _address(self)
        if [_address(one) for one in self.connections].count(address) > MAX_OF_ADDRESS:
            transport.abort()


def _address(protocol: object) -> str:
    client = getattr(protocol, "client", None)
    return share_of(str(client[0])) if client else ""
