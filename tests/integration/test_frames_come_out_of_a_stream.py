"""Frames out of a stream: up to its end, and not for ever where one was begun and never finished."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from strongroom.cli.output import system_error
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError, UnavailableError
from strongroom.ipc.adapters import server
from strongroom.ipc.adapters.client import UnixClient
from strongroom.ipc.adapters.server import UnixServer
from strongroom.ipc.adapters.streams import frames_of
from strongroom.ipc.frames import HEADER, MAX_CALL, MAX_FRAME, Call

pytestmark = pytest.mark.integration  # an event loop has a socket pair of its own

BODIES = [b"one", b"2" * 70_000, b"three"]
STREAM = b"".join(len(body).to_bytes(HEADER, "big") + body for body in BODIES)


async def received(pieces: list[bytes], found: list[bytes], *, seconds: float | None = None, end: bool = True) -> None:
    reader = asyncio.StreamReader()
    for piece in pieces:
        reader.feed_data(piece)
    if end:
        reader.feed_eof()
    found += [body async for body in frames_of(reader, frame_seconds=seconds)]


@pytest.mark.parametrize("left", [b"", b"\x00", b"\x00\x00\x00\x05", b"\x00\x00\x00\x05half"])
def test_the_end_of_a_stream_ends_it_and_half_a_frame_is_dropped(left: bytes) -> None:
    found: list[bytes] = []
    asyncio.run(received([STREAM[:5], STREAM[5:] + left], found))
    assert found == BODIES


@pytest.mark.parametrize("begun", [b"\x00", b"\x00\x00\x00\x05", b"\x00\x00\x00\x05half"])
def test_a_frame_that_is_begun_and_not_finished_in_time_ends_the_stream(begun: bytes) -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(received([STREAM + begun], [], seconds=0.01, end=False))


def test_between_frames_nobody_is_hurried() -> None:
    async def silent() -> None:
        waiting = asyncio.create_task(received([STREAM], [], seconds=0.001, end=False))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(silent())


def test_a_length_that_is_not_allowed_ends_the_stream() -> None:
    with pytest.raises(MalformedError):
        asyncio.run(received([STREAM + (MAX_FRAME + 1).to_bytes(HEADER, "big")], []))


@pytest.mark.parametrize(("others", "most"), [(set(), server.MAX_CONNECTIONS), ({1}, server.MAX_OF_ONE)])
def test_one_user_s_silent_connections_shut_no_other_user_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: set[int], most: int
) -> None:
    async def run() -> None:
        async def serve(_call: Call, uid: int) -> dict[str, Json]:
            return {"uid": uid}

        serving = UnixServer(serve, admits={os.geteuid()} | {user + os.geteuid() for user in others})
        await serving.start(tmp_path / "a.sock")
        silent = [await asyncio.open_unix_connection(tmp_path / "a.sock") for _ in range(most)]
        client = UnixClient(tmp_path / "a.sock")
        with pytest.raises(UnavailableError):
            await client.call("x")
        if others:
            # The next who knocks is somebody else by the kernel's word.
            monkeypatch.setattr(server, "peer_uid", lambda _writer: os.geteuid() + 1)
            assert (await client.call("x")).integer("uid", least=0, most=1 << 31) == os.geteuid() + 1
        for _, writer in silent:
            writer.close()
        await client.close()
        await serving.stop()

    asyncio.run(run())


def test_a_server_holds_no_call_as_long_as_an_answer(tmp_path: Path) -> None:
    # Whoever may knock could else fill the keeper's memory, and have it read such calls while a freeze waits.
    async def run() -> None:
        async def serve(call: Call, _uid: int) -> dict[str, Json]:
            call.fields.end()
            return {"long": "a" * MAX_CALL}

        server = UnixServer(serve, admits={os.geteuid()})
        await server.start(tmp_path / "a.sock")
        client = UnixClient(tmp_path / "a.sock")
        assert len((await client.call("x")).text("long", max_length=MAX_FRAME)) == MAX_CALL
        reader, writer = await asyncio.open_unix_connection(tmp_path / "a.sock")
        writer.write((MAX_CALL + 1).to_bytes(HEADER, "big"))
        assert await reader.read() == b""
        writer.close()
        await client.close()
        await server.stop()

    asyncio.run(run())


def test_where_no_socket_can_be_it_says_so(tmp_path: Path) -> None:
    async def serve(_call: Call, _uid: int) -> dict[str, Json]:
        return {}

    (tmp_path / ("x" * 120)).mkdir()
    for path in (tmp_path / ("x" * 120) / "desk.sock", tmp_path / "gone" / "desk.sock"):
        with pytest.raises(
            UnavailableError, match=r"no socket can be made at `desk.sock`: (AF_UNIX path too long|No such)"
        ):
            asyncio.run(UnixServer(serve, admits={os.geteuid()}).start(path))


def test_an_error_of_the_system_without_a_number_is_no_success() -> None:
    assert "too long" in system_error(OSError("AF_UNIX path too long")).message
