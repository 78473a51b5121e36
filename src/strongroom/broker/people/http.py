"""What both listeners' applications share: reading a bounded body, and sending a whole answer (ASGI)."""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.broker.errors import TooLargeError
from strongroom.broker.gate import Receive, Scope, Send
from strongroom.core.errors import UnavailableError

Headers = Sequence[tuple[bytes, bytes]]


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return a header's value; None when it isn't there, or there more than once."""
    found = [value for key, value in scope["headers"] if key.lower() == name]
    return found[0] if len(found) == 1 else None


def path_of(scope: Scope, prefix: str) -> str:
    """Return a request's path below ``prefix``, however the application was mounted."""
    path: str = scope["path"]
    for above in (scope.get("root_path", ""), prefix):
        if above and (path == above or path.startswith(above + "/")):
            path = path[len(above) :]
    return path or "/"


async def read_body(receive: Receive, *, most: int) -> bytes:
    """Read a request's body.

    :raises TooLargeError: it has more than ``most`` bytes.
    :raises UnavailableError: the caller has gone.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise UnavailableError("the caller has gone")
        body += message.get("body", b"")
        if len(body) > most:
            raise TooLargeError(f"the body may have at most {most} bytes")
        if not message.get("more_body", False):
            return bytes(body)


async def answer(send: Send, status: int, body: bytes = b"", *, headers: Headers = ()) -> None:
    """Send an answer."""
    told = [(b"content-length", str(len(body)).encode("ascii")), (b"cache-control", b"no-store"), *headers]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})
