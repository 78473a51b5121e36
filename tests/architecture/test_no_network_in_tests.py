"""A test that isn't marked can't open a socket; a marked one reaches this machine only."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest
from pytest_socket import SocketBlockedError, SocketConnectBlockedError


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_sockets_are_refused_by_default(family: socket.AddressFamily) -> None:
    with pytest.raises(SocketBlockedError), pytest.warns(UserWarning, match="tried to use"):
        socket.socket(family)


@pytest.mark.integration
def test_an_integration_test_reaches_loopback_and_unix_sockets_only(tmp_path: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        socket.create_connection(server.getsockname()).close()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        caller.connect(str(tmp_path / "s"))
    with (
        pytest.raises(SocketConnectBlockedError),
        pytest.warns(UserWarning, match="tried to use"),
        socket.socket(socket.AF_INET) as stranger,
    ):
        stranger.connect(("192.0.2.1", 9))
