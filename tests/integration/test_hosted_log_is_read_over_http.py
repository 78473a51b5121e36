"""A published log on a plain web server: verified, read and followed from there, and the server isn't trusted."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from strongroom.audit.adapters import http_source
from strongroom.audit.adapters.http_source import HttpSource
from strongroom.audit.hosting import HostAddress
from strongroom.audit.reading.growth import Place, grow
from strongroom.audit.reading.view import PublishedView
from strongroom.audit.tiles import CHECKPOINT, MAX_FILE, Tile
from strongroom.cli.main import main
from strongroom.core.errors import MalformedError, UnavailableError
from support.logs import LOG_KEY, LocalLog, some_entries

pytestmark = pytest.mark.integration


@dataclass
class Served:
    """A web server over a folder."""

    url: str
    statuses: list[int] = field(default_factory=list)
    """Answered next, in place of files."""
    asked: list[str] = field(default_factory=list)
    long: bool = False
    drips: bool = False

    def source(self) -> HttpSource:
        return HttpSource(HostAddress.parse(self.url))


class _Files(SimpleHTTPRequestHandler):
    served: Served

    def do_GET(self) -> None:
        self.served.asked.append(self.path)
        if self.served.statuses:
            self.send_response(self.served.statuses.pop(0))
            self.send_header("Location", f"{self.served.url}/other")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.served.long:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for _ in range(MAX_FILE // (1 << 16) + 2):
                    self.wfile.write(bytes(1 << 16))
        elif self.served.drips:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for _ in range(200):
                    self.wfile.write(b"x")
                    time.sleep(0.05)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    served = Served("")
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(type("One", (_Files,), {"served": served}), directory=str(folder))
    )
    served.url = f"http://127.0.0.1:{server.server_address[1]}/public"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def log(tmp_path: Path) -> LocalLog:
    made = LocalLog(tmp_path)
    made.append(some_entries(300))
    (tmp_path / "log.pub").write_text(f"{LOG_KEY}\n")
    return made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait between tries."""
    monkeypatch.setattr(http_source, "_FIRST_PAUSE", 0.001)


def run(log: LocalLog, served: Served, *arguments: str) -> Result:
    given = [*arguments, "--log", served.url, "--key", str(log.home / "log.pub")]
    return CliRunner().invoke(main, ["audit", *given])


def test_it_is_verified_and_read(log: LocalLog) -> None:
    with serving(log.home) as served:
        found = run(log, served, "verify", "--json", "--jobs", "1")
        assert found.exit_code == 0, found.output
        assert json.loads(found.output)["size"] == 300
        shown = run(log, served, "show", "299", "--json")
        assert shown.exit_code == 0, shown.output
        listed = run(log, served, "ls", "--event", "log:shard:opened")
        assert "log:shard:opened" in listed.output


def test_what_the_server_changed_is_found(log: LocalLog) -> None:
    path = log.public / Tile(None, 0).path
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with serving(log.home) as served:
        found = run(log, served, "verify", "--json", "--jobs", "1")
    assert (found.exit_code, json.loads(found.output)["code"]) == (6, "log-entry-edited")


def test_it_is_followed_as_it_grows(tmp_path: Path) -> None:
    log, entries = LocalLog(tmp_path), some_entries(400)
    log.append(entries[:100])
    with serving(tmp_path) as served:
        view = PublishedView(served.source(), LOG_KEY, None)
        place, taken = Place.start(view.head().origin), list[bytes]()
        for before, size in pairwise((100, 100, 255, 256, 400)):
            log.append(entries[before:size])
            for after, new in grow(view, place, view.head()):
                taken += new
                place = after
        assert taken == entries


def test_a_server_that_stumbles_is_asked_again_and_one_that_is_down_is_said(log: LocalLog) -> None:
    with serving(log.home) as served:
        served.statuses = [503, 500, 429]
        assert served.source().read(CHECKPOINT) == (log.public / CHECKPOINT).read_bytes()
        served.asked.clear()
        served.statuses = [503] * 100
        with pytest.raises(UnavailableError):
            served.source().read(CHECKPOINT)
        assert len(served.asked) == http_source.ATTEMPTS
    with pytest.raises(UnavailableError):
        served.source().read(CHECKPOINT)


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403])
def test_a_server_that_points_elsewhere_or_refuses_is_not_an_empty_log(log: LocalLog, status: int) -> None:
    with serving(log.home) as served:
        served.statuses = [status]
        with pytest.raises(UnavailableError, match=str(status)):
            served.source().read(CHECKPOINT)
        assert served.asked == ["/public/checkpoint"]


def test_an_endless_answer_is_cut_off(log: LocalLog) -> None:
    with serving(log.home) as served:
        served.long = True
        with pytest.raises(MalformedError):
            served.source().read(CHECKPOINT)


def test_an_answer_that_drips_is_given_up(log: LocalLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_source, "FILE_SECONDS", 0.2)
    with serving(log.home) as served:
        served.drips = True
        with pytest.raises(UnavailableError, match="slowly"):
            served.source().read(CHECKPOINT)
        assert served.asked == ["/public/checkpoint"]


def test_only_the_logs_own_files_are_asked_for(log: LocalLog) -> None:
    with serving(log.home) as served:
        for path in ("../log.db", "tile/0/../../log.db", "checkpoint?x", ""):
            with pytest.raises(MalformedError):
                served.source().read(path)
        assert served.asked == []


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "log.pub").write_text(f"{LOG_KEY}\n")
    told = CliRunner().invoke(
        main, ["audit", "verify", "--log", str(tmp_path / "none"), "--key", str(tmp_path / "log.pub")]
    )
    assert told.exit_code == 2
