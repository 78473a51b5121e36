"""What a stranger sends beside requests takes neither memory nor a place: of every server there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from starlette.types import Receive, Scope, Send

from strongroom.ipc.adapters import http_server as module
from strongroom.ipc.adapters.http_server import MAX_HEAD, HttpServer, http_config

pytestmark = pytest.mark.integration
HEAD = b"POST / HTTP/1.1\r\nHost: here\r\n"
PIECE = b"a" * 16384


async def _reads_all(_scope: Scope, receive: Receive, send: Send) -> None:
    while (message := await receive()).get("more_body"):
        pass
    await _answers(_scope, receive, send)
    assert message["type"] in {"http.request", "http.disconnect"}


async def _answers(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def served(*, reads: bool) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to a server whose application reads bodies to their ends, or answers at once."""
    app = _reads_all if reads else _answers
    server = HttpServer(http_config(app, host="127.0.0.1", port=0, most=8))
    serving = asyncio.create_task(server.serve())
    await server.up.wait()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        server.end()
        await serving


async def _pour(writer: asyncio.StreamWriter, piece: bytes, times: int) -> None:
    for _ in range(times):
        writer.write(piece)
        await writer.drain()
        # A read of its own each, as a network gives them.
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "begin",
    [b"GET /", b"GET / HTTP/1.1\r\nA: ", b"GET / HTTP/1.1\r\n" + PIECE],
    ids=["an address", "a value", "a name"],
)
def test_a_head_without_an_end_is_refused(begin: bytes) -> None:
    async def scene() -> bytes:
        async with served(reads=True) as (reader, writer):
            told = asyncio.ensure_future(reader.readline())
            writer.write(begin)
            with suppress(ConnectionError):
                await _pour(writer, PIECE, 2 * MAX_HEAD // len(PIECE))
            return await told

    assert asyncio.run(asyncio.wait_for(scene(), 20)).startswith(b"HTTP/1.1 431 ")


def test_what_follows_the_last_chunk_is_bounded_too() -> None:
    async def scene() -> bytes:
        async with served(reads=True) as (reader, writer):
            writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
            with suppress(ConnectionError):
                await _pour(writer, b"a: b\r\n" * 3000, 2 * MAX_HEAD // 18_000)
                writer.write(b"\r\n")
            with suppress(ConnectionError):
                return await reader.read()
            return b""

    assert b"ok" not in asyncio.run(asyncio.wait_for(scene(), 20))


@pytest.mark.parametrize("chunked", [False, True])
def test_long_bodies_are_still_taken(*, chunked: bool) -> None:
    async def scene() -> bytes:
        async with served(reads=True) as (reader, writer):
            times = 4 * MAX_HEAD // len(PIECE)
            for _ in range(2):
                told = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (times * len(PIECE))
                writer.write(HEAD + told + b"\r\n\r\n")
                await _pour(writer, b"%x\r\n%s\r\n" % (len(PIECE), PIECE) if chunked else PIECE, times)
                writer.write(b"0\r\n\r\n" if chunked else b"")
                answer = await reader.readuntil(b"ok")
            return answer

    assert asyncio.run(asyncio.wait_for(scene(), 20)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "told", [b"Content-Length: 100000", b"Connection: upgrade\r\nUpgrade: another"], ids=["a body", "another protocol"]
)
def test_nobody_holds_a_place_by_dripping_behind_an_answer(monkeypatch: pytest.MonkeyPatch, told: bytes) -> None:
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.2)

    async def scene() -> None:
        async with served(reads=False) as (reader, writer):
            writer.write(HEAD + told + b"\r\n\r\n")
            await reader.readuntil(b"ok")
            with suppress(ConnectionError):
                while not reader.at_eof():
                    await _pour(writer, b"a", 1)
                    await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(scene(), 10))
