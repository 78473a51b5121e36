"""The real log writer on its socket: who may do what, what it answers, and how it stops."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.audit.adapters.client import BlockingLogClient, LogClient
from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.checkpoint import read_checkpoint
from strongroom.audit.errors import (
    EntryError,
    OutOfSequenceError,
    ProofError,
)
from strongroom.audit.merkle import leaf_hash, verify_consistency, verify_inclusion
from strongroom.audit.note import VerifierKey
from strongroom.audit.replay import EntryChecks
from strongroom.audit.verify import verify_log
from strongroom.audit.wiring import Places
from strongroom.core.errors import DeniedError, ExitCode, MalformedError, StrongroomError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from support.logs import AT, KEEPER, found_home, log_writer, opening, sample_entry, sample_facts
from support.recorder import Recorder

pytestmark = pytest.mark.integration
Home = tuple[Path, VerifierKey, Genesis]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return found_home(tmp_path / "home")


async def record_some(recorder: Recorder, count: int) -> None:
    facts = sample_facts(EventName.REFUSED)
    receipts = await asyncio.gather(*(recorder.record(EventName.REFUSED, at=AT, facts=facts) for _ in range(count)))
    firsts = [receipt.first for receipt in receipts]
    assert firsts == sorted(firsts)
    assert len(set(firsts)) == count


def test_overlapping_records_are_durable_in_order_and_provable(home: Home) -> None:
    folder, key, genesis = home

    async def run() -> None:
        async with await LogClient.connect(Places(folder).socket) as client:
            recorder = Recorder(client, signer=KEEPER, key=key)
            await record_some(recorder, 40)
            first = recorder.seen
            assert first is not None
            assert first.size == 41
            await record_some(recorder, 300)
            last = recorder.seen
            assert last is not None
            for index in (0, 40, 255, 256, 340):
                [entry] = await client.read(index, 1)
                leaf, path = await client.prove_inclusion(index, last.size)
                assert leaf == leaf_hash(entry)
                verify_inclusion(index=index, size=last.size, leaf=leaf, proof=path, root=last.root)
            wanted = (340, 0, 255, 256, 40)
            together = await client.prove_entries(wanted, last.size)
            for index, (entry, path) in zip(wanted, together, strict=True):
                assert [entry] == [*await client.read(index, 1)]
                verify_inclusion(index=index, size=last.size, leaf=leaf_hash(entry), proof=path, root=last.root)
            with pytest.raises(ProofError):
                await client.prove_entries((0, last.size), last.size)
            for none in ((), (-1,), (0,) * 33):
                with pytest.raises(MalformedError):
                    await client.prove_entries(none, last.size)
            proof = await client.prove_consistency(first.size, last.size)
            verify_consistency(old=first.size, new=last.size, old_root=first.root, new_root=last.root, proof=proof)
            with pytest.raises(ProofError):
                await client.prove_inclusion(0, last.size + 1)
            assert await client.flush() == last.size

    with log_writer(folder):
        asyncio.run(run())
        checks = EntryChecks(keeper_key=genesis.keeper_key, genesis=genesis.digest)
        report = verify_log(FolderSource(Places(folder).public), key, entries=checks)
        assert report.checkpoint.size == 341


def test_what_isnt_the_keepers_next_entry_is_refused_and_leaves_no_trace(home: Home) -> None:
    folder, _, _ = home
    good = sample_entry(EventName.REFUSED, 0)
    refused: list[tuple[list[bytes], type[StrongroomError]]] = [
        ([b"{}"], EntryError),
        ([good[:-1]], EntryError),
        ([opening()], OutOfSequenceError),
        ([sample_entry(EventName.REFUSED, 1)], OutOfSequenceError),
        ([good, good], OutOfSequenceError),
        ([good, b"{}"], EntryError),
    ]
    with log_writer(folder), BlockingLogClient(Places(folder).socket) as client:
        for entries, kind in refused:
            with pytest.raises(kind):
                client.append(entries)
        assert client.head().size == 1
        assert client.append([good]).first == 1
        with pytest.raises(OutOfSequenceError):
            client.append([good])


def test_a_stranger_isnt_served(home: Home) -> None:
    path, options = Places(home[0]).socket, ("--appender", str(os.geteuid() + 1))
    with log_writer(home[0], *options), BlockingLogClient(path) as client, pytest.raises(UnavailableError):
        client.head()


def test_a_reader_may_not_append(home: Home) -> None:
    options = ("--appender", str(os.geteuid() + 1), "--reader", str(os.geteuid()))
    with log_writer(home[0], *options), BlockingLogClient(Places(home[0]).socket) as client:
        assert client.head().size == 1
        with pytest.raises(DeniedError) as caught:
            client.append([sample_entry(EventName.REFUSED, 0)])
        assert caught.value.reason == "log-append-denied"


def test_garbage_ends_its_own_connection_only(home: Home) -> None:
    path = Places(home[0]).socket
    with log_writer(home[0]), BlockingLogClient(path) as client:
        for sent in (b"\xff\xff\xff\xff", struct.pack(">I", 5) + b"hello", struct.pack(">I", 0)):
            with socket.socket(socket.AF_UNIX) as other:
                other.connect(str(path))
                other.sendall(sent)
                other.settimeout(60)
                assert other.recv(1) == b""
        assert client.head().size == 1


def test_sigterm_publishes_and_the_log_goes_on_after_a_restart(home: Home) -> None:
    folder, key, genesis = home
    with log_writer(folder) as process:
        mode = Places(folder).socket.stat().st_mode & 0o777
        assert mode == 0o600
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] == [["0", "0"]]
        with BlockingLogClient(Places(folder).socket) as client:
            client.append([sample_entry(EventName.REFUSED, seq) for seq in range(5)])
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert not Places(folder).socket.exists()
    assert read_checkpoint((Places(folder).public / "checkpoint").read_bytes(), key).size == 6
    with log_writer(folder), BlockingLogClient(Places(folder).socket) as client:
        assert client.head().next_seq == 5
        assert client.append([sample_entry(EventName.REFUSED, 5)]).first == 6
        client.flush()
    checks = EntryChecks(keeper_key=None, genesis=genesis.digest)
    assert verify_log(FolderSource(Places(folder).public), key, entries=checks).checkpoint.size == 7


def start_refused(folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "strongroom.audit.wiring", "--home", str(folder)],
        check=False,
        capture_output=True,
        timeout=30,
    )
    return done.returncode, json.loads(done.stderr.decode().splitlines()[-1])["code"]


def test_a_key_that_others_may_read_is_refused(home: Home) -> None:
    Places(home[0]).key.chmod(0o640)
    assert start_refused(home[0]) == (ExitCode.USAGE, "usage")


def test_a_key_or_a_log_of_another_genesis_is_refused(home: Home, tmp_path: Path) -> None:
    folder = home[0]
    with log_writer(folder):
        pass
    Places(folder).genesis.write_bytes(found_home(tmp_path / "other")[2].to_bytes())
    assert start_refused(folder) == (ExitCode.TAMPERED, "log-key-wrong")
    renamed = Genesis.parse(home[2].to_bytes().replace(b'"deployment":"test"', b'"deployment":"next"'))
    Places(folder).genesis.write_bytes(renamed.to_bytes())
    assert start_refused(folder) == (ExitCode.TAMPERED, "log-genesis-mismatch")


def test_two_log_writers_of_one_home_are_refused(home: Home) -> None:
    with log_writer(home[0]):
        code, reason = start_refused(home[0])
    assert (code, reason) == (ExitCode.UNAVAILABLE, "log-busy")
