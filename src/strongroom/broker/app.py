"""The application: routes under ``/v1``, errors as problems, the gate before all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from strongroom.broker import bodies, problems
from strongroom.broker.gate import App, Catch, Gate, Limits, nobody
from strongroom.broker.identity import Identity, Peer, Trust, identify
from strongroom.broker.routes import (
    collateral,
    documents,
    drops,
    egress,
    health,
    keys,
    leases,
    log,
    manifests,
    notices,
    people,
    platforms,
    releases,
    requests,
    state,
    unlocking,
)
from strongroom.broker.service import Broker

PREFIX: Final = "/v1"
GROUPS: Final = (
    state,
    documents,
    requests,
    notices,
    people,
    releases,
    leases,
    egress,
    manifests,
    platforms,
    collateral,
    drops,
    unlocking,
    keys,
    log,
    health,
)
_PATH_MEMBERS: Final = ("body", "query", "path", "digest", "kind", "model", "session", "use", "version")
_PROBLEM: Final[dict[str, Any]] = {
    "description": "refused: an RFC 9457 problem",
    "content": {
        problems.MEDIA_TYPE: {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "detail", "code"],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "code": {"type": "string", "description": "stable; the finest cause"},
                    "remedy": {"type": "string"},
                    "faults": {"type": "array", "items": {"type": "object"}},
                },
            }
        }
    },
}


def make_api() -> FastAPI:
    """Return the routes without a broker behind them: enough for the OpenAPI document."""
    api = FastAPI(title="Strongroom", version="1", openapi_url=None, docs_url=None, redoc_url=None)
    root = APIRouter(prefix=PREFIX)
    for group in GROUPS:
        root.include_router(group.router)
    api.include_router(root)
    problems.install(api, _members())
    return api


def make_app(
    broker: Broker,
    *,
    trust: Callable[[], Trust],
    barred: Callable[[Identity], bool] = nobody,
    limits: Limits | None = None,
) -> App:
    """Return the application that a server runs. ``trust`` says whom to believe now, ``barred`` who is out."""
    api = make_api()
    api.state.broker = broker

    def who(peer: Peer | None) -> Identity:
        return identify(peer, trust(), broker.clock.now())

    return Catch(Gate(api, who=who, barred=barred, limits=limits or Limits()))


def openapi() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document. Errors are problems: the framework's own form of them is taken out."""
    api = make_api()
    document: dict[str, Any] = get_openapi(
        title="Strongroom", version="1", openapi_version="3.1.0", routes=api.routes, description=bodies.__doc__
    )
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _PROBLEM
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    return document


def _members() -> frozenset[str]:
    """Return the names of our own: those of every body's members, and of what stands in paths."""
    names = set(_PATH_MEMBERS)
    for value in vars(bodies).values():
        if isinstance(value, type) and issubclass(value, BaseModel):
            names |= value.model_fields.keys()
    return frozenset(names)
