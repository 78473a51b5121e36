"""What a receiver of exported records answers is bounded and followed nowhere, and only a whole yes counts as one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from strongroom.audit.adapters.sinks import HttpPost
from strongroom.audit.export.delivery import MAX_ANSWER
from strongroom.audit.export.record import Body

pytestmark = pytest.mark.integration

BODY = Body("application/json", b"{}")


class Receiver(BaseHTTPRequestHandler):
    """Answers by the path: ``/<status>/<bytes>``."""

    seen: list[tuple[str, str | None]]

    def do_POST(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        _empty, status, size = self.path.split("/")
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(status))
        self.send_header("Location", f"http://{self.headers['Host']}/200/0")
        self.send_header("Retry-After", "7")
        self.send_header("Content-Length", size)
        self.end_headers()
        self.wfile.write(b"x" * int(size))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@contextmanager
def receiver() -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    seen: list[tuple[str, str | None]] = []
    server = HTTPServer(("127.0.0.1", 0), type("One", (Receiver,), {"seen": seen}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_redirect_is_not_followed() -> None:
    with receiver() as (url, seen):
        for status in (301, 302, 303, 307, 308):
            with HttpPost(f"{url}/{status}/0", {"Authorization": "Bearer secret"}, None) as post:
                assert post(BODY).status == status
        assert [path for path, _header in seen] == [f"/{status}/0" for status in (301, 302, 303, 307, 308)]


def test_an_answer_too_long_to_be_read_is_no_yes() -> None:
    with receiver() as (url, _seen):
        for status, size, told in (
            (200, MAX_ANSWER, 200),
            (200, MAX_ANSWER + 1, 0),
            (403, MAX_ANSWER + 1, 403),
            (503, MAX_ANSWER + 1, 503),
        ):
            with HttpPost(f"{url}/{status}/{size}", {}, None) as post:
                assert post(BODY).status == told


def test_nobody_there_is_an_answer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as (url, seen):
        # Whatever the environment says, nothing goes to a proxy.
        monkeypatch.setenv("HTTP_PROXY", url)
        monkeypatch.setenv("http_proxy", url)
        with HttpPost("http://127.0.0.1:1/200/0", {}, None) as post:
            assert post(BODY).status == 0
        assert not seen
