"""What other sensors can do to the responder is bounded, who may speak is checked, and who fell silent is told once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.core.canonical import Json, parse
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.fields import Fields
from strongroom.detection.adapters.audit_netlink import AuditRecords, AuditUnavailableError, record_line
from strongroom.detection.sensors.auditd import AuditReader
from strongroom.detection.sensors.hosts import read_falco
from strongroom.detection.sensors.reading import MAX_LINE, Event
from strongroom.detection.sensors.tokens import read_canarytoken
from strongroom.responder.adapters import line_socket, webhook
from strongroom.responder.adapters.line_socket import LineSocket
from strongroom.responder.adapters.webhook import MAX_CONNECTIONS, MAX_HEAD, Webhook, read_secret
from strongroom.responder.health import Health
from strongroom.responder.settings import ResponderSettings
from support.deployment import signer
from support.examples import examples
from unit.test_decoy_lists_are_strict import SETTINGS

SECRET = "a-path-that-nobody-guesses-0123456789"
BODY = (Path(__file__).resolve().parents[1] / "vectors/sensors/canarytokens.jsonl").read_bytes().splitlines()[0]
loops = pytest.mark.integration
"""An event loop, and sockets of this machine."""


def test_a_part_is_silent_after_its_limit_and_told_once_until_it_is_heard() -> None:
    health = Health({"falco": 10.0, "log": 30.0}, 100.0)
    assert health.news(110.0) == {}
    assert health.news(110.5) == {"falco": 10}
    assert health.news(111.0) == {}
    assert health.silent(131.0) == {"falco": 31, "log": 31}
    health.heard("falco", 131.0)
    health.heard("somebody", 131.0)
    assert health.silent(132.0) == {"log": 32}
    assert health.news(142.0) == {"falco": 11, "log": 42}


# --- webhooks ---------------------------------------------------------------------------------------------------------


@dataclass
class Hooked:
    """A webhook that listens on loopback, and what it took."""

    events: list[Event] = field(default_factory=list)
    heard: int = 0

    def __post_init__(self) -> None:
        self.webhook = Webhook("tokens", SECRET, read_canarytoken, self.events.append, self.hear)

    def hear(self) -> None:
        self.heard += 1

    async def says(self, data: bytes) -> bytes:
        """Send bytes; returns all that is answered."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.webhook.port)
        writer.write(data)
        answer = b""
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            answer = await asyncio.wait_for(reader.read(), 10)
        await closed(writer)
        return answer


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def hooked(story: Callable[[Hooked], Awaitable[None]]) -> Hooked:
    made = Hooked()

    async def run() -> None:
        await made.webhook.start("127.0.0.1:0")
        await story(made)
        await made.webhook.stop()

    asyncio.run(run())
    return made


def post(path: str, body: bytes, *, method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: w1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@loops
def test_only_who_knows_the_secret_path_is_read() -> None:
    async def story(made: Hooked) -> None:
        for path in ("/", f"/{SECRET[:-1]}", f"/{SECRET}x", f"/x/{SECRET}", f"/{SECRET}?x", f"/{SECRET.upper()}"):
            assert (await made.says(post(path, BODY))).startswith(b"HTTP/1.1 404 ")
        assert made.events == []
        assert made.heard == 0
        assert (await made.says(post(f"/{SECRET}", BODY, method="PUT"))).startswith(b"HTTP/1.1 405 ")
        assert (await made.says(post(f"/{SECRET}", b"{"))).startswith(b"HTTP/1.1 400 ")
        assert (made.heard, made.webhook.missed) == (0, 1)
        assert (await made.says(post(f"/{SECRET}", BODY))).startswith(b"HTTP/1.1 204 ")

    made = hooked(story)
    assert [event["event"] for event in made.events] == ["identity:credential:used"]
    assert made.heard == 1


@loops
def test_one_connection_says_one_thing() -> None:
    async def story(made: Hooked) -> None:
        answer = await made.says(post(f"/{SECRET}", BODY) * 3)
        assert answer.count(b"HTTP/1.1") == 1

    assert len(hooked(story).events) == 1


@loops
def test_a_body_or_head_without_end_is_cut_off() -> None:
    async def story(made: Hooked) -> None:
        assert b"413" in await made.says(post(f"/{SECRET}", b"x" * (MAX_LINE + MAX_HEAD + 1))) or not made.events
        await made.says(b"POST /" + b"a" * (2 * (MAX_LINE + MAX_HEAD)))
        chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        await made.says(f"POST /{SECRET} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunk * 8)
        assert (await made.says(post(f"/{SECRET}", BODY))).startswith(b"HTTP/1.1 204 ")

    assert len(hooked(story).events) == 1


@loops
def test_who_is_slow_or_many_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "SECONDS", 0.5)

    async def story(made: Hooked) -> None:
        held = [await asyncio.open_connection("127.0.0.1", made.webhook.port) for _ in range(MAX_CONNECTIONS)]
        for _reader, writer in held:
            writer.write(b"POST /")
        await asyncio.sleep(0.1)
        # Who holds all connections open keeps nobody out: the oldest one ends.
        assert (await made.says(post(f"/{SECRET}", BODY))).startswith(b"HTTP/1.1 204 ")
        assert held[0][0].at_eof() or not await held[0][0].read()
        began = time.monotonic()
        await asyncio.gather(*(reader.read() for reader, _writer in held), return_exceptions=True)
        assert time.monotonic() - began < 5
        assert (await made.says(post(f"/{SECRET}", BODY))).startswith(b"HTTP/1.1 204 ")
        for _reader, writer in held:
            await closed(writer)

    hooked(story)


@loops
def test_of_a_flood_so_many_are_read_and_the_others_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Hooked()
    monkeypatch.setattr(webhook, "uptime", lambda: 5.0)
    for _ in range(webhook.RATE.burst):
        assert made.webhook.answer(b"POST", f"/{SECRET}".encode(), BODY).startswith(b"204")
    assert made.webhook.answer(b"POST", f"/{SECRET}".encode(), BODY).startswith(b"429")
    assert (len(made.events), made.webhook.missed) == (webhook.RATE.burst, 1)
    # A flood isn't silence.
    assert made.heard == webhook.RATE.burst + 1


@loops
@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.binary(max_size=200) | st.sampled_from([post(f"/{SECRET}", b"{}"), b"\r\n\r\n", b"GET / HTTP/1.1"])))
def test_any_bytes_are_borne(parts: list[bytes]) -> None:
    class Sink(asyncio.Transport):
        said = b""
        closed = False

        def write(self, data: bytes | bytearray | memoryview) -> None:
            self.said += bytes(data)

        def close(self) -> None:
            self.closed = True

        def abort(self) -> None:
            self.closed = True

        def is_closing(self) -> bool:
            return self.closed

    async def run() -> Sink:
        made, sink = Hooked(), Sink()
        connection = webhook._Connection(made.webhook)
        connection.connection_made(sink)
        for part in parts:
            if not sink.closed:
                connection.data_received(part)
        connection.connection_lost(None)
        return sink

    sink = asyncio.run(run())
    assert sink.said.count(b"HTTP/1.1") <= 1


