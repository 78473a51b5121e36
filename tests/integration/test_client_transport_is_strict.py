"""The client's HTTPS: TLS 1.3, both sides authenticated by the one pinned authority, bounded answers, no detours."""

from __future__ import annotations

import gzip
import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from strongroom.broker.adapters.dev_ca import DevCa
from strongroom.client.adapters.http import MAX_ANSWER, HttpTransport, mutual_tls
from strongroom.core.errors import DeniedError, MalformedError, UnavailableError

pytestmark = pytest.mark.integration

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


class Authority:
    """A development authority and what it issued, as files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        now = int(time.time())
        ca = DevCa.create(self.folder, name, at=now)
        for party, issued in (("server", ca.issue_server(at=now)), ("person", ca.issue_person("dana", at=now))):
            issued.save(self.folder / f"{party}.pem", self.folder / f"{party}.key")

    def client(self, *, trusting: Authority | None = None) -> ssl.SSLContext:
        """A client's context: this authority's certificate, trusting this or another authority."""
        return mutual_tls(
            authority=(trusting or self).folder / "ca.pem",
            certificate=self.folder / "person.pem",
            key=self.folder / "person.key",
        )


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("strangers"), "strangers")


@contextmanager
def served(authority: Authority, answer: Answer, *, newest: ssl.TLSVersion | None = None) -> Iterator[str]:
    """Serve one answer for everything, and return the address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            answer(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            del format, args

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Keep quiet: refused handshakes are what is tested."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.folder / "server.pem", authority.folder / "server.key")
    context.load_verify_locations(authority.folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    if newest is not None:
        context.maximum_version = newest
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def says(status: int, body: bytes, **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def test_a_good_answer_is_read(ours: Authority) -> None:
    with served(ours, says(200, b'{"a": 1}')) as url, HttpTransport(url, ours.client()) as transport:
        assert transport.call("GET", "/v1/state", query={"old": 1}) == {"a": 1}
        assert transport.call("POST", "/v1/requests", body={"x": None}) == {"a": 1}


def test_a_refusal_keeps_its_class(ours: Authority) -> None:
    problem = json.dumps(DeniedError("no", reason="self-approval").problem()).encode()
    with (
        served(ours, says(403, problem)) as url,
        HttpTransport(url, ours.client()) as transport,
        pytest.raises(DeniedError) as caught,
    ):
        transport.call("GET", "/v1/state")
    assert caught.value.reason == "self-approval"


def test_a_server_of_another_authority_is_refused(ours: Authority, strangers: Authority) -> None:
    with (
        served(strangers, says(200, b"{}")) as url,
        HttpTransport(url, ours.client()) as transport,
        pytest.raises(UnavailableError, match="isn't trusted"),
    ):
        transport.call("GET", "/v1/state")


def test_a_client_of_another_authority_gets_nothing(ours: Authority, strangers: Authority) -> None:
    with (
        served(ours, says(200, b"{}")) as url,
        HttpTransport(url, strangers.client(trusting=ours)) as transport,
        pytest.raises(UnavailableError),
    ):
        transport.call("GET", "/v1/state")


def test_tls_below_1_3_is_refused(ours: Authority) -> None:
    old = ssl.TLSVersion.TLSv1_2
    with (
        served(ours, says(200, b"{}"), newest=old) as url,
        HttpTransport(url, ours.client()) as transport,
        pytest.raises(UnavailableError),
    ):
        transport.call("GET", "/v1/state")


@pytest.mark.parametrize("url", ["https://127.0.0.1:9", "https://127.0.0.1:99999", "https://"])
def test_nothing_listening_is_unavailable(ours: Authority, url: str) -> None:
    with pytest.raises(UnavailableError), HttpTransport(url, ours.client()) as transport:
        transport.call("GET", "/v1/state")


def test_a_redirect_is_not_followed(ours: Authority) -> None:
    with (
        served(ours, says(307, b"", location="/v1/other")) as url,
        HttpTransport(url, ours.client()) as transport,
        pytest.raises(UnavailableError, match="307"),
    ):
        transport.call("GET", "/v1/state")


def test_an_endless_answer_is_cut_off(ours: Authority) -> None:
    body = b'"' + b"x" * MAX_ANSWER + b'"'
    with (
        served(ours, says(200, body)) as url,
        HttpTransport(url, ours.client()) as transport,
        pytest.raises(MalformedError, match="longer than"),
    ):
        transport.call("GET", "/v1/state")


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a": 1, "a": 2}', b'{"a": 1.5}'])
def test_an_answer_that_is_not_our_json_is_refused(ours: Authority, body: bytes) -> None:
    with (
        served(ours, says(200, body)) as url,
        HttpTransport(url, ours.client()) as transport,
        pytest.raises(MalformedError),
    ):
        transport.call("GET", "/v1/state")


def test_a_packed_answer_is_not_unpacked(ours: Authority) -> None:
    packed = says(200, gzip.compress(b"{}"), content_encoding="gzip")
    with served(ours, packed) as url, HttpTransport(url, ours.client()) as transport, pytest.raises(MalformedError):
        transport.call("GET", "/v1/state")


def test_the_environment_decides_nothing(
    ours: Authority, strangers: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("SSL_CERT_FILE", str(strangers.folder / "ca.pem"))
    with served(ours, says(200, b"{}")) as url, HttpTransport(url, ours.client()) as transport:
        assert transport.call("GET", "/v1/state") == {}
    assert not (tmp_path / "keys").exists()


def test_files_that_are_no_certificates_are_refused(ours: Authority, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("certificate")
    with pytest.raises(MalformedError):
        mutual_tls(
            authority=tmp_path / "ca.pem",
            certificate=ours.folder / "person.pem",
            key=ours.folder / "person.key",
        )
