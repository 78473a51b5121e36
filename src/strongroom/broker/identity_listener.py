"""The second listener: for callers who can't have a certificate yet. Logins, and what identity providers send.

| | Path | |
|---|---|---|
| GET | ``/login/v1/terms`` | the provider, and how long a session lasts |
| POST | ``/login/v1/challenges`` | a challenge |
| POST | ``/login/v1/certificates`` | a session, for a signed login |

Beside them stand the mounts that wiring gives: SCIM and security events. They check their own callers. Nothing of the
main API is here: whatever isn't listed is not found. Everything a caller may use up is bounded, by address.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from fastapi.responses import Response

from strongroom.broker.errors import TooManyCallsError
from strongroom.broker.gate import PEER, App, Catch, Receive, Scope, Send, answer_within, read_body, replayed
from strongroom.broker.login import Attempt, LoginDesk, Members, NotConfiguredError
from strongroom.broker.problems import problem
from strongroom.core.buckets import Buckets, Rate, share_of
from strongroom.core.canonical import parse
from strongroom.core.errors import NotFoundError, UsageError
from strongroom.core.fields import reading

TERMS: Final = "/login/v1/terms"
CHALLENGES: Final = "/login/v1/challenges"
CERTIFICATES: Final = "/login/v1/certificates"
LOGIN: Final = "/login/v1"
LOGIN_ROUTES: Final = (("GET", TERMS), ("POST", CHALLENGES), ("POST", CERTIFICATES))
MAX_LOGIN_BODY: Final = 64 * 1024


class MethodError(UsageError):
    """The address doesn't know the method."""

    code = "method-not-allowed"
    http_status = 405


class MediaTypeError(UsageError):
    """A body that isn't declared as JSON. A web page can make a browser send anything else without asking first."""

    code = "media-type-unknown"
    http_status = 415


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityLimits:
    """What an address may use up. ``body`` in bytes, ``seconds`` a request."""

    body: int = 256 * 1024
    seconds: float = 30.0
    rate: Rate = field(default_factory=lambda: Rate(per_second=20.0, burst=100))


class LoginApp:
    """The login's three routes. Without a desk, each says that logins aren't set up."""

    def __init__(self, desk: LoginDesk | None) -> None:
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        :raises StrongroomError: refused; the listener answers it as a problem.
        """
        method, path = scope["method"], scope["path"]
        if (method, path) not in LOGIN_ROUTES:
            if path in {known for _method, known in LOGIN_ROUTES}:
                raise MethodError("this address doesn't know that method")
            raise NotFoundError("there is nothing at this address")
        if self._desk is None:
            raise NotConfiguredError(
                "this deployment opens no sessions over the network",
                remedy="write HOME/broker/oidc.toml; until then: strongroom people certify, on the server",
            )
        body = await read_body(scope, receive, MAX_LOGIN_BODY)
        told = await self._answer(self._desk, path, scope, body)
        await Response(json.dumps(told), media_type="application/json")(scope, receive, send)

    async def _answer(self, desk: LoginDesk, path: str, scope: Scope, body: bytes) -> Members:
        if path == TERMS:
            return desk.terms()
        types = [value for name, value in scope["headers"] if name == b"content-type"]
        if [kind.partition(b";")[0].strip().lower() for kind in types] != [b"application/json"]:
            raise MediaTypeError("bodies are application/json")
        # Duplicate names, floats, deep nesting and unknown members end here.
        with reading(parse(body, max_bytes=MAX_LOGIN_BODY), "body") as fields:
            if path == CHALLENGES:
                fields.end()
                return desk.challenge()
            attempt = Attempt.read(fields)
        return await desk.admit(attempt)


class IdentityListener:
    """Bounds every caller by address, and hands each request to the one application whose prefix it has."""

    def __init__(self, applications: Mapping[str, App], limits: IdentityLimits) -> None:
        self._applications = dict(applications)
        self._limits = limits
        self._buckets = Buckets(limits.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            await answer_within(self._limits.seconds, self._serve, scope, receive, send, remedy="ask again")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Nobody is known here by a certificate, whatever stands in the connection's state.
        scope.setdefault("state", {}).pop(PEER, None)
        wait = self._buckets.wait(address_of(scope), time.monotonic())
        if wait:
            error = TooManyCallsError("too many calls", remedy=f"wait {wait:.1f} seconds, then ask again")
            await problem(error, retry_after=wait)(scope, receive, send)
            return
        mount = self._mount(scope["path"])
        body = await read_body(scope, receive, self._limits.body)
        # An application sees where it stands, as ASGI says it: the whole path, and the part that isn't its own.
        root = scope.get("root_path", "") + ("" if mount == LOGIN else mount)
        await self._applications[mount]({**scope, "root_path": root}, replayed(body, receive), send)

    def _mount(self, path: str) -> str:
        for prefix in self._applications:
            if path == prefix or path.startswith(prefix + "/"):
                return prefix
        raise NotFoundError("there is nothing at this address")


def make_identity_app(login: App, mounts: Mapping[str, App], *, limits: IdentityLimits | None = None) -> App:
    """Return the application that the identity listener serves: the login, and ``mounts`` by their path prefixes.

    :raises UsageError: a mount's prefix isn't a path of its own, or begins where the main API does.
    """
    for prefix in mounts:
        if not prefix.startswith("/") or prefix.endswith("/") or prefix.split("/")[1] in {"v1", "login"}:
            raise UsageError(f"`{prefix}` can't be a mount of the identity listener")
    return Catch(IdentityListener({LOGIN: login, **mounts}, limits or IdentityLimits()))


def address_of(scope: Scope) -> str:
    """Return what calls are counted by."""
    client = scope.get("client") or ("",)
    return share_of(str(client[0]))
