"""The metered channel through a machine's one port: both ends as they are, an engine in a thread, and no machine."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.enclave.adapters.channel import Channel
from strongroom.enclave.engine.adapters.channel import serve as serve_engine
from strongroom.enclave.metered import FRAME, OPENING, Code, Frame, Frames, Kind, Order, Orders
from strongroom.enclave.taximeter import Taximeter
from strongroom.enclave.vm.adapters import metering as at_work
from strongroom.enclave.vm.adapters import qemu as launcher
from strongroom.enclave.vm.adapters.metering import Metering
from strongroom.enclave.vm.adapters.port import Port
from strongroom.enclave.vm.adapters.qemu import Outputs, VmRunning
from strongroom.enclave.vm.messages import MAX_METERED, FramesOut, FromAgent, MeterOpened, Output, Stream, listen, tell
from support.gateways import VOCABULARY, Counting
from support.logs import GENESIS
from support.odometer_entries import MODEL, REQUEST, USE, odometer_entry

pytestmark = pytest.mark.integration
Engine = Callable[[socket.socket], None]
READY = Frame(OPENING, Code.READY).to_bytes()


@dataclass
class Machine:
    """A port, what is behind it, and the launcher's side."""

    running: VmRunning
    port: Port
    metering: Metering
    gateway: socket.socket
    ended: threading.Event = field(default_factory=threading.Event)

    def frames(self, count: int) -> list[Frame]:
        """Return the next frames that reach the gateway."""
        self.gateway.settimeout(60)
        cut = Frames()
        found: list[Frame] = []
        while len(found) < count:
            data = self.gateway.recv(FRAME * (count - len(found)))
            assert data, "the channel was closed"
            found += cut.feed(data)
        return found

    def begin(self, through: int) -> None:
        """Begin as the gateway does once the model is released."""
        self.metering.released(USE)
        self.running.begin_meter(VOCABULARY)
        self.running.vouch(odometer_entry(through))

    def order(self, most: int, answer: int = 0) -> None:
        """Send an order."""
        self.gateway.sendall(Order(kind=Kind.GENERATE, answer=answer, most=most, prompt=(5,)).to_bytes())

    def broke(self) -> str:
        """Wait until the meter ended everything; returns why."""
        assert self.ended.wait(60)
        assert isinstance(self.metering.error, StrongroomError)
        return self.metering.error.reason


def counting(channel: socket.socket) -> None:
    serve_engine(channel, Counting())


def silent(channel: socket.socket) -> None:
    channel.sendall(READY)
    threading.Event().wait(60)


@contextmanager
def machine(folder: Path, engine: Engine) -> Iterator[Machine]:
    inside, outside = socket.socketpair()
    inside.setblocking(False)  # noqa: FBT003 - the function takes it by position
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(["sleep", "600"], stderr=subprocess.PIPE)
    port = Port(inside.fileno())
    with (
        inside,
        ours,
        theirs,
        VmRunning(process, Channel(outside), folder / "work", Outputs(meter=theirs)) as running,
        Metering(Taximeter(genesis=GENESIS, request=REQUEST, model=MODEL), port) as metering,
    ):
        made = Machine(running, port, metering, ours)
        # The agent passes it on to the command.
        end = socket.socket(fileno=os.dup(metering.theirs.fileno()))
        metering.start(end=made.ended.set)

        def run_engine() -> None:
            with end, suppress(OSError):
                engine(end)

        def hear() -> None:
            with suppress(StrongroomError, OSError):
                while True:
                    metering.hear(listen(port.receive(timeout=60)))  # type: ignore[arg-type]  # nothing for an agent

        def relay() -> None:
            with suppress(StrongroomError, OSError):
                while True:
                    running.receive(timeout=60)

        working = [threading.Thread(target=work, daemon=True) for work in (run_engine, hear, relay)]
        for one in working:
            one.start()
        yield made
        _, hearing, _ = working
        _nothing_more_comes(inside.fileno())
        hearing.join()


