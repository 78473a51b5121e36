"""RFC 9457 answers. No answer repeats what was sent: a share or a passphrase in the wrong place must not come back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from strongroom.broker.errors import BrokerFaultError
from strongroom.core.errors import PROBLEM_BASE, MalformedError, StrongroomError

MEDIA_TYPE: Final = "application/problem+json"
MAX_FAULTS: Final = 16
_PLAIN: Final = {
    400: ("usage", "the request can't be read"),
    404: ("not-found", "there is nothing at this address"),
    405: ("method-not-allowed", "this address doesn't know that method"),
    413: ("body-too-large", "the body is larger than this address reads"),
    415: ("media-type-unknown", "bodies are application/json"),
}


def problem(error: StrongroomError, *, retry_after: float | None = None) -> Response:
    """Return the answer for an error."""
    headers = {} if retry_after is None else {"retry-after": str(max(1, math.ceil(retry_after)))}
    return Response(json.dumps(error.problem()), error.http_status, headers, MEDIA_TYPE)


def install(app: FastAPI, members: Iterable[str]) -> None:
    """Answer every error of ``app`` as a problem. ``members`` are the names that a message may repeat: our own."""
    known = frozenset(members)

    async def refused(_request: Request, error: Exception) -> Response:
        return problem(error if isinstance(error, StrongroomError) else BrokerFaultError("the broker failed"))

    async def malformed(_request: Request, error: Exception) -> Response:
        return _malformed(error, known)

    async def plain(_request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        code, detail = _PLAIN.get(status, ("usage", "the request was refused"))
        body = {"type": PROBLEM_BASE + code, "title": code, "status": status, "detail": detail, "code": code}
        return Response(json.dumps(body), status, media_type=MEDIA_TYPE)

    app.add_exception_handler(StrongroomError, refused)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(Exception, refused)


def _malformed(error: Exception, known: frozenset[str]) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    told = MalformedError("the request doesn't have the form that this address asks for")
    body = told.problem() | {
        "faults": [_fault(fault["loc"], str(fault["type"]), known) for fault in faults[:MAX_FAULTS]]
    }
    return Response(json.dumps(body), told.http_status, media_type=MEDIA_TYPE)


def _fault(place: Iterable[object], kind: str, known: frozenset[str]) -> dict[str, str]:
    # An unknown member's name was sent by the caller: it isn't repeated either.
    parts = [str(part) if isinstance(part, int) or part in known else "*" for part in place]
    return {"where": ".".join(parts), "fault": kind}
