"""Two packets out of the enclave's namespace, both empty: one that must be dropped, and one that may pass."""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from strongroom.enclave.gate.errors import GateUnavailableError
from strongroom.enclave.gate.settings import GateSettings, Transport

_CLONE_NEWNET: Final = 0x40000000
_NAMESPACES: Final = Path("/run/netns")
_SECONDS: Final = 0.2


def send_refused(settings: GateSettings) -> None:
    """Send an empty datagram to the next hop, on a port that no peer has there."""
    taken = {peer.port for peer in settings.peers if peer.address == settings.world_address}
    port = next(number for number in range(9, 65536) if number not in taken)
    _inside(settings.enclave, lambda: _datagram(settings.world_address, port))


def send_allowed(settings: GateSettings) -> None:
    """Knock at the first peer: an empty datagram, or the first packet of a connection. It needn't answer."""
    peer = min(settings.peers)
    knock = _connection if peer.transport is Transport.TCP else _datagram
    _inside(settings.enclave, lambda: knock(peer.address, peer.port))


def _datagram(address: str, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", (address, port))


def _connection(address: str, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sender, suppress(OSError):
        sender.settimeout(_SECONDS)
        sender.connect((address, port))


def _inside(namespace: str, work: Callable[[], None]) -> None:
    # A network namespace is a thread's: one thread goes there and never comes back.
    failed: list[OSError] = []

    def enter() -> None:
        try:
            handle = os.open(_NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                library = ctypes.CDLL(None, use_errno=True)
                if library.setns(handle, _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(handle)
            work()
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failed:
        raise GateUnavailableError(f"the probe can't be sent: {os.strerror(failed[0].errno or 0)}")
