"""What answers at a broker's address: the TLS that it agrees to, and what it must refuse. It is tried, not asked."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from strongroom.assessor.collecting import Look
from strongroom.assurance.observations import Fact
from strongroom.client.adapters.http import mutual_tls, one_sided_tls

_SECONDS: Final = 3.0
_GET: Final = b"GET /v1/state HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n"
_HEAD: Final = 64


class _UnclearError(Exception):
    """Nobody answered in time, or nobody is there: that is no refusal."""


def broker_look(url: str, *, authority: Path, certificate: Path, key: Path) -> Look:
    """Try the broker at ``url``.

    Nothing is seen unless it answers an honest call before and after: else a broker that is down refuses everything.
    """
    where = urlsplit(url)
    address = (where.hostname or "", where.port or 443)
    honest = mutual_tls(authority=authority, certificate=certificate, key=key)
    older = mutual_tls(authority=authority, certificate=certificate, key=key)
    older.minimum_version = ssl.TLSVersion.TLSv1_2
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        version, cipher, bits = _agreed(address, honest)
        facts: dict[str, Fact] = {
            "version": version,
            "cipher": cipher,
            "cipher_bits": bits,
            "older_refused": not _handshakes(address, older),
            "anonymous_refused": not _answered(address, one_sided_tls(authority=authority)),
            "plaintext_refused": not _answered(address, None),
        }
        _agreed(address, honest)
    except (_UnclearError, OSError):
        return Look(collector="network.broker", missing="nobody answers an honest call there, or not in time")
    return Look(collector="network.broker", facts=facts)


def _agreed(address: tuple[str, int], context: ssl.SSLContext) -> tuple[str, str, int]:
    with _connected(address) as plain, context.wrap_socket(plain, server_hostname=address[0]) as secured:
        version, cipher = secured.version() or "", secured.cipher() or ("", "", 0)
        if not _served(secured):
            raise _UnclearError
    return version, cipher[0], cipher[2]


def _connected(address: tuple[str, int]) -> socket.socket:
    try:
        return socket.create_connection(address, _SECONDS)
    except OSError:
        raise _UnclearError from None


def _handshakes(address: tuple[str, int], context: ssl.SSLContext) -> bool:
    with _connected(address) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=address[0]):
                return True
        except TimeoutError:
            raise _UnclearError from None
        except OSError:
            return False


def _answered(address: tuple[str, int], context: ssl.SSLContext | None) -> bool:
    """Tell whether a call gets anything but a refusal: in HTTP, an answer below 400."""
    with _connected(address) as plain:
        try:
            if context is None:
                return _served(plain)
            with context.wrap_socket(plain, server_hostname=address[0]) as secured:
                return _served(secured)
        except TimeoutError:
            raise _UnclearError from None
        except OSError:
            return False


def _served(connection: socket.socket) -> bool:
    connection.sendall(_GET)
    parts = connection.recv(_HEAD).split(b" ")
    return len(parts) > 1 and parts[0].startswith(b"HTTP/") and parts[1][:1] in {b"1", b"2", b"3"}
