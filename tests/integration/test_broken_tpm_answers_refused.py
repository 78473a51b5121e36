"""A TPM that lies about sizes, stalls, closes or answers nonsense gives an error, not a hang or a wrong value."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.core.errors import StrongroomError
from strongroom.tpm.adapters.transport import DescriptorTransport
from strongroom.tpm.errors import TpmError
from strongroom.tpm.wire import u16, u32

pytestmark = pytest.mark.integration


def answer(body: bytes = b"", *, tag: int = 0x8001, code: int = 0, size: int | None = None) -> bytes:
    return u16(tag) + u32(10 + len(body) if size is None else size) + u32(code) + body


@contextmanager
def answering(*answers: bytes, seconds: float = 0.3) -> Iterator[TpmDevice]:
    # Packets keep answers apart, so all of them can wait in the socket before the first command is sent.
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there, TpmDevice(DescriptorTransport(here.detach(), seconds=seconds)) as device:
        for data in answers:
            there.send(data)
        there.shutdown(socket.SHUT_WR)
        yield device


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\x80",
        answer(size=9),
        answer(size=0),
        answer(size=4097),
        answer(size=0xFFFFFFFF),
        answer(b"more", size=10),
        answer(size=20),
        answer(tag=0x8002),
        answer(tag=0),
        answer(code=0x101),
    ],
)
def test_a_broken_frame_is_an_error(broken: bytes) -> None:
    with answering(broken) as device, pytest.raises(StrongroomError):
        device.pcr_read(14)


def test_asking_again_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.tpm.adapters.commands._PAUSE_SECONDS", 0.0)
    good = answer(b"\0" + u32(6) + u32(1) + u32(0x105) + b"IBM\0")
    with answering(answer(code=0x922), answer(code=0x908), answer(code=0x90A), good) as device:
        assert device.manufacturer() == "IBM"
    monkeypatch.setattr("strongroom.tpm.adapters.commands._ATTEMPTS", 5)
    with answering(*[answer(code=0x922)] * 10) as device, pytest.raises(TpmError, match="again"):
        device.manufacturer()


def test_silence_ends_in_time() -> None:
    here, there = socket.socketpair()
    device = TpmDevice(DescriptorTransport(here.detach(), seconds=0.05))
    with there, device, pytest.raises(TpmError, match="in time"):
        device.manufacturer()


def test_a_tcp_data_channel_is_spoken_to_alike() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        transport = DescriptorTransport.tcp("127.0.0.1", server.getsockname()[1])
        there, _ = server.accept()
        with there, TpmDevice(transport) as device:
            whole = answer(b"\0" + u32(6) + u32(1) + u32(0x105) + b"IBM\0")
            there.sendall(whole[:7])
            timer = threading.Timer(0.02, there.sendall, [whole[7:]])
            timer.start()
            assert device.manufacturer() == "IBM"
            timer.join()
            assert len(there.recv(4096)) == 22
    with pytest.raises(TpmError, match="can't be reached"):
        DescriptorTransport.tcp("127.0.0.1", 1)


def test_only_a_device_or_a_socket_is_a_tpm() -> None:
    with tempfile.TemporaryFile() as file, pytest.raises(TpmError, match="character device or a socket"):
        DescriptorTransport(file.fileno())


CALLS: dict[str, Callable[[TpmDevice], object]] = {
    "manufacturer": lambda device: device.manufacturer(),
    "pcr_read": lambda device: device.pcr_read(14),
    "nv_read": lambda device: device.nv_read(1),
    "ek_certificate": lambda device: device.ek_certificate(),
}


@pytest.mark.parametrize("call", CALLS)
@settings(max_examples=25)
@given(body=st.binary(max_size=80), tag=st.sampled_from([0x8001, 0x8002]))
def test_arbitrary_bodies_give_a_value_or_our_error(call: str, body: bytes, tag: int) -> None:
    with answering(answer(body, tag=tag), answer(body, tag=0x8002)) as device, suppress(StrongroomError):
        CALLS[call](device)