def _nothing_more_comes(descriptor: int) -> None:
    """Whoever reads it meets an error now, and doesn't go on to read whatever file has its number next."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, descriptor, inheritable=False)
    os.close(nowhere)


def test_orders_go_in_and_tokens_come_out(tmp_path: Path) -> None:
    with machine(tmp_path, counting) as one:
        assert one.frames(1) == [Frame(OPENING, Code.READY)]
        one.begin(1_000_000)
        one.order(3)
        tokens = [Frame(0, Code.TOKEN, token) for token in (6, 7, 8)]
        assert one.frames(4) == [*tokens, Frame(0, Code.LENGTH)]
        # Many at once, and in more bytes than one message has.
        for answer in range(60):
            one.order(300, answer)
        told = one.frames(60 * 301)
        assert {frame.answer for frame in told} == set(range(60))
        assert sum(frame.code is Code.LENGTH for frame in told) == 60
        assert one.metering.error is None


def test_what_waited_for_its_turn_leaves_however_much_it_is(tmp_path: Path) -> None:
    most = MAX_METERED // FRAME + 1

    def one_after_the_other(channel: socket.socket) -> None:
        channel.sendall(READY)
        cut = Orders()
        orders: list[Order] = []
        while len(orders) < 2:
            orders += cut.feed(channel.recv(4096))
        # The first waits until the last is heard of, and then all of both may leave at once.
        for order in orders:
            said = Frame(order.answer, Code.TOKEN, 6).to_bytes() * most
            channel.sendall(said + Frame(order.answer, Code.LENGTH).to_bytes())
        threading.Event().wait(60)

    with machine(tmp_path, one_after_the_other) as one:
        one.frames(1)
        one.begin(10_000_000)
        one.order(most, 0)
        one.order(most, 1)
        assert Counter(frame.answer for frame in one.frames(2 * most + 2)) == {0: most + 1, 1: most + 1}


def test_an_order_that_the_log_does_not_vouch_for_ends_the_machine(tmp_path: Path) -> None:
    heard: list[bytes] = []

    def listening(channel: socket.socket) -> None:
        channel.sendall(READY)
        heard.append(channel.recv(4096))

    with machine(tmp_path, listening) as one:
        one.begin(20)
        one.order(3)
        assert one.broke() == "taximeter.not-vouched"
        # What a host says after that changes nothing.
        one.running.vouch(odometer_entry(100_000))
        one.order(3)
        assert heard == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"weights", "taximeter.malformed"),
        (Frame(0, Code.TOKEN, 1).to_bytes(), "taximeter.no-demand"),
        (READY + READY, "taximeter.opened-twice"),
    ],
)
def test_what_an_engine_may_not_say_does_not_leave(tmp_path: Path, said: bytes, reason: str) -> None:
    with machine(tmp_path, lambda channel: channel.sendall(said)) as one:
        assert one.broke() == reason
        one.running.kill()
        one.gateway.settimeout(20)
        assert one.gateway.recv(100) == b""


def test_an_engine_that_does_not_read_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_work, "MAX_BACKLOG", 1 << 18)
    with machine(tmp_path, silent) as one:
        one.begin(1 << 40)
        one.frames(1)
        prompt = (1,) * 30_000
        for answer in range(12):
            one.gateway.sendall(Order(kind=Kind.GENERATE, answer=answer, most=1, prompt=prompt).to_bytes())
        assert one.broke() == "vm.backlog"


def test_the_gateway_finds_the_channel_closed_when_the_machine_ends(tmp_path: Path) -> None:
    with machine(tmp_path, silent) as one:
        one.frames(1)
        one.running.kill()
        assert one.gateway.recv(100) == b""


def test_the_gateway_finds_the_channel_closed_when_no_order_reaches_the_machine_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "SEND_SECONDS", 0.2)
    inside, outside = socket.socketpair()
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(["sleep", "600"], stderr=subprocess.PIPE)
    running = VmRunning(process, Channel(outside), tmp_path / "work", Outputs(meter=theirs))
    # Nobody reads at the machine's end.
    with inside, ours, theirs, running:
        running.begin_meter(VOCABULARY)
        ours.settimeout(60)
        with suppress(BrokenPipeError, ConnectionResetError):
            while True:
                ours.sendall(bytes(1 << 16))
        assert process.poll() is None


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[tuple[VmRunning, Port]]:
    """A machine whose output isn't metered, and has no sink either."""
    inside, outside = socket.socketpair()
    inside.setblocking(False)  # noqa: FBT003 - as above
    process = subprocess.Popen(["sleep", "600"], stderr=subprocess.PIPE)
    with inside, VmRunning(process, Channel(outside), tmp_path / "work", Outputs()) as running:
        yield running, Port(inside.fileno())


def test_a_metered_machine_has_no_other_output(bare: tuple[VmRunning, Port]) -> None:
    running, port = bare
    port.send(tell(Output(Stream.OUT, b"weights")))
    with pytest.raises(MalformedError, match="its output is metered"):
        running.receive(timeout=5)


def test_a_machine_that_is_not_metered_sends_no_frames(bare: tuple[VmRunning, Port]) -> None:
    running, port = bare
    port.send(tell(FramesOut(READY)))
    with pytest.raises(MalformedError, match="isn't metered"):
        running.receive(timeout=5)


def test_messages_for_the_agent_and_for_the_meter_are_told_apart(bare: tuple[VmRunning, Port]) -> None:
    running, port = bare
    running.begin_meter(7)
    assert listen(port.receive(timeout=5)) == MeterOpened(7)
    port.send(tell(FromAgent({"ask": 1})))
    assert running.receive(timeout=5) == {"ask": 1}
    with pytest.raises(UnavailableError):
        running.receive(timeout=0.1)
