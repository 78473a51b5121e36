"""A deployment of real processes and its host, assessed: what is tried at its port, and what is found."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from strongroom.access.policy import POLICY_TYPE
from strongroom.assessor.adapters.broker_tls import broker_look
from strongroom.assurance.findings import State
from strongroom.cli.main import main
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.personnel.roster import ROSTER_TYPE
from support.brokers import RunningBroker, broker_beside
from support.deployment import ROOTS, Deployment

pytestmark = pytest.mark.integration


def nobody() -> SecretBytes:
    """There is nothing to sign."""
    raise AssertionError


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    """Log writer, keeper and broker as they are, with roster and policy in force."""
    with Deployment.found(tmp_path_factory.mktemp("home")) as founded:
        founded.start("log")
        founded.start("keeper")
        broker = broker_beside(founded.home, founded.genesis)
        caller = broker.caller()
        for kind, document in (
            ("roster", sign(ROSTER_TYPE, founded.roster.to_bytes(), *ROOTS[:2])),
            ("policy", sign(POLICY_TYPE, founded.policy.to_bytes(), *ROOTS[1:])),
        ):
            assert caller.post(f"/v1/documents/{kind}", {"envelope": document.to_json()}).status == 200
        for one in founded.roster.people:
            founded.vet(one.id)
        yield broker
        broker.stop()


@pytest.fixture(scope="module")
def wallet(running: RunningBroker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sam's wallet, with a certificate of the deployment's authority."""
    path = tmp_path_factory.mktemp("wallets") / "sam"
    seed = Digest.of(b"sam").value
    WalletFolder.create(path, PersonId("sam"), lambda _size: seed, passphrase=None)
    opened, authority = WalletFolder(path, nobody), running.authority()
    opened.bind(f"https://127.0.0.1:{running.port}", running.genesis, authority.certificate)
    issued = authority.issue_person("sam", at=int(time.time()), life=timedelta(hours=1))
    opened.certify(key=issued.private_key, certificate=issued.certificate)
    return path


def assess(wallet: Path, *options: str) -> Any:
    """Assess as sam, and return what was printed."""
    result = CliRunner().invoke(main, ["assess", "--as", str(wallet), "--json", *options])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["assessment"]


def test_the_level_is_honest(running: RunningBroker, wallet: Path) -> None:
    told = assess(wallet, "--home", str(running.home))
    states = {one["measure"]: State(one["state"]) for one in told["findings"]}
    seen = {one["collector"]: one for one in told["observations"]}
    assert told["held"] == "none"
    assert len([one for one in told["findings"] if one["basis"] == "automatic"]) >= 40
    # What is so here, whatever host this runs on.
    assert states["SL1-WAC-02"] is State.MET
    assert seen["log.verified"]["facts"]["unfounded"] == 0
    assert seen["network.broker"]["facts"]["version"] == "TLSv1.3"
    assert states["SL2-WST-02"] is State.NOT_MET, "the root key is under a passphrase"
    assert states["SL1-NAC-05"] is State.NOT_MET, "nobody logs in at an identity provider"
    assert states["SL2-WAC-01"] is State.NOT_MET, "people sign with keys in files"
    assert states["SL4-NHW-03"] is State.NOT_ASSESSED
    # And nothing is met that rests on something which was missing.
    missing = {one["collector"] for one in told["observations"] if one["missing"]}
    assert {"attacks.suite", "detection.responder", "code.self", "sealing.spread"} <= missing


def test_what_must_be_refused_is_tried(wallet: Path) -> None:
    files = WalletFolder(wallet, nobody)
    authority, certificate, key = files.tls_files()
    look = broker_look(files.identity.url, authority=authority, certificate=certificate, key=key)
    assert look.facts is not None
    assert (look.facts["older_refused"], look.facts["anonymous_refused"], look.facts["plaintext_refused"]) == (
        True,
        True,
        True,
    )


@contextmanager
def lax(wallet: Path, running: RunningBroker) -> Iterator[int]:
    """Serve anybody over whatever TLS they like."""
    issued = running.authority().issue_server(["127.0.0.1"], at=int(time.time()), life=timedelta(hours=1))
    certificate, key = wallet.parent / "lax.crt", wallet.parent / "lax.key"
    issued.save(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        while not over.is_set():
            try:
                plain, _address = listener.accept()
                with plain, context.wrap_socket(plain, server_side=True) as secured:
                    secured.recv(4096)
                    secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            except OSError:
                continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join()


def test_a_server_that_refuses_nothing_is_found_out(running: RunningBroker, wallet: Path) -> None:
    authority, certificate, key = WalletFolder(wallet, nobody).tls_files()
    with lax(wallet, running) as port:
        url = f"https://127.0.0.1:{port}"
        look = broker_look(url, authority=authority, certificate=certificate, key=key)
    assert look.facts is not None
    assert (look.facts["older_refused"], look.facts["anonymous_refused"]) == (False, False)


def test_where_nobody_answers_nothing_is_seen(wallet: Path) -> None:
    authority, certificate, key = WalletFolder(wallet, nobody).tls_files()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    look = broker_look(f"https://127.0.0.1:{port}", authority=authority, certificate=certificate, key=key)
    assert look.facts is None
    assert look.missing
