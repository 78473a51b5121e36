"""Enclaves of another SPIFFE trust domain come in over real TLS; their authority opens nothing else, and can go."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.core.canonical import Json
from support.brokers import Answer, Caller, RunningBroker, broker
from support.certificates import SERVER, Authority, Shape, uri
from support.forked import completed

pytestmark = pytest.mark.integration
REFUSED = (ssl.SSLError, OSError, http.client.HTTPException)
SETTINGS = """
[[trust]]
domain = "prod.example"
bundle = "prod.pem"
paths = ["/ns/inference/sa/{name}"]
"""
GPU = "spiffe://prod.example/ns/inference/sa/gpu-1"
CHALLENGE = "/v1/requests/sha256:" + "0" * 64 + "/challenges"
PLATFORM: Json = {"platform": "tpm-" + "5a" * 32}


def now() -> int:
    return int(time.time())


@pytest.fixture(scope="module")
def prod() -> Authority:
    return Authority.make("prod", now())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, prod: Authority) -> Iterator[RunningBroker]:
    home = tmp_path_factory.mktemp("home")
    (home / "broker").mkdir(mode=0o700)
    (home / "broker" / "spiffe.toml").write_text(SETTINGS)
    (home / "broker" / "prod.pem").write_bytes(prod.pem)
    with broker(home) as started:
        yield started


def caller(running: RunningBroker, by: Authority, shape: Shape, *chain: Authority) -> Caller:
    """Return a caller with a certificate by an authority; ``chain`` is sent along."""
    certificate, key = by.leaf(shape)
    place = running.home / f"peer-{certificate.serial_number}.pem"
    place.write_bytes(key + certificate.public_bytes(Encoding.PEM) + b"".join(above.pem for above in chain))
    context = running.context(None)
    context.load_cert_chain(place)
    return running.connect(context)


def enclave(seconds: int = 3600, text: str = GPU) -> Shape:
    return Shape(names=(uri(text),), at=now() - 60, seconds=seconds + 60)


def refusal(answer: Answer) -> object:
    assert answer.status == 403, answer.text
    return answer.json["code"]


def test_an_enclave_of_the_other_domain_is_served_as_one(running: RunningBroker, prod: Authority) -> None:
    peer = caller(running, prod, enclave())
    assert peer.post(CHALLENGE, PLATFORM).status == 200
    assert refusal(peer.post("/v1/requests/sha256:" + "0" * 64 + "/control", None)) == "other-party"


def test_an_intermediate_authority_counts_through_its_root(running: RunningBroker, prod: Authority) -> None:
    below = Authority.make("below", now(), parent=prod)
    assert caller(running, below, enclave(), below).get("/v1/genesis").status == 200


def test_the_other_authority_names_nobody_of_ours(running: RunningBroker, prod: Authority) -> None:
    for text in ("spiffe://test/person/dana", "spiffe://test/enclave/gpu-1"):
        assert refusal(caller(running, prod, enclave(text=text)).get("/v1/genesis")) == "authority-not-of-domain"


def test_an_authority_that_calls_itself_like_ours_is_not_ours(running: RunningBroker, prod: Authority) -> None:
    name = next(iter(running.authority()._certificate.subject)).value
    twin = Authority.make(str(name), now(), parent=prod)
    answer = caller(running, twin, enclave(text="spiffe://test/person/dana"), twin).get("/v1/genesis")
    assert refusal(answer) == "authority-not-of-domain"


def test_what_is_no_leaf_of_theirs_is_nobody(running: RunningBroker, prod: Authority) -> None:
    assert refusal(caller(running, prod, enclave(3 * 86400)).get("/v1/genesis")) == "certificate-life-too-long"
    with pytest.raises(REFUSED):
        caller(running, prod, Shape(names=(uri(GPU),), at=now(), purposes=SERVER)).get("/v1/genesis")
    stranger = Authority.make("stranger", now())
    with pytest.raises(REFUSED):
        caller(running, stranger, enclave()).get("/v1/genesis")


def test_an_svid_that_runs_out_is_refused_on_its_open_connection(running: RunningBroker, prod: Authority) -> None:
    peer = caller(running, prod, enclave(2))
    assert peer.get("/v1/genesis").status == 200
    socket = peer.connection.sock
    time.sleep(2.1)
    assert refusal(peer.get("/v1/genesis")) == "certificate-expired"
    assert peer.connection.sock is socket


def test_a_new_bundle_lets_the_new_in_and_the_old_out(running: RunningBroker, prod: Authority) -> None:
    # The next bundle holds an authority that another one signed: it is trusted in itself.
    following = Authority.make("prod 2", now(), parent=Authority.make("above prod 2", now()))
    bundle = running.home / "broker" / "prod.pem"
    old = caller(running, prod, enclave())
    assert old.get("/v1/genesis").status == 200
    try:
        with pytest.raises(REFUSED):
            caller(running, following, enclave()).get("/v1/genesis")
        # Half a file changes nothing.
        bundle.write_bytes(following.pem[: len(following.pem) // 2])
        time.sleep(1.5)
        assert old.get("/v1/genesis").status == 200
        bundle.write_bytes(following.pem)
        ends = time.monotonic() + 60
        while old.get("/v1/genesis").status == 200 and time.monotonic() < ends:
            time.sleep(0.05)
        # Its connection is still open, and its certificate still holds.
        assert refusal(old.get("/v1/genesis")) == "authority-not-of-domain"
        assert caller(running, following, enclave()).get("/v1/genesis").status == 200
        assert running.caller().get("/v1/genesis").status == 200
    finally:
        bundle.write_bytes(prod.pem)
        time.sleep(1.5)
    assert caller(running, prod, enclave()).get("/v1/genesis").status == 200


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose broker once ran and doesn't now; each test writes its settings anew."""
    home = tmp_path_factory.mktemp("stopped")
    with broker(home) as started:
        started.stop()
        yield home


@pytest.mark.parametrize(
    ("settings", "bundle", "said"),
    [
        (SETTINGS, None, "prod.pem"),
        (SETTINGS, b"", "bundle"),
        (SETTINGS, b"junk", "bundle"),
        (SETTINGS.replace("prod.example", "test"), b"pem", "own trust domain"),
        (SETTINGS + 'people = "yes"', b"pem", "doesn't know"),
        ("[[trust]", b"pem", "TOML"),
    ],
    ids=["missing", "empty", "junk", "our-own-domain", "unknown-member", "no-toml"],
)
def test_trust_that_cannot_be_read_stops_the_start(
    stopped: Path, prod: Authority, settings: str, bundle: bytes | None, said: str
) -> None:
    (stopped / "broker" / "spiffe.toml").write_text(settings)
    (stopped / "broker" / "prod.pem").unlink(missing_ok=True)
    if bundle is not None:
        (stopped / "broker" / "prod.pem").write_bytes(prod.pem if bundle == b"pem" else bundle)
    ended = completed("strongroom.broker.wiring", "--home", str(stopped), "--port", "0")
    assert ended.returncode != 0
    assert ended.stdout == ""
    assert said in ended.stderr.splitlines()[-1]