def test_a_secret_is_long_and_nobody_else_s_to_read(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.touch(mode=0o600)
    for text in ("", "short", "with a space in it, which no path has", "x" * 300, "ü" * 30):
        file.write_text(text)
        with pytest.raises(UsageError):
            read_secret(file)
    file.write_text(SECRET + "\n")
    assert read_secret(file) == SECRET
    file.chmod(0o644)
    with pytest.raises(UsageError, match="others may read"):
        read_secret(file)


# --- lines ------------------------------------------------------------------------------------------------------------


@loops
def test_of_a_flood_of_lines_so_many_are_read_the_rest_counted_and_the_sensor_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_socket, "uptime", lambda: 5.0)
    events: list[Event] = []
    heard: list[bool] = []
    line = b'{"output_fields": {"evt.type": "execve", "proc.exepath": "/bin/x"}}\n'

    async def story() -> int:
        one = LineSocket("falco", os.geteuid(), read_falco, events.append, lambda: heard.append(True))
        await one.start(tmp_path / "falco.sock")
        reader, writer = await asyncio.open_unix_connection(tmp_path / "falco.sock")
        writer.write(b"nonsense\n" + line * (line_socket.RATE.burst + 8))
        await writer.drain()
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 20)
        await closed(writer)
        await one.stop()
        return one.missed

    assert asyncio.run(story()) == 10
    assert len(events) == line_socket.RATE.burst - 1
    # What isn't a line of the sensor's is no sign that it lives; a flood is.
    assert len(heard) == line_socket.RATE.burst + 8


@loops
@pytest.mark.parametrize("more", [1, 3 * MAX_LINE])
def test_one_line_that_is_too_long_takes_no_other_with_it(tmp_path: Path, more: int) -> None:
    events: list[Event] = []
    line = b'{"output_fields": {"evt.type": "execve", "proc.exepath": "/bin/x"}}\n'

    async def story() -> int:
        one = LineSocket("falco", os.geteuid(), read_falco, events.append, lambda: None)
        await one.start(tmp_path / "falco.sock")
        reader, writer = await asyncio.open_unix_connection(tmp_path / "falco.sock")
        # What its end looks like is whoever's wrote it, and is none of the sensor's lines either.
        writer.write(line + b" " * (MAX_LINE + more) + line + line + line.strip())
        await writer.drain()
        writer.write_eof()
        await asyncio.wait_for(reader.read(), 20)
        await closed(writer)
        await one.stop()
        return one.missed

    assert asyncio.run(story()) == 1
    assert len(events) == 3


# --- the kernel's audit records ---------------------------------------------------------------------------------------


