"""A gate between two network namespaces lets named peers be spoken to, for so many bytes, and nothing else."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from pytest_socket import socket_allow_hosts

from strongroom.core.errors import StrongroomError
from strongroom.enclave.gate import wiring
from strongroom.enclave.gate.adapters import links, tools
from strongroom.enclave.gate.errors import GateFrozenError, GateSpentError, GateTakenError, GateTamperedError
from strongroom.enclave.gate.record import GateRecord
from strongroom.enclave.gate.rules import open_rules, read_shut
from strongroom.enclave.gate.settings import GateSettings
from strongroom.enclave.gate.wiring import Gate
from support.gates import PEER, PORT, inside, need_namespaces, settings, two_namespaces

pytestmark = pytest.mark.integration
SO_RCVBUFFORCE = 33
"""Room for all that is sent at once (asm-generic/socket.h)."""
HEADERS = 28
"""Bytes of an IPv4 and a UDP header."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[GateSettings, Path]]:
    made = settings("t")
    with two_namespaces(made):
        yield made, tmp_path / "state"


@pytest.fixture(autouse=True)
def _own_namespaces() -> None:
    need_namespaces()
    # These addresses are on links of the test's own namespaces alone.
    socket_allow_hosts(["127.0.0.1", PEER, "169.254.77.2"], allow_unix_socket=True)


def _listener(made: GateSettings, stack: ExitStack) -> socket.socket:
    def listen() -> socket.socket:
        found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        found.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        found.bind((PEER, PORT))
        found.settimeout(0.3)
        return found

    return stack.enter_context(inside(made.world, listen))


def _received(listener: socket.socket) -> list[int]:
    found = []
    with suppress(TimeoutError):
        while True:
            found.append(len(listener.recv(65536)))
    return found


def _send(made: GateSettings, count: int, size: int, port: int = PORT) -> None:
    def work() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(count):
                with suppress(OSError):
                    sender.sendto(b"x" * size, (PEER, port))

    inside(made.enclave, work)


def test_the_quota_stops_within_its_last_packet_and_never_after(place: tuple[GateSettings, Path]) -> None:
    made, state = place
    gate = Gate(made, state)
    used = gate.open().out
    with ExitStack() as stack:
        listener = _listener(made, stack)
        _send(made, 250, 1000)
        arrived = _received(listener)
    passed = (made.block_bytes - used) // (1000 + HEADERS)
    assert arrived == [1000] * passed
    assert gate.read().out == made.block_bytes


def test_a_watch_lets_further_blocks_through_and_ends_at_the_gates_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "WATCH_SECONDS", 0.05)
    made = settings("life", bytes_out=400_000, connections=64)
    with two_namespaces(made), ExitStack() as stack:
        gate = Gate(made, tmp_path)
        gate.open()
        listener = _listener(made, stack)
        total = 0
        for _ in range(8):
            _send(made, 80, 1000)
            total += sum(size + HEADERS for size in _received(listener))
            gate.watch(lambda _now: None, seconds=0.1)
        assert made.bytes_out - 5 * (1000 + HEADERS) < total <= made.bytes_out
        gate.close()
        with pytest.raises(GateSpentError):
            gate.open()


def test_nothing_but_the_peers_gets_through(place: tuple[GateSettings, Path]) -> None:
    made, state = place
    gate = Gate(made, state)
    gate.open()

    def heard() -> socket.socket:
        found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        found.bind(("gate", 0))
        found.settimeout(0.3)
        return found

    def attempts() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for target in ((PEER, 53), (PEER, PORT + 1), ("169.254.78.1", PORT), (made.gate_inside, 9)):
                with suppress(OSError):
                    sender.sendto(b"dns", target)
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as ping:
            ping.sendto(b"\x08\x00\xf7\xff\x00\x00\x00\x00", (PEER, 0))
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, 254) as other:
            other.sendto(b"own protocol", (PEER, 0))
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            datagram = struct.pack("!HHHH", 5000, PORT, 8, 0)
            for source, fragment in (("169.254.77.9", 0), (made.enclave_address, 0x2000)):
                header = struct.pack(
                    "!BBHHHBBH4s4s",
                    0x45,
                    0,
                    28,
                    7,
                    fragment,
                    64,
                    17,
                    0,
                    socket.inet_aton(source),
                    socket.inet_aton(PEER),
                )
                raw.sendto(header + datagram, (PEER, 0))
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six, suppress(OSError):
            six.sendto(b"six", ("ff02::1", PORT, 0, 2))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as frame:
            frame.bind(("gate", 0))
            for kind in (0x0806, 0x86DD, 0x88B5):
                frame.send(b"\xff" * 6 + b"\x02\0\0\0\0\1" + struct.pack("!H", kind) + b"z" * 60)

    sniffer = inside(made.world, heard)
    with sniffer:
        before = gate.read()
        inside(made.enclave, attempts)
        arrived = []
        with suppress(TimeoutError):
            while True:
                arrived.append(sniffer.recv(65536))
    # What the world's own kernel sends on this link isn't the enclave's: only what came from the gate counts.
    link = json.loads(tools.ip("-n", made.world, "-j", "link", "show", "dev", "gate"))[0]["address"]
    assert [one for one in arrived if one[6:12] != bytes.fromhex(link.replace(":", ""))] == []
    after = gate.read()
    assert (after.out, after.passed) == (before.out, before.passed)
    assert after.refused > before.refused


def test_the_enclaves_own_root_changes_nothing_at_the_gate(place: tuple[GateSettings, Path]) -> None:
    made, state = place
    gate = Gate(made, state)
    gate.open()
    before = gate.read()
    subprocess.run(["ip", "netns", "exec", made.enclave, "nft", "flush", "ruleset"], check=True)
    assert gate.read() == before


