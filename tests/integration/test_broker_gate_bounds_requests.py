"""The gate before every route: rate, time, and faults whose cause stays in the process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.broker.adapters.dev_ca import DevCa
from strongroom.broker.gate import PEER, App, Catch, Gate, Limits, Receive, Scope, Send
from strongroom.broker.identity import Identity, Party, Peer, identify, own_domain
from strongroom.core.buckets import Rate

pytestmark = pytest.mark.integration  # an event loop needs a socket pair
AT = 1_795_471_717
MARK = "s3cret-Marker"
Message = MutableMapping[str, Any]


@pytest.fixture
def peer(tmp_path: Path) -> Peer:
    authority = DevCa.create(tmp_path, "test", at=AT)
    issued = authority.issue_person("dana", at=AT, life=timedelta(hours=1))
    der = x509.load_pem_x509_certificate(issued.certificate).public_bytes(Encoding.DER)
    return Peer(der, authority.der)


def who(peer: Peer | None) -> Identity:
    return identify(peer, {"test": own_domain("test", peer.authority if peer else b"")}, AT)


def gated(app: App, limits: Limits, *, barred: frozenset[str] = frozenset()) -> App:
    return Catch(Gate(app, who=who, barred=lambda identity: identity.name in barred, limits=limits))


async def call(app: App, peer: Peer | None, *, body: list[bytes] | None = None) -> tuple[int, dict[bytes, bytes], Any]:
    """Call an application once; a body that isn't given never comes."""
    pieces, sent = list(body or []), list[Message]()

    async def receive() -> Message:
        if not pieces and body is None:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": pieces.pop(0) if pieces else b"", "more_body": bool(pieces)}

    async def send(message: Message) -> None:
        sent.append(message)

    state = {PEER: peer, "identity": MARK}
    scope = {"type": "http", "method": "POST", "path": "/v1/requests", "headers": [], "state": state}
    await app(scope, receive, send)
    data = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], dict(sent[0]["headers"]), json.loads(data)


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    told = json.dumps({"who": str(scope["state"]["identity"]), "length": len(message["body"])}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": told})


async def stuck(_scope: Scope, _receive: Receive, _send: Send) -> None:
    await asyncio.sleep(60)


async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise ValueError(MARK)


def test_the_identity_is_the_certificates_and_nothing_that_stood_there_before(peer: Peer) -> None:
    status, headers, told = asyncio.run(call(gated(fine, Limits()), peer, body=[b'{"a"', b":1}"]))
    assert (status, told) == (200, {"who": "person/dana", "length": 7})
    assert headers[b"cache-control"] == b"no-store"


def test_without_a_certificate_there_is_no_fallback() -> None:
    status, _headers, told = asyncio.run(call(gated(fine, Limits()), None, body=[b"{}"]))
    assert (status, told["code"]) == (403, "no-identity")


def test_a_person_who_is_out_is_refused_with_a_certificate_that_still_holds(peer: Peer) -> None:
    assert who(peer) == Identity(Party.PERSON, "dana")
    status, _headers, told = asyncio.run(call(gated(fine, Limits(), barred=frozenset({"dana"})), peer, body=[b"{}"]))
    assert (status, told["code"]) == (403, "barred")
    status, _headers, _told = asyncio.run(call(gated(fine, Limits(), barred=frozenset({"sam"})), peer, body=[b"{}"]))
    assert status == 200


def test_a_flood_is_told_to_wait(peer: Peer) -> None:
    app = gated(fine, Limits(rate=Rate(per_second=0.01, burst=2)))
    answers = [asyncio.run(call(app, peer, body=[b"{}"])) for _ in range(3)]
    assert [status for status, _headers, _told in answers] == [200, 200, 429]
    assert answers[2][2]["code"] == "too-many-calls"
    assert 90 <= int(answers[2][1][b"retry-after"]) <= 100


@pytest.mark.parametrize(("app", "body"), [(stuck, [b"{}"]), (fine, None)], ids=["slow-work", "slow-body"])
def test_a_slow_request_ends(peer: Peer, app: App, body: list[bytes] | None) -> None:
    status, _headers, told = asyncio.run(call(gated(app, Limits(seconds=0.05)), peer, body=body))
    assert (status, told["code"]) == (504, "too-slow")


def test_a_body_is_cut_off_as_soon_as_it_is_too_long(peer: Peer) -> None:
    status, _headers, told = asyncio.run(call(gated(fine, Limits(body=10)), peer, body=[b'"12345', b'67890"', b"x"]))
    assert (status, told["code"]) == (413, "body-too-large")


def test_a_fault_tells_its_place_to_the_log_and_nothing_to_anybody(peer: Peer) -> None:
    with structlog.testing.capture_logs() as lines:
        status, _headers, told = asyncio.run(call(gated(broken, Limits()), peer, body=[b"{}"]))
    assert (status, told["code"]) == (500, "broker-fault")
    assert MARK not in json.dumps(told)
    assert MARK not in json.dumps(lines)
    fault = next(line for line in lines if line["event"] == "fault")
    assert fault["error"] == "ValueError"
    assert fault["places"][-1].startswith("broken:")
