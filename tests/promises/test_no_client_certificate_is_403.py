"""Nobody without a certificate gets past the door: TLS refuses the stranger, and the door says 403 if TLS ever didn't.

Asked of the application itself, without TLS around it, route by route: a proxy that was put in front, or a listener
that forgot to ask for certificates, must open nothing. Only health is told without one.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import ssl
from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest

from strongroom.broker.app import make_api, openapi
from strongroom.broker.gate import PEER, Catch, Gate, Limits
from strongroom.broker.identity import Identity, Peer, identify, own_domain
from support.brokers import RunningBroker, broker

# An event loop holds a socket pair of its own; the last test speaks to a real broker.
pytestmark = pytest.mark.integration
AT = 1_795_471_717
HEALTH = "/v1/health/"
ROUTES = sorted((method.upper(), path) for path, item in openapi()["paths"].items() for method in item)


def who(peer: Peer | None) -> Identity:
    return identify(peer, {"test": own_domain("test", b"")}, AT)


def asked(method: str, path: str, headers: list[tuple[bytes, bytes]]) -> tuple[int, Any]:
    """Ask the real application for a route, over a connection that carries no certificate."""
    app, sent = Catch(Gate(make_api(), who=who, limits=Limits())), list[MutableMapping[str, Any]]()

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"{}" if method == "POST" else b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    scope: MutableMapping[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": headers,
        # What somebody could have put there before the gate.
        "state": {PEER: None, "identity": "person/dana"},
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent))


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if not route[1].startswith(HEALTH)])
def test_every_route_but_health_is_403_without_a_certificate(method: str, path: str) -> None:
    concrete = re.sub(r"\{[^}]*\}", "1", path)
    claims = [(b"x-forwarded-client-cert", b"URI=spiffe://test/person/dana"), (b"authorization", b"Bearer dana")]
    for headers in ([], claims):
        status, told = asked(method, concrete, headers)
        assert (status, told["code"]) == (403, "no-identity")


def test_the_routes_that_release_renew_and_enrol_are_among_them() -> None:
    paths = {path for _method, path in ROUTES}
    assert {
        "/v1/requests/{digest}/release",
        "/v1/requests/{digest}/leases",
        "/v1/enrolments",
        "/v1/chips",
        "/v1/chips/{session}",
        "/v1/attested/{digest}",
    } <= paths


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with broker(tmp_path_factory.mktemp("home")) as started:
        yield started


def test_tls_itself_refuses_who_shows_no_certificate(running: RunningBroker) -> None:
    caller = running.connect(running.context(None))
    with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
        caller.get("/v1/genesis")
