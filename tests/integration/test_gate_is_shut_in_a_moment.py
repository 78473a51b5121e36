"""A switch held ready shuts a gate without starting a program, and the kernel then drops everything."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_socket import socket_allow_hosts

from strongroom.enclave.gate.adapters import tools
from strongroom.enclave.gate.errors import GateFrozenError, GateTamperedError, GateUnavailableError
from strongroom.enclave.gate.rules import read_shut
from strongroom.enclave.gate.wiring import Gate, Switch
from support.gates import PEER, inside, listen, need_namespaces, say, settings, two_namespaces

pytestmark = pytest.mark.integration


def test_it_shuts_an_open_gate_and_the_mark_holds(tmp_path: Path) -> None:
    need_namespaces()
    socket_allow_hosts(["127.0.0.1", PEER, "169.254.77.2"], allow_unix_socket=True)
    made = settings("sw")
    with two_namespaces(made):
        gate = Gate(made, tmp_path / "state")
        gate.open()
        switch = Switch(gate)

        with inside(made.world, listen) as listener:
            inside(made.enclave, say)
            assert listener.recv(16) == b"x"
            switch.begin().result()
            switch.begin().result()
            inside(made.enclave, say)
            with pytest.raises(TimeoutError):
                listener.recv(16)
        read_shut(tools.listing(made.namespace))
        with pytest.raises(GateTamperedError):
            gate.read()
        gate.mark("decoy-opened")
        switch.close()
        gate.close()
        with pytest.raises(GateFrozenError):
            gate.open()


def test_there_is_no_switch_of_a_gate_that_is_not_open(tmp_path: Path) -> None:
    need_namespaces()
    with pytest.raises(GateUnavailableError):
        Switch(Gate(settings("nosw"), tmp_path))
