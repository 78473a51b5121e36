"""The receiver of security events by push (RFC 8935): an ASGI application to be mounted at ``/ssf``."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from strongroom.broker.errors import TooLargeError
from strongroom.broker.gate import App, Receive, Scope, Send
from strongroom.broker.people.event_errors import EventMalformedError, EventRefusedError
from strongroom.broker.people.http import answer, header, path_of, read_body
from strongroom.core.errors import StrongroomError

PREFIX: Final = "/ssf"
PATH: Final = "/events"
MEDIA_TYPE: Final = b"application/secevent+jwt"
MAX_TOKEN: Final = 64 * 1024
_JSON: Final = ((b"content-type", b"application/json"), (b"content-language", b"en"))
_log = structlog.get_logger("strongroom.broker.people")


def make_ssf_app(take: Callable[[bytes], Awaitable[None]]) -> App:
    """Return the application; ``take`` carries out one token, as :meth:`.receiver.EventReceiver.take`.

    202: the sender may forget the token. 400: it will never be taken. 503: it is to be sent again.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if path_of(scope, PREFIX) != PATH:
            await answer(send, 404)
            return
        if scope["method"] != "POST":
            await answer(send, 405, headers=[(b"allow", b"POST")])
            return
        try:
            await take(await _token(scope, receive))
        except EventRefusedError as error:
            _log.warning("event refused", code=error.reason)
            await _refuse(send, 400, error.err, error.message)
        except TooLargeError as error:
            await _refuse(send, 413, EventMalformedError.err, error.message)
        except StrongroomError as error:
            # Our own trouble, not the token's: no code of RFC 8935 fits, and the sender keeps it.
            _log.error("event not taken", code=error.reason)
            await answer(send, 503, headers=[(b"retry-after", b"5")])
        else:
            await answer(send, 202)

    return app


async def _token(scope: Scope, receive: Receive) -> bytes:
    told = (header(scope, b"content-type") or b"").partition(b";")[0].strip().lower()
    if told != MEDIA_TYPE:
        raise EventMalformedError("the body's type must be application/secevent+jwt")
    return await read_body(receive, most=MAX_TOKEN)


async def _refuse(send: Send, status: int, err: str, description: str) -> None:
    body = json.dumps({"err": err, "description": description}).encode()
    await answer(send, status, body, headers=_JSON)
