"""What stands before every route: identity, rate, size, time, and a catch for whatever goes wrong.

Plain ASGI, outermost first: :class:`Catch`, then :class:`Gate`, then the application.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from strongroom.broker.errors import BrokerFaultError, TooLargeError, TooManyCallsError, TooSlowError
from strongroom.broker.identity import Identity, Peer
from strongroom.broker.problems import problem
from strongroom.core.buckets import Buckets, Rate
from strongroom.core.canonical import parse
from strongroom.core.errors import DeniedError, StrongroomError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PEER: Final = "peer"
"""Where in ``scope["state"]`` the server puts the :class:`Peer` that TLS verified, or None."""
IDENTITY: Final = "identity"
_HEALTH: Final = "/v1/health/"
_SIGNED: Final = ("/v1/documents/", "/v1/manifests", "/v1/chips/")
_EVIDENCE: Final = ("/release", "/leases")
"""How the paths end that take a machine's evidence: of its processor and up to two dozen devices."""
_log = structlog.get_logger("strongroom.broker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a caller may use up. Sizes in bytes, times in seconds."""

    body: int = 256 * 1024
    signed_object: int = 768 * 1024
    """Documents, manifests and evidence: what they carry may have 512 KiB, which base64 makes a third longer."""
    seconds: float = 30.0
    rate: Rate = field(default_factory=Rate)


class BarredError(DeniedError):
    """The certificate still holds, and the person whom it names has been suspended, or has left."""

    code = "barred"


def nobody(_identity: Identity) -> bool:
    """Bar nobody."""
    return False


class Catch:
    """Answers 500 for a fault of our own and notes where it arose; never what was being processed."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection event."""
        began, status = time.monotonic(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"cache-control", b"no-store")]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # noqa: BLE001 - the message may hold what was sent: only its kind and place are noted
            _log.error("fault", error=type(error).__name__, places=_places(error))
            if status == 0:
                await problem(BrokerFaultError("the broker failed"))(scope, receive, watched)
        route = scope.get("route")
        _log.info(
            "served",
            method=scope.get("method"),
            route=getattr(route, "path", None),
            status=status,
            caller=str(scope.get("state", {}).get(IDENTITY, "")),
            milliseconds=round((time.monotonic() - began) * 1000, 1),
        )


async def answer_within(seconds: float, serve: App, scope: Scope, receive: Receive, send: Send, *, remedy: str) -> None:
    """Serve one request; what is refused, or takes longer than ``seconds``, is answered as a problem."""
    try:
        async with asyncio.timeout(seconds):
            await serve(scope, receive, send)
    except TimeoutError:
        await problem(TooSlowError("the request took too long", remedy=remedy))(scope, receive, send)
    except StrongroomError as error:
        await problem(error)(scope, receive, send)


class Gate:
    """Refuses callers without an identity, too many calls, bodies too large or of an ambiguous form, slow requests.

    ``who`` says whom a peer's certificate names now, and raises for nobody. ``barred`` is asked at every request: what
    it says closes the door on certificates that still hold.
    """

    def __init__(
        self,
        app: App,
        *,
        who: Callable[[Peer | None], Identity],
        limits: Limits,
        barred: Callable[[Identity], bool] = nobody,
    ) -> None:
        self._app = app
        self._who = who
        self._barred = barred
        self._limits = limits
        self._buckets = Buckets(limits.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            remedy = "look into the log whether it was done; then ask again"
            await answer_within(self._limits.seconds, self._serve, scope, receive, send, remedy=remedy)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})
        state.pop(IDENTITY, None)
        caller = "health"
        if not scope["path"].startswith(_HEALTH):
            identity = self._who(state.get(PEER))
            if self._barred(identity):
                raise BarredError(
                    "the person whom the certificate names is suspended, or has left",
                    remedy="two vetting officers can reinstate who was suspended",
                )
            state[IDENTITY], caller = identity, str(identity)
        wait = self._buckets.wait(caller, time.monotonic())
        if wait:
            error = TooManyCallsError("too many calls", remedy=f"wait {wait:.1f} seconds, then ask again")
            await problem(error, retry_after=wait)(scope, receive, send)
            return
        path = scope["path"]
        large = path.startswith(_SIGNED) or path.endswith(_EVIDENCE)
        most = self._limits.signed_object if large else self._limits.body
        body = await read_body(scope, receive, most)
        if body:
            # Duplicate names, floats and deep nesting end here: later readers of these bytes all see one object.
            parse(body, max_bytes=most)
        await self._app(scope, replayed(body, receive), send)


async def read_body(scope: Scope, receive: Receive, most: int) -> bytes:
    """Read a request's body; nothing, when its sender has gone.

    :raises TooLargeError: it has more than ``most`` bytes, or says so.
    """
    too_large = TooLargeError(f"the body may have at most {most} bytes")
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > most:
            raise too_large
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        body += message.get("body", b"")
        if len(body) > most:
            raise too_large
        if not message.get("more_body", False):
            return bytes(body)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read already to an application, once."""
    given = False

    async def once() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once


def _places(error: BaseException) -> list[str]:
    return [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-6:]]
