"""A webhook's receiver is trusted with nothing: late, endless, lying or gone, it costs only its own notices."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from simulators.receiver import Answer, Received, Receiver, answering, signature, silent
from strongroom.broker import couriers, outbox
from strongroom.broker.adapters import webhooks as adapter
from strongroom.broker.adapters.dev_ca import DevCa
from strongroom.broker.adapters.webhooks import WebhookFiles, replace_file
from strongroom.broker.couriers import Couriers, Surroundings
from strongroom.broker.noticeboard import NoticeBoard
from strongroom.broker.notices import NoticeKind
from strongroom.broker.webhooks import (
    AddressRefusedError,
    Message,
    NotTakenError,
    Webhook,
    read_url,
    secret_text,
    write_webhooks,
)
from strongroom.core.clock import SystemClock
from strongroom.core.events import EventName
from support.clocks import FixedClock
from support.logs import AT, GENESIS
from support.notices import Log, board, digest

pytestmark = pytest.mark.integration
SECRET = secret_text(b"w" * 32)
MESSAGE = Message(id="sr-1", body=b"{}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    replace_file(tmp_path / "webhooks" / "pager.secret", SECRET.encode())
    return tmp_path


def webhook(port: int, *, name: str = "pager", kinds: frozenset[NoticeKind] = frozenset()) -> Webhook:
    url = f"http://127.0.0.1:{port}/hook?token=t"
    return Webhook(name=name, url=url, kinds=kinds, secret="webhooks/pager.secret")


def send(folder: Path, hook: Webhook) -> float:
    """Send once; returns how many seconds it took."""
    began = time.monotonic()
    asyncio.run(WebhookFiles(folder, SystemClock()).sender(hook).send(MESSAGE))
    return time.monotonic() - began


# --- one message ------------------------------------------------------------------------------------------------------


def test_a_message_is_signed_and_names_its_host(folder: Path) -> None:
    with Receiver() as receiver:
        send(folder, webhook(receiver.port))
        (got,) = receiver.wait(1)
    assert got.line == "POST /hook?token=t HTTP/1.1"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["webhook-signature"] == signature(SECRET, got.headers, got.body)
    assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < 10
    assert "cookie" not in got.headers
    assert "authorization" not in got.headers


@pytest.mark.parametrize(
    ("status", "reason"),
    [(400, "refused"), (410, "refused"), (429, "unreachable"), (500, "unreachable"), (503, "unreachable")],
)
def test_an_answer_other_than_2xx_is_not_taken(folder: Path, status: int, reason: str) -> None:
    with Receiver(answering(status)) as receiver, pytest.raises(NotTakenError) as raised:
        send(folder, webhook(receiver.port))
    assert raised.value.reason == reason


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(folder: Path, status: int) -> None:
    with Receiver() as other:
        for place in (f"http://127.0.0.1:{other.port}/", "http://169.254.169.254/latest/meta-data/"):
            with Receiver(answering(status, f"location: {place}")) as receiver, pytest.raises(NotTakenError):
                send(folder, webhook(receiver.port))
        assert other.got == []


def test_a_proxy_in_the_environment_is_ignored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as proxy, Receiver() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        send(folder, webhook(receiver.port))
        assert (len(receiver.got), proxy.got) == (1, [])


def dripping(_got: Received, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
    with suppress(OSError):
        for _ in range(200):
            time.sleep(0.05)
            connection.sendall(b"y")


def informing(_got: Received, connection: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
            time.sleep(0.01)


def hanging_up(_got: Received, _connection: socket.socket) -> None:
    return


def talking_nonsense(_got: Received, connection: socket.socket) -> None:
    connection.sendall(b"\x00\xff" * 4000)


def many_headers(_got: Received, connection: socket.socket) -> None:
    with suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        for number in range(100_000):
            connection.sendall(b"x-%d: %s\r\n" % (number, b"y" * 100))


@pytest.mark.parametrize("answer", [dripping, informing, silent, hanging_up, talking_nonsense, many_headers])
def test_a_receiver_that_does_not_answer_is_left_in_time(
    folder: Path, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "SEND_SECONDS", 0.5)
    began = time.monotonic()
    with Receiver(answer) as receiver, pytest.raises(NotTakenError) as raised:
        send(folder, webhook(receiver.port))
    assert raised.value.reason == "unreachable"
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("head", [b"content-length: 99999999999", b"transfer-encoding: chunked"])
def test_a_body_without_end_is_not_read(folder: Path, head: bytes) -> None:
    sent = 0

    def endless(_got: Received, connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        chunk = b"x" * 65536
        with suppress(OSError):
            while sent < 1 << 30:
                connection.sendall(b"10000\r\n" + chunk + b"\r\n" if b"chunked" in head else chunk)
                sent += len(chunk)

    with Receiver(endless) as receiver:
        # The status was 200: it was taken, whatever comes behind.
        assert send(folder, webhook(receiver.port)) < 3
    assert sent < 64 << 20


def test_a_body_that_never_comes_is_not_waited_for(folder: Path) -> None:
    def stalling(_got: Received, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
        silent(_got, connection)

    with Receiver(stalling) as receiver:
        assert send(folder, webhook(receiver.port)) < adapter.SEND_SECONDS / 2


# --- whom it is sent to -----------------------------------------------------------------------------------------------


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name resolve to these addresses."""

    async def getaddrinfo(_loop: object, _host: str, port: int, **_rest: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(
    "addresses", [("169.254.169.254",), ("127.0.0.1",), ("10.0.0.1", "169.254.169.254"), ("fe80::1",)]
)
def test_a_name_that_leads_where_nothing_is_sent(
    folder: Path, addresses: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, *addresses)
    hook = Webhook(name="pager", url="https://hooks.example/", kinds=frozenset(), secret="webhooks/pager.secret")
    with pytest.raises(AddressRefusedError):
        send(folder, hook)


@pytest.fixture
def authority(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    at = int(time.time())
    made = DevCa.create(tmp_path / "ca", "test", at=at)
    made.issue_server(("localhost",), at=at).save(tmp_path / "server.pem", tmp_path / "server.key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    (tmp_path / "authority.pem").write_bytes(made.certificate)
    return context, tmp_path / "authority.pem"


def test_https_trusts_the_named_authority_for_the_named_host(
    folder: Path, authority: tuple[ssl.SSLContext, Path]
) -> None:
    context, pem = authority

    def hook(host: str, trusted: str | None) -> Webhook:
        url = f"https://{host}:{receiver.port}/"
        return Webhook(name="pager", url=url, kinds=frozenset(), secret="webhooks/pager.secret", authority=trusted)

    with Receiver(context=context) as receiver:
        send(folder, hook("localhost", str(pem)))
        assert len(receiver.got) == 1
        for host, trusted in (("localhost", None), ("127.0.0.1", str(pem))):
            with pytest.raises(NotTakenError, match="certificate isn't trusted"):
                send(folder, hook(host, trusted))
        assert len(receiver.got) == 1


def test_a_name_is_connected_to_at_the_address_that_was_checked(
    folder: Path, authority: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first look-up is what was checked; a second one, by whoever connects, would lead elsewhere.
    context, pem = authority
    asked: list[str] = []

    async def getaddrinfo(_loop: object, host: str, port: int, **_rest: object) -> list[object]:
        asked.append(host)
        address = "127.0.0.1" if asked.count("localhost") <= 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    with Receiver(context=context) as receiver:
        url = f"https://localhost:{receiver.port}/"
        send(folder, Webhook(name="p", url=url, kinds=frozenset(), secret="webhooks/pager.secret", authority=str(pem)))
        assert len(receiver.got) == 1
    assert asked.count("localhost") == 1


# --- many messages ----------------------------------------------------------------------------------------------------


def carrying(
    folder: Path, log: Log, hooks: list[Webhook], act: Callable[[NoticeBoard], Awaitable[None]], *, now: int = AT
) -> None:
    """Let couriers carry what ``log`` has while ``act`` runs."""
    replace_file(folder / "webhooks.toml", write_webhooks(hooks))

    async def both() -> None:
        told = board(log)
        clock = FixedClock(now)
        around = Surroundings(
            board=told,
            files=WebhookFiles(folder, clock),
            genesis=GENESIS.digest,
            clock=clock,
            chance=lambda: 0.0,
        )
        tasks = [asyncio.create_task(told.follow()), asyncio.create_task(Couriers(around).run())]
        try:
            await asyncio.wait_for(act(told), 30)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(both())


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - what is waited for happens in files and other threads
        await asyncio.sleep(0.01)


def place(folder: Path, name: str = "pager") -> int | None:
    return WebhookFiles(folder, SystemClock()).place(name)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FIRST_SECONDS", 0.02)
    monkeypatch.setattr(couriers, "RELOAD_SECONDS", 0.05)


def indices(receiver: Receiver) -> list[int]:
    return [got.json["data"]["index"] for got in receiver.got]


def test_a_new_webhook_is_told_of_what_comes_and_after_a_restart_of_the_rest(folder: Path) -> None:
    log = Log()
    log.ask("before")

    async def first(told: NoticeBoard) -> None:
        await until(lambda: place(folder) == 1)
        for name in ("a", "b"):
            log.ask(name)
        told.wake()
        await until(lambda: place(folder) == 3)

    async def second(_told: NoticeBoard) -> None:
        await until(lambda: place(folder) == 5)

    with Receiver() as receiver:
        carrying(folder, log, [webhook(receiver.port)], first)
        log.ask("while it was down")
        log.ask("and more")
        carrying(folder, log, [webhook(receiver.port)], second)
        assert indices(receiver) == [2, 3, 4, 5]


def test_what_was_refused_is_tried_again_with_the_same_id_and_holds_nothing_back(folder: Path) -> None:
    log = Log()
    kept: list[int | None] = []

    def refusing_the_first(got: Received, connection: socket.socket) -> None:
        stubborn = got.json["data"]["index"] == 1 and len(receiver.got) < 5
        kept.append(place(folder))
        answering(400 if stubborn else 200)(got, connection)

    async def act(told: NoticeBoard) -> None:
        await until(lambda: place(folder) == 0)
        for name in ("a", "b", "c"):
            log.ask(name)
        told.wake()
        await until(lambda: place(folder) == 3)

    with Receiver(refusing_the_first) as receiver:
        carrying(folder, log, [webhook(receiver.port)], act)
        assert indices(receiver)[0] == 1
        assert set(indices(receiver)) == {1, 2, 3}
        assert {got.headers["webhook-id"] for got in receiver.got if got.json["data"]["index"] == 1} == {
            f"sr-{GENESIS.digest.value[:8].hex()}-1-request-created"
        }
        # While the first one wasn't taken, its place wasn't passed: a crash would have repeated the others.
        assert set(kept) == {0}
        assert receiver.most_under_way == 1


def test_what_was_not_taken_before_a_crash_is_sent_after_it(folder: Path) -> None:
    log = Log()

    async def first(told: NoticeBoard) -> None:
        await until(lambda: place(folder) == 0)
        log.ask("a")
        told.wake()
        await until(lambda: len(receiver.got) > 1)

    async def second(_told: NoticeBoard) -> None:
        await until(lambda: place(folder) == 1)

    with Receiver(answering(503)) as receiver:
        carrying(folder, log, [webhook(receiver.port)], first)
        assert place(folder) == 0
        receiver.answer = answering(204, body=b"")
        carrying(folder, log, [webhook(receiver.port)], second)
        assert len({got.headers["webhook-id"] for got in receiver.got}) == 1


def test_after_three_days_it_gives_up_and_says_so(folder: Path) -> None:
    log = Log()

    async def act(told: NoticeBoard) -> None:
        await until(lambda: place(folder) == 0)
        log.ask("a")
        told.wake()
        await until(lambda: place(folder) == 1)

    with Receiver(answering(500)) as receiver, capture_logs() as lines:
        carrying(folder, log, [webhook(receiver.port)], act, now=AT + outbox.GIVE_UP_SECONDS)
        assert len(receiver.got) == 1
    (line,) = [line for line in lines if line["event"] == "gave up on a notice"]
    assert (line["log_level"], line["webhook"], line["index"]) == ("error", "pager", 1)
    assert "token" not in json.dumps(lines)


def test_a_stuck_receiver_keeps_only_its_own_notices(folder: Path) -> None:
    log = Log()

    async def act(told: NoticeBoard) -> None:
        await until(lambda: place(folder, "stuck") == 0 and place(folder, "well") == 0)
        for number in range(20):
            log.ask(f"r{number}")
            told.wake()
            assert (await told.page(number, wait=60)).notices
        await until(lambda: place(folder, "well") == 20)

    with Receiver(silent) as stuck, Receiver() as well:
        carrying(folder, log, [webhook(stuck.port, name="stuck"), webhook(well.port, name="well")], act)
        assert indices(well) == list(range(1, 21))
        assert len(stuck.got) == 1
    assert place(folder, "stuck") == 0


def test_only_the_chosen_kinds_are_told(folder: Path) -> None:
    log = Log()

    async def act(told: NoticeBoard) -> None:
        await until(lambda: place(folder) == 0)
        log.ask("a")
        log.add(EventName.MODEL_FROZEN, request=digest("a"))
        told.wake()
        await until(lambda: place(folder) == 2)

    with Receiver() as receiver:
        carrying(folder, log, [webhook(receiver.port, kinds=frozenset({NoticeKind.MODEL_FROZEN}))], act)
        (got,) = receiver.got
        assert (got.json["type"], got.json["data"]["priority"]) == ("model-frozen", "page")


def test_the_list_may_change_while_it_runs_and_a_broken_one_changes_nothing(folder: Path) -> None:
    log = Log()

    async def act(told: NoticeBoard) -> None:
        await until(lambda: place(folder) == 0)
        replace_file(folder / "webhooks.toml", b"nonsense")
        await asyncio.sleep(0.3)
        log.ask("a")
        told.wake()
        await until(lambda: len(one.got) == 1)
        replace_file(folder / "webhooks.toml", write_webhooks([webhook(two.port, name="two")]))
        await until(lambda: place(folder, "two") == 1)
        log.ask("b")
        told.wake()
        await until(lambda: len(two.got) == 1)

    with Receiver() as one, Receiver() as two:
        carrying(folder, log, [webhook(one.port)], act)
        assert (indices(one), indices(two)) == ([1], [2])


def test_no_address_but_loopback_is_plain_http() -> None:
    assert read_url("http://localhost:1/").loopback
