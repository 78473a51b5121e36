"""Two network namespaces of the tests' own, and a gate to stand between them."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from strongroom.enclave.gate.settings import GateSettings
from strongroom.enclave.gate.wiring import read_settings

T = TypeVar("T")
PEER = "169.254.78.2"
PORT = 4430


def need_namespaces() -> None:
    """Skip where a network namespace can't be made, and say why."""
    if os.geteuid() != 0 or shutil.which("nft") is None or shutil.which("ip") is None:
        pytest.skip("a gate takes root, iproute2 and nftables")


def settings(name: str, **changed: object) -> GateSettings:
    """Return settings of a gate between the namespaces ``sg-<name>-e`` and ``sg-<name>-w``."""
    return read_settings(
        json.dumps(
            {
                "v": 1,
                "name": name,
                "enclave": f"sg-{name}-e",
                "world": f"sg-{name}-w",
                "inner": "169.254.77.0/30",
                "outer": "169.254.78.0/30",
                "peers": [
                    {"address": PEER, "transport": "tcp", "port": PORT},
                    {"address": PEER, "transport": "udp", "port": PORT},
                ],
                "bytes_out": 1_000_000,
                "bytes_in": 1_000_000,
                "block_bytes": 200_000,
                "connections": 4,
                **changed,
            }
        ).encode()
    )


def listen() -> socket.socket:
    """Listen as the peer, in whichever namespace this runs."""
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.bind((PEER, PORT))
    found.settimeout(0.3)
    return found


def say() -> None:
    """Send the peer a datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (PEER, PORT))


@contextmanager
def two_namespaces(made: GateSettings) -> Iterator[None]:
    """Make both namespaces, and take them and the gate's away afterwards."""
    names = made.enclave, made.world
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield
    finally:
        for name in (made.namespace, *names):
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)


def inside(namespace: str, work: Callable[[], T]) -> T:
    """Do something in a namespace, in a thread of its own."""
    found: list[T] = []
    failed: list[Exception] = []

    def enter() -> None:
        handle = os.open(Path("/run/netns") / namespace, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(handle, 0x40000000):
                raise OSError(ctypes.get_errno(), "setns")
            found.append(work())
        except Exception as error:  # noqa: BLE001 - raised again, in the caller's thread
            failed.append(error)
        finally:
            os.close(handle)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]
