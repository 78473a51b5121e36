"""`audit follow`, `search` and `export` while the log grows: from its folder, and over the real broker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from simulators.receiver import Receiver, answering
from strongroom.audit.adapters.client import LogClient
from strongroom.audit.note import VerifierKey
from strongroom.audit.wiring import Places
from strongroom.cli.audit import audit
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from support.brokers import approval, broker, request
from support.logs import AT, KEEPER, found_home, log_writer, sample_facts
from support.otlp import check_request
from support.recorder import Recorder

pytestmark = pytest.mark.integration
Home = tuple[Path, VerifierKey, Genesis]
PATIENCE = 60


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = found_home(tmp_path / "home")
    (found[0] / "key").write_text(f"{found[1]}\n")
    return found


async def _record(home: Home, events: Sequence[EventName]) -> None:
    folder, key, _genesis = home
    async with await LogClient.connect(Places(folder).socket) as client:
        recorder = Recorder(client, signer=KEEPER, key=key)
        for event in events:
            await recorder.record(event, at=AT, facts=sample_facts(event))


def record(home: Home, *events: EventName) -> None:
    """Have the running log writer append entries."""
    asyncio.run(_record(home, events))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "strongroom.cli.main", "audit", *arguments]


@contextmanager
def following(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``audit follow`` in a process of its own."""
    process = subprocess.Popen(
        command("follow", "--every", "0.1", "--json", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def next_entries(process: subprocess.Popen[str], count: int) -> list[dict[str, Any]]:
    assert process.stdout is not None
    told = []
    for _ in range(count):
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        told.append(json.loads(line))
    return told


def interrupted(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Interrupt it as a person does; it ends cleanly."""
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    return out, errors


def published(folder: Path, size: int) -> None:
    """Wait until so many entries are published."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        path = Places(folder).public / "checkpoint"
        if path.exists() and int(path.read_bytes().split(b"\n")[1]) >= size:
            return
        time.sleep(0.05)
    raise AssertionError("the log writer didn't publish in time")


def folder_options(home: Home) -> tuple[str, ...]:
    return "--log", str(Places(home[0]).public), "--genesis", str(home[0] / "genesis.json")


def test_a_follower_of_the_folder_sees_each_entry_once_over_restarts(home: Home, tmp_path: Path) -> None:
    cursor = ("--cursor", str(tmp_path / "cursor"))
    with log_writer(home[0]):
        record(home, EventName.KEEPER_UNLOCKED)
        published(home[0], 2)
        with following(*folder_options(home), *cursor, "--from", "0") as process:
            assert [one["index"] for one in next_entries(process, 2)] == [0, 1]
            record(home, EventName.REFUSED, EventName.RELEASED)
            told = next_entries(process, 2)
            assert [(one["index"], one["event"]) for one in told] == [
                (2, "release:request:refused"),
                (3, "release:data-key:released"),
            ]
            assert interrupted(process)[0] == ""
        # What is logged while nobody follows is printed at the next start.
        record(home, EventName.LEASE_ENDED, EventName.MODEL_FROZEN)
        with following(*folder_options(home), *cursor) as process:
            assert [one["index"] for one in next_entries(process, 2)] == [4, 5]
            interrupted(process)


def test_exports_go_to_a_receiver_that_comes_and_goes(home: Home, tmp_path: Path) -> None:
    options = ("--to", "otlp", "--cursor", str(tmp_path / "cursor"), "--batch", "2", "--attempts", "1")

    def export(port: int, code: int = 0) -> str:
        ran = subprocess.run(
            command("export", *folder_options(home), *options, "--out", f"http://127.0.0.1:{port}/v1/logs"),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert ran.returncode == code, ran.stderr
        return ran.stderr

    with log_writer(home[0]):
        record(home, *[EventName.REFUSED] * 4)
        published(home[0], 5)
        with Receiver(answering(200, body=b"{}")) as receiver:
            assert "stands at 5" in export(receiver.port)
            got = list(receiver.got)
            receiver.answer = answering(503)
            # The receiver is lost: the log goes on.
            record(home, *[EventName.RELEASED] * 3)
            published(home[0], 8)
            assert "export-sink-lost" in export(receiver.port, code=7)
            receiver.answer = answering(200, body=b"{}")
            got += receiver.got[len(receiver.got) :]
            before = len(receiver.got)
            export(receiver.port)
            got += receiver.got[before:]
    assert {one.line for one in got} == {"POST /v1/logs HTTP/1.1"}
    assert {one.headers["content-type"] for one in got} == {"application/json"}
    records = [one for received in got for one in check_request(received.json)]
    places = [
        int(item["value"]["intValue"])
        for one in records
        for item in one["attributes"]
        if item["key"] == "strongroom.log.index"
    ]
    assert places == list(range(8))


def test_a_wallets_owner_follows_searches_and_shows_over_the_real_broker(tmp_path: Path) -> None:
    with broker(tmp_path / "home") as running:
        wallet = tmp_path / "wallet"
        WalletFolder.create(wallet, PersonId("dana"), os.urandom, passphrase=None)
        folder = WalletFolder(wallet, lambda: pytest.fail("reading asks for no passphrase"))
        folder.bind(f"https://127.0.0.1:{running.port}", running.genesis, running.authority().certificate)
        issued = running.authority().issue_person("dana", at=int(time.time()), life=timedelta(hours=1))
        certificate, key = tmp_path / "dana.pem", tmp_path / "dana.key"
        issued.save(certificate, key)
        folder.certify(key=key.read_bytes(), certificate=certificate.read_bytes())
        owner = ("--as", str(wallet))
        with following(*owner, "--cursor", str(tmp_path / "cursor")) as process:
            assert process.stderr is not None
            until = time.monotonic() + PATIENCE
            while not (tmp_path / "cursor").exists():
                assert time.monotonic() < until, "it didn't begin"
                assert process.poll() is None, process.communicate()
                time.sleep(0.05)
            asked = request(running.genesis)
            caller = running.caller()
            assert caller.post("/v1/requests", {"request": asked.to_json()}).status < 300
            assert next_entries(process, 1)[0]["event"] == "access:request:created"
            by = running.caller("sam")
            assert (
                by.post(f"/v1/requests/{asked.digest}/approvals", {"envelope": approval(asked).to_json()}).status < 300
            )
            last = next_entries(process, 1)[0]
            assert last["event"] == "access:request:approved"
            interrupted(process)

        def run(*arguments: str) -> list[dict[str, Any]]:
            result = CliRunner().invoke(audit, [*arguments, *owner, "--json"], catch_exceptions=False)
            return [json.loads(line) for line in result.stdout.splitlines()]

        index = ("--index", str(tmp_path / "index"))
        found = run("search", "--request", str(asked.digest), *index)
        assert [one["event"] for one in found] == ["access:request:created", "access:request:approved"]
        assert [one["index"] for one in run("search", "--person", last["facts"]["person"], *index)][-1:] == [
            last["index"]
        ]
        assert run("show", str(last["index"]))[0]["proven_in"] > last["index"]
        assert run("ls", "--last", "1")[0]["index"] >= last["index"]
