"""Whatever listens where a security key should: the client says what is wrong, in time, and signs nothing."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

import pytest
from fido2 import cbor
from fido2.ctap import CtapError
from fido2.hid import CTAPHID

from strongroom.client.adapters import security_key as adapter
from strongroom.client.adapters.security_key import SecurityKeySigner, SocketDevice, plugged_in
from strongroom.client.wallet import SecurityKey, SecurityKeys
from strongroom.core.errors import UnavailableError
from support.security_keys import Parts, pin_of, seeded_p256

pytestmark = pytest.mark.integration

INFO = b"\0" + cbor.encode({1: ["FIDO_2_1"], 3: bytes(16), 4: {"clientPin": True}})
Answer = Callable[[int], bytes]


def message(command: int, data: bytes) -> bytes:
    return struct.pack(">BH", command, len(data)) + data


@contextmanager
def listening(path: Path, answer: Answer) -> Iterator[SecurityKeySigner]:
    """Listen at ``path``, answer each command with what ``answer`` says, and give a signer that looks there."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                channel, _peer = listener.accept()
            except OSError:
                return
            # The client hangs up in the middle of what it won't read.
            with channel, suppress(OSError):
                number = 0
                while (head := channel.recv(3)) and len(head) == 3:
                    channel.recv(struct.unpack(">BH", head)[1])
                    reply = answer(number)
                    number += 1
                    if not reply:
                        break
                    channel.sendall(reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    key = SecurityKey(Parts(seeded_p256()).public_key, b"id")
    try:
        yield SecurityKeySigner(SecurityKeys(keys=(key,), devices=(f"unix:{path}",)), pin_of("2468"))
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\x10",
        message(CTAPHID.CBOR, b""),
        message(CTAPHID.CBOR, b"\x7f"),
        message(CTAPHID.CBOR, b"\0"),
        message(CTAPHID.CBOR, b"\0\xff"),
        message(CTAPHID.CBOR, b"\0" + cbor.encode({1: 7, 4: [1]})),
        message(CTAPHID.CBOR, b"\0" + b"\x81" * 5000),
        message(CTAPHID.MSG, INFO),
        message(CTAPHID.KEEPALIVE, b"\x09") + message(CTAPHID.CBOR, INFO),
        message(CTAPHID.KEEPALIVE, b""),
        message(CTAPHID.ERROR, b"\x06"),
        message(CTAPHID.ERROR, b"\x06\x06"),
        struct.pack(">BH", CTAPHID.CBOR, 0xFFFF) + bytes(100),
    ],
)
def test_an_answer_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: bytes) -> None:
    monkeypatch.setattr(adapter, "TOUCH_SECONDS", 1)
    with listening(tmp_path / "s", lambda _number: reply) as signer, pytest.raises(UnavailableError):
        signer.sign(b"message")


def test_a_device_that_vanishes_in_the_middle_is_said(tmp_path: Path) -> None:
    found = b"\0" + cbor.encode({1: {"id": b"id", "type": "public-key"}, 2: bytes(37), 3: b"sig"})
    replies = [message(CTAPHID.CBOR, INFO), message(CTAPHID.CBOR, found)]
    with (
        listening(tmp_path / "s", lambda number: replies[number] if number < len(replies) else b"") as signer,
        pytest.raises(UnavailableError, match="taken out"),
    ):
        signer.sign(b"message")


def test_a_device_that_only_keeps_itself_alive_holds_nobody_for_ever(tmp_path: Path) -> None:
    over = Event()
    kept = [0]

    def count(_status: object) -> None:
        kept[0] += 1
        if kept[0] == 20:
            over.set()

    with listening(tmp_path / "s", lambda _number: message(CTAPHID.KEEPALIVE, b"\2") * 1000):
        device = SocketDevice(str(tmp_path / "s"))
        with device, pytest.raises(CtapError) as caught:
            device.call(CTAPHID.CBOR, b"\4", over, count)
    assert caught.value.code == CtapError.ERR.KEEPALIVE_CANCEL
    assert kept[0] == 20


def test_nobody_there_is_no_device(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with plugged_in((f"unix:{tmp_path / 'nothing'}", f"unix:{tmp_path / 'file'}")) as devices:
        assert devices == ()


def test_no_security_key_is_on_this_machine_s_usb() -> None:
    # The real listing of USB devices: it must work where there is none, and where there is no such bus.
    with plugged_in(("hid",)) as devices:
        assert isinstance(devices, tuple)
