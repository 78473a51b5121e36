"""The SCIM 2.0 server (RFC 7643, 7644): an ASGI application to be mounted at ``/scim/v2``.

The protocol is a library's; here stand the bearer token, the limits, and answers that repeat nothing that was sent.
Importing this needs the extra ``scim``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog
from scim2_models import Error, SCIMException
from scim2_server.applications.asgi import ASGIApplication
from scim2_server.requests import ScimRequest
from scim2_server.responses import SCIM_MEDIA_TYPE, ScimResponse
from scim2_server.service import ScimService

from strongroom.broker.errors import TooLargeError
from strongroom.broker.gate import App, Receive, Scope, Send
from strongroom.broker.people.directory import Directory
from strongroom.broker.people.errors import TokenRefusedError
from strongroom.broker.people.http import answer, header, path_of, read_body
from strongroom.broker.people.lowering import Lowering
from strongroom.broker.people.scim_models import MAX_BODY, make_provider
from strongroom.broker.people.scim_storage import PeopleHandler, PeopleStorage
from strongroom.broker.people.tokens import ScimTokens
from strongroom.core.clock import Clock
from strongroom.core.errors import MalformedError, StrongroomError, UsageError

PREFIX: Final = "/scim/v2"
MAX_QUERY: Final = 2048
MAX_FIELDS: Final = 16
MAX_SEARCH: Final = 4096
"""Bytes of a search that is posted: a filter is a program that every record is run through."""
_HOST: Final = re.compile(r"[A-Za-z0-9.\[\]:-]{1,255}")
_SAID: Final = {
    400: "the request isn't one that SCIM allows here",
    401: "a valid bearer token is needed",
    404: "there is no such resource",
    405: "this address doesn't know that method",
    409: "another resource has this unique value",
    412: "the resource has another version now",
    413: "the request is larger than this server reads",
    501: "this server doesn't offer that",
    503: "nothing was done; send it again",
}
_log = structlog.get_logger("strongroom.broker.people")


def make_scim_app(
    directory: Directory,
    lowering: Lowering,
    *,
    tokens: Callable[[], ScimTokens],
    clock: Clock,
    new_id: Callable[[], str],
    members_group: str | None = None,
) -> App:
    """Return the application. ``tokens`` is asked at each request, so that a token taken away ends at once.

    ``new_id`` makes 32 random hex digits; ``members_group`` names the group whose members alone stay eligible.
    """
    provider = make_provider()
    service = QuietService(provider)
    storage = PeopleStorage(directory, provider, lowering, clock=clock, new_id=new_id, members_group=members_group)
    return ScimApp(PeopleApplication(storage, service), tokens=tokens, clock=clock)


class QuietService(ScimService):
    """The library's service, whose errors say what is wrong and never with which value."""

    @staticmethod
    def error_of(exception: Exception) -> Error:
        """Return the SCIM error of an exception."""
        error = ScimService.error_of(exception)
        status = error.status or 500
        # The library's own texts quote what was sent: a name, or a whole document.
        return Error(status=status, scim_type=error.scim_type, detail=_SAID.get(status, "the server failed"))


class PeopleApplication(ASGIApplication):
    """The library's application with our storage, and program logs without anybody's data."""

    def __init__(self, storage: PeopleStorage, service: QuietService) -> None:
        super().__init__(storage, service.provider, service)
        self.handler = PeopleHandler(service, storage)

    def handle_exception(self, request: ScimRequest, exception: Exception) -> ScimResponse:
        """Answer an error; note its kind alone."""
        del request
        if isinstance(exception, SCIMException):
            _log.info("scim refused", status=exception.status, kind=exception.scim_type)
        else:
            _log.error("scim fault", error=type(exception).__name__)
        return self.service.error_response(exception)


class ScimApp:
    """The door: token, size, form; then the library."""

    def __init__(self, inner: PeopleApplication, *, tokens: Callable[[], ScimTokens], clock: Clock) -> None:
        self._inner = inner
        self._tokens = tokens
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        try:
            # First of all: nobody without a token has a byte of a body read.
            name = self._tokens().verify(header(scope, b"authorization"), self._clock.now())
            request = await _request(scope, receive)
        except StrongroomError as error:
            await _refuse(send, error)
            return
        request.subject = name
        response = await self._inner.serve(request)
        body = b"" if response.body is None else json.dumps(response.body).encode()
        told = [(key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in response.headers.items()]
        await answer(send, int(response.status), body, headers=[pair for pair in told if pair[0] != b"cache-control"])


async def _request(scope: Scope, receive: Receive) -> ScimRequest:
    path, query = path_of(scope, PREFIX), scope.get("query_string", b"")
    host = (header(scope, b"host") or b"").decode("latin-1")
    if len(query) > MAX_QUERY or not query.isascii() or not path.isascii() or not _HOST.fullmatch(host):
        raise UsageError("the request's address isn't one that is served")
    body = await read_body(receive, most=MAX_SEARCH if path.endswith("/.search") else MAX_BODY)
    try:
        if body:
            # Duplicate names and deep nesting end here: the library and this server see one object.
            _once(json.loads(body, object_pairs_hook=_unique))
        parameters = dict(parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except (ValueError, RecursionError):
        raise MalformedError("the request isn't JSON text, or its query has too many fields") from None
    return ScimRequest(
        method=scope["method"],
        base_url=f"{scope['scheme']}://{host}{PREFIX}",
        path=PeopleApplication.split_path(path),
        query=parameters,
        headers=[(key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"]],
        body=body,
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError
    return result


def _once(value: Any, depth: int = 32) -> None:
    if depth == 0:
        raise ValueError
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _once(item, depth - 1)


async def _refuse(send: Send, error: StrongroomError) -> None:
    status = error.http_status
    told = Error(status=status, detail=_SAID.get(status, error.message)).model_dump()
    headers = [(b"content-type", SCIM_MEDIA_TYPE.encode("ascii"))]
    if isinstance(error, TokenRefusedError):
        headers.append((b"www-authenticate", b'Bearer realm="strongroom"'))
    if isinstance(error, TooLargeError):
        headers.append((b"connection", b"close"))
    await answer(send, status, json.dumps(told).encode(), headers=headers)