def test_a_killed_watch_leaves_the_quota_in_force(place: tuple[GateSettings, Path]) -> None:
    made, state = place
    gate = Gate(made, state)
    gate.open()
    file = state / "settings.json"
    file.write_text(json.dumps(made.to_json()))
    command = [
        sys.executable,
        "-m",
        "strongroom.cli.main",
        "enclave",
        "gate",
        "watch",
        str(file),
        "--state",
        str(state),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        watching.stdout.readline()
        with pytest.raises(GateTakenError):
            gate.watch(lambda _now: None, seconds=0)
        watching.kill()
    with ExitStack() as stack:
        listener = _listener(made, stack)
        _send(made, 250, 1000)
        assert sum(size + HEADERS for size in _received(listener)) <= made.block_bytes
    assert gate.read().out == made.block_bytes


def test_a_restart_refunds_nothing(place: tuple[GateSettings, Path]) -> None:
    made, state = place
    gate = Gate(made, state)
    for _round in range(made.bytes_out // made.block_bytes):
        gate.open()
        # The machine goes down: the kernel forgets what it counted.
        subprocess.run(["ip", "netns", "del", made.namespace], check=True)
    with pytest.raises(GateSpentError):
        gate.open()


@pytest.mark.parametrize(
    "change",
    [
        "add rule inet strongroom through accept",
        "insert rule inet strongroom outwards accept",
        "flush chain inet strongroom through",
        "delete table inet strongroom",
        "add element inet strongroom peers { 10.0.0.1 . tcp . 443 }",
        "add chain inet strongroom through { policy accept ; }",
        "add table ip other",
        "reset quota inet strongroom out",
        "reset counters",
        "add quota inet strongroom out { over 900000000 bytes }",
    ],
)
def test_changed_rules_shut_the_gate(place: tuple[GateSettings, Path], change: str) -> None:
    made, state = place
    gate = Gate(made, state)
    gate.open()

    def alter(_now: object) -> None:
        if not altered:
            altered.append(change)
            tools.run("ip", "netns", "exec", made.namespace, "nft", change)

    altered: list[str] = []
    with pytest.raises(GateTamperedError):
        gate.watch(alter, seconds=5)
    _send(made, 1, 10)
    with pytest.raises(GateTamperedError):
        gate.read()
    gate.close()
    with pytest.raises(GateFrozenError):
        gate.open()


def test_a_freeze_ends_what_flows(place: tuple[GateSettings, Path]) -> None:
    made, state = place
    gate = Gate(made, state)
    gate.open()
    with ExitStack() as stack:
        listener = _listener(made, stack)
        _send(made, 3, 10)
        assert _received(listener) == [10, 10, 10]
        gate.freeze("drill")
        _send(made, 3, 10)
        assert _received(listener) == []
    read_shut(tools.listing(made.namespace))


def test_a_gate_that_is_frozen_while_it_opens_isnt_left_open(
    place: tuple[GateSettings, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, folder = place
    connect = links.connect_world

    def frozen_meanwhile(settings: GateSettings) -> None:
        # In the moment before the links: what was shut is replaced, as if the two transactions had crossed.
        with suppress(StrongroomError):
            Gate(made, folder).freeze("drill")
        tools.load(made.namespace, open_rules(made, GateRecord(settings=made.digest).opened(made)[1]))
        connect(settings)

    monkeypatch.setattr(links, "connect_world", frozen_meanwhile)
    with pytest.raises(GateFrozenError):
        Gate(made, folder).open()
    assert not links.exists(made.namespace)


def test_a_gate_whose_rules_fail_to_load_is_never_linked(
    place: tuple[GateSettings, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, state = place
    monkeypatch.setattr("strongroom.enclave.gate.wiring.open_rules", lambda *_given: {"nftables": []})
    with pytest.raises(GateTamperedError):
        Gate(made, state).open()
    links = subprocess.run(["ip", "-n", made.enclave, "link"], check=True, capture_output=True).stdout
    assert b"gate" not in links
    assert made.namespace not in subprocess.run(["ip", "netns"], check=True, capture_output=True).stdout.decode()


def test_connections_are_answered_and_none_is_begun_from_outside(place: tuple[GateSettings, Path]) -> None:
    made, state = place
    gate = Gate(made, state)
    gate.open()

    def serve() -> socket.socket:
        found = socket.create_server((PEER, PORT))
        found.settimeout(5)
        return found

    def knock() -> bool:
        with socket.socket() as caller:
            caller.settimeout(0.3)
            try:
                caller.connect((made.enclave_address, 22))
            except OSError:
                return False
            return True

    server = inside(made.world, serve)
    with server:
        client = inside(made.enclave, lambda: socket.create_connection((PEER, PORT), timeout=5))
        with client, server.accept()[0] as accepted:
            client.sendall(b"question")
            assert accepted.recv(100) == b"question"
            accepted.sendall(b"answer")
            assert client.recv(100) == b"answer"
            assert accepted.getpeername()[0] == made.gate_outside
    route = ["ip", "-n", made.world, "route", "add", made.inner, "via", made.gate_outside]
    subprocess.run(route, check=True)
    assert not inside(made.world, knock)
    assert gate.read().back > 0


def test_more_connections_than_allowed_are_dropped(place: tuple[GateSettings, Path]) -> None:
    made, state = place
    Gate(made, state).open()
    with ExitStack() as stack:
        listener = _listener(made, stack)
        for _ in range(2 * made.connections):
            _send(made, 1, 10)
        # The probe's knock may still be one of them.
        assert len(_received(listener)) in {made.connections - 1, made.connections}
