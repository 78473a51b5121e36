"""A webhook's receiver: checks signatures by an implementation of its own, notes what came, answers as it is told to.

It may answer badly on purpose: late, without end, with a redirect, or by hanging up.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

Answer = Callable[["Received", socket.socket], None]


@dataclass(frozen=True)
class Received:
    """One HTTP request."""

    at: float
    """``time.monotonic()`` when it was read whole."""
    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """RFC 2104, from the hash alone."""
    key = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in key) + inner).digest()


def signature(secret: str, headers: dict[str, str], body: bytes) -> str:
    """Return what ``webhook-signature`` must be, as the standard's text has it."""
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    return "v1," + base64.b64encode(hmac_sha256(key, signed)).decode()


def answering(status: int, *headers: str, body: bytes = b"ok") -> Answer:
    """Answer with a status."""

    def answer(_got: Received, connection: socket.socket) -> None:
        head = "\r\n".join([f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *headers, "", ""])
        connection.sendall(head.encode() + body)

    return answer


def silent(_got: Received, connection: socket.socket) -> None:
    """Answer nothing until the other side hangs up."""
    with suppress(OSError):
        connection.recv(1)


class Receiver:
    """Listens on a free port of 127.0.0.1 while entered."""

    def __init__(self, answer: Answer | None = None, context: ssl.SSLContext | None = None) -> None:
        self.answer = answer or answering(200)
        self.got: list[Received] = []
        self.under_way = 0
        self.most_under_way = 0
        self._arrived = threading.Condition()
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    connection = context.wrap_socket(self.request, server_side=True) if context else self.request
                    outer._serve(connection)
                except (OSError, ValueError):
                    return

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, count: int, seconds: float = 60) -> list[Received]:
        """Return what came, once it is ``count`` requests."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.got) >= count, seconds), f"{len(self.got)} came"
            return list(self.got)

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file:
            line = file.readline().decode().strip()
            headers: dict[str, str] = {}
            while (text := file.readline().decode()).strip() != "":
                name, _, value = text.partition(":")
                headers[name.lower()] = value.strip()
            length = int(headers.get("content-length", "0"))
            received = Received(0, line, headers, file.read(length))
            if text == "" or len(received.body) < length:
                return  # its sender was killed in the middle of it: as any receiver, it doesn't take what isn't whole
            with self._arrived:
                self.got.append(Received(time.monotonic(), line, headers, received.body))
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
                self._arrived.notify_all()
            try:
                self.answer(received, connection)
            finally:
                with self._arrived:
                    self.under_way -= 1
