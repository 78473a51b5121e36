"""Who may connect: TLS 1.3 with a certificate of this deployment, valid at this very request."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from strongroom.broker.adapters.dev_ca import DevCa, IssuedCertificate
from support.brokers import RunningBroker, broker

pytestmark = pytest.mark.integration
REFUSED = (ssl.SSLError, OSError, http.client.HTTPException)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with broker(tmp_path_factory.mktemp("home")) as started:
        yield started


def now() -> int:
    return int(time.time())


def refused(running: RunningBroker, context: ssl.SSLContext) -> None:
    # With TLS 1.3 a client learns of the server's refusal when it first reads. Health is what asks least.
    caller = running.connect(context)
    with pytest.raises(REFUSED):
        caller.get("/v1/health/live")


def test_a_person_with_a_certificate_is_served(running: RunningBroker) -> None:
    caller = running.caller()
    assert caller.get("/v1/genesis").json["deployment"] == running.genesis.deployment
    assert caller.connection.sock.version() == "TLSv1.3"
    assert not caller.connection.sock.session_reused


def test_no_certificate_is_refused(running: RunningBroker) -> None:
    refused(running, running.context(None))


def test_an_expired_certificate_is_refused(running: RunningBroker) -> None:
    issued = running.authority().issue_person("dana", at=now() - 86400, life=timedelta(hours=1))
    refused(running, running.context(issued, name="expired"))


def test_a_certificate_from_the_future_is_refused(running: RunningBroker) -> None:
    issued = running.authority().issue_person("dana", at=now() + 86400)
    refused(running, running.context(issued, name="future"))


def test_a_rogue_authority_of_the_same_name_is_refused(running: RunningBroker, tmp_path: Path) -> None:
    rogue = DevCa.create(tmp_path / "rogue", running.genesis.deployment, at=now())
    same = [x509.load_pem_x509_certificate(ca.certificate).subject for ca in (rogue, running.authority())]
    assert same[0] == same[1]
    refused(running, running.context(rogue.issue_person("dana", at=now()), name="rogue"))


def test_a_server_certificate_is_no_client_certificate(running: RunningBroker) -> None:
    refused(running, running.context(running.authority().issue_server(at=now()), name="server"))


def test_tls_1_2_is_refused(running: RunningBroker) -> None:
    context = running.context(running.authority().issue_person("dana", at=now()), name="old-tls")
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    refused(running, context)


def test_a_certificate_of_the_authority_for_another_deployment_is_nobody(running: RunningBroker) -> None:
    ours = running.authority()
    other = DevCa("elsewhere", ours._certificate, ours._key)
    answer = running.connect(running.context(other.issue_person("dana", at=now()), name="other")).get("/v1/state")
    assert (answer.status, answer.json["code"]) == (403, "no-identity")


def test_a_certificate_that_runs_out_is_refused_at_the_next_request_of_an_open_connection(
    running: RunningBroker,
) -> None:
    caller = running.caller("brief", life=timedelta(seconds=2))
    assert caller.get("/v1/genesis").status == 200
    socket = caller.connection.sock
    time.sleep(2.1)
    answer = caller.get("/v1/genesis")
    assert caller.connection.sock is socket
    assert (answer.status, answer.json["code"]) == (403, "certificate-expired")


@pytest.mark.parametrize(
    ("path", "enclave"),
    [("requests/sha256:{0}/challenges", False), ("requests/sha256:{0}/control", True), ("documents/roster", True)],
)
def test_each_party_keeps_to_its_routes(running: RunningBroker, path: str, enclave: bool) -> None:  # noqa: FBT001 - a case
    answer = running.caller("gpu-1", enclave=enclave).post("/v1/" + path.format("0" * 64), {})
    assert (answer.status, answer.json["code"]) == (403, "other-party")


def test_health_asks_for_no_identity(running: RunningBroker) -> None:
    ours = running.authority()
    nobody = running.connect(running.context(DevCa("x", ours._certificate, ours._key).issue_person("p", at=now())))
    assert nobody.get("/v1/health/live").json == {"status": "live"}
    assert nobody.get("/v1/health/ready").json == {"status": "ready"}


def test_a_locked_keeper_makes_the_broker_unready(running: RunningBroker) -> None:
    running.keeper.locked = True
    try:
        answer = running.caller().get("/v1/health/ready")
    finally:
        running.keeper.locked = False
    assert (answer.status, answer.json["code"]) == (503, "locked")


def test_the_server_shows_a_certificate_that_strict_clients_take(running: RunningBroker) -> None:
    context = running.context(running.authority().issue_person("dana", at=now()), name="strict")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    assert running.connect(context).get("/v1/health/live").status == 200


def test_private_files_are_private(running: RunningBroker) -> None:
    for place in ("broker/ca/ca.key", "broker/tls/server.key", "broker/broker.db"):
        assert (running.home / place).stat().st_mode & 0o077 == 0, place


def test_issued_keys_do_not_show() -> None:
    assert "key" not in repr(IssuedCertificate(b"certificate", b"key"))