def test_records_come_in_auditd_s_form() -> None:
    line = record_line(1300, b'audit(1364481363.243:24287): arch=c000003e syscall=257 exe="/bin/cat"\0')
    assert line == b'type=SYSCALL msg=audit(1364481363.243:24287): arch=c000003e syscall=257 exe="/bin/cat"'
    assert record_line(1999, b"audit(1.0:1): x=1\ny=2").startswith(b"type=UNKNOWN[1999] msg=audit(1.0:1): x=1 y=2")


@given(st.integers(0, 65535), st.binary(max_size=400))
def test_any_record_is_read_or_refused(kind: int, text: bytes) -> None:
    line = record_line(kind, text)
    assert b"\n" not in line
    with contextlib.suppress(MalformedError):
        AuditReader()(line)


@loops
def test_the_kernel_s_own_records_are_heard_and_nobody_else_s() -> None:
    try:
        records = AuditRecords()
    except AuditUnavailableError as error:
        pytest.skip(f"without the kernel's audit records: {error.message}")
    mark = os.urandom(8).hex()
    with records, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9) as sender:
        # A message of user space (AUDIT_USER_AVC) is taken whether or not auditing is switched on.
        said = f"op=strongroom-test mark={mark}".encode()
        head = struct.pack("=IHHII", 16 + len(said) + 1, 1107, 1, 1, 0)
        try:
            sender.sendto(head + said + b"\0", (0, 0))
        except PermissionError:
            pytest.skip("this user may not write audit records")
        # Whoever writes to the reader's own socket isn't the kernel.
        with socket.fromfd(records.fileno(), socket.AF_NETLINK, socket.SOCK_RAW, 9) as twin:
            name = twin.getsockname()
        with contextlib.suppress(OSError):
            sender.sendto(struct.pack("=IHHII", 16, 1300, 0, 1, 0) + b"audit(1.0:1): forged=1", (name[0], 0))
        found: list[bytes] = []
        ends = time.monotonic() + 5
        while not any(mark.encode() in line for line in found) and time.monotonic() < ends:
            found += records.read(64)
            time.sleep(0.01)
    if not found:
        pytest.skip("this kernel tells its readers nothing")
    (line,) = (line for line in found if mark.encode() in line)
    assert line.startswith(b"type=USER_AVC msg=audit(")
    assert not any(b"forged" in one for one in found)


# --- settings ---------------------------------------------------------------------------------------------------------


HOOK: dict[str, Json] = {
    "name": "hook",
    "kind": "falco",
    "address": "127.0.0.1:8100",
    "secret": "/etc/strongroom/hook",
    "silent_seconds": 60,
}
KEY = str(signer("rules").public_key)


def read(**more: object) -> ResponderSettings:
    with Fields(parse(json.dumps({**SETTINGS, **more}).encode()), "responder") as fields:
        return ResponderSettings.read(fields)


def test_settings_say_who_speaks_how_long_it_may_be_silent_and_by_whose_rules() -> None:
    made = read(webhooks=[HOOK], kernel_audit=True, acting=["log", "audit", "hook"], pack={"file": "/p", "key": KEY})
    assert made.silences == {"hook": 60.0}
    assert made.kernel_audit
    assert made.pack is not None
    assert made.pack.key == signer("rules").public_key
    assert read(webhooks=[{**HOOK, "address": "[::1]:1"}]).webhooks
    assert read(webhooks=[{**HOOK, "address": "/run/hook.sock"}]).webhooks


def test_the_settings_that_the_page_shows_are_read() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/operate/detection.md").read_text()
    shown = next(block for block in page.split("```json\n")[1:] if '"sensors"' in block).split("```")[0]
    shown = shown.replace("ed25519:...", KEY)
    with Fields(parse(shown.encode()), "responder") as fields:
        made = ResponderSettings.read(fields)
    assert made.silences == {"falco": 300.0}
    assert made.acting == ("guard", "log")


@pytest.mark.parametrize(
    "more",
    [
        {"webhooks": [{**HOOK, "address": "0.0.0.0:8100"}]},
        {"webhooks": [{**HOOK, "address": "192.0.2.1:8100"}]},
        {"webhooks": [{**HOOK, "address": "localhost:8100"}]},
        {"webhooks": [{**HOOK, "address": "127.0.0.1:65536"}]},
        {"webhooks": [{**HOOK, "address": "127.0.0.1"}]},
        {"webhooks": [{**HOOK, "kind": "auditd"}]},
        {"webhooks": [{**HOOK, "name": "log"}]},
        {"webhooks": [{**HOOK, "name": "tokens"}]},
        {"webhooks": [HOOK, {**HOOK, "name": "other"}]},
        {"webhooks": [{**HOOK, "silent_seconds": -1}]},
        {"acting": ["audit"]},
        {"acting": ["detector"]},
        {"pack": {"file": "/p"}},
        {"pack": {"file": "p", "key": KEY}},
        {"pack": {"file": "/p", "key": "ed25519:AAAA"}},
    ],
)
def test_settings_of_another_form_are_refused(more: dict[str, Json]) -> None:
    with pytest.raises(MalformedError):
        read(**more)
