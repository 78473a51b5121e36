"""The witness's server against hostile callers: statuses and bodies by tlog-witness, bounds, restarts, and races."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from strongroom.audit.adapters.witness_server import MAX_CONNECTIONS
from strongroom.audit.adapters.witness_store import WitnessFolder
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.cosignature import read_cosignatures
from strongroom.audit.errors import WitnessStoreError
from strongroom.audit.merkle import leaf_hash, make_consistency, node_hash, tree_root
from strongroom.audit.note import Note, read_signature_lines
from strongroom.audit.witness import MAX_SUBMISSION, Submission
from strongroom.cli.audit_witness import witness
from strongroom.core.errors import ConflictError, UsageError
from strongroom.core.signature import Ed25519Signer
from support.logs import LOG_KEY, LOG_SIGNER, ORIGIN
from support.witnesses import RunningWitness, make_witness, running_witness

pytestmark = pytest.mark.integration

LEAVES = [leaf_hash(bytes([number])) for number in range(64)]


def node(level: int, index: int) -> bytes:
    if level == 0:
        return LEAVES[index]
    return node_hash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))


def checkpoint(size: int) -> Checkpoint:
    return Checkpoint(ORIGIN, size, tree_root(LEAVES[:size]))


def body(old: int, size: int, signer: Ed25519Signer = LOG_SIGNER) -> bytes:
    proof = make_consistency(min(old, size), size, node)
    return Submission(old=old, proof=proof, note=Note.parse(checkpoint(size).sign(signer))).to_bytes()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningWitness]:
    folder = make_witness(tmp_path_factory.mktemp("witness") / "w", str(LOG_KEY))
    with running_witness(folder) as one:
        yield one


def test_statuses_and_bodies_are_those_of_the_specification(running: RunningWitness) -> None:
    place = f"/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint"
    assert running.ask("GET", place)[0] == 404
    status, kind, answer = running.submit(body(0, 5))
    assert (status, kind) == (200, "text/plain; charset=utf-8")
    (line,) = read_signature_lines(answer.decode())
    assert abs(running.key.verify(checkpoint(5), line.value).at - time.time()) < 120
    assert running.submit(body(4, 9)) == (409, "text/x.tlog.size", b"5\n")
    assert running.submit(body(5, 4))[0] == 400
    assert running.submit(b"old 5")[0] == 400
    assert running.submit(body(5, 9, Ed25519Signer.from_seed(b"s" * 32)))[0] == 403
    assert running.submit(body(5, 9).replace(ORIGIN.encode(), b"another.example/log"))[0] == 404
    other = Submission(old=5, proof=make_consistency(5, 9, node), note=Note.parse(body_of_fork()))
    assert running.submit(other.to_bytes())[0] == 422
    assert running.submit(body(5, 5))[0] == 200
    assert running.submit(body(5, 64))[0] == 200
    status, _kind, kept = running.ask("GET", place)
    assert status == 200
    found = read_cosignatures(Note.parse(kept), checkpoint(64), (running.key,))
    assert len(found) == 1
    Note.parse(kept).verify(LOG_KEY)


def body_of_fork() -> bytes:
    return Checkpoint(ORIGIN, 9, tree_root([*LEAVES[:4], *LEAVES[5:10]])).sign(LOG_SIGNER)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/add-checkpoint", 405),
        ("PUT", "/add-checkpoint", 405),
        ("POST", "/", 404),
        ("GET", "/", 404),
        ("GET", "/checkpoint", 404),
        ("GET", "/../witness.key", 404),
        ("GET", "/" + "0" * 64 + "/checkpoint", 404),
        ("POST", "/sign-subtree", 404),
    ],
)
def test_nothing_else_is_there(running: RunningWitness, method: str, path: str, status: int) -> None:
    assert running.ask(method, path)[0] == status


def test_bodies_are_bounded_and_slow_ones_hold_nobody_up(running: RunningWitness) -> None:
    assert running.submit(b"x" * (MAX_SUBMISSION + 1))[0] == 400
    slow = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(20)]
    for one in slow:
        one.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 100\r\n\r\nold 0")
    assert running.submit(b"garbage")[0] == 400
    garbage = socket.create_connection(("127.0.0.1", running.port))
    garbage.sendall(b"\x16\x03\x01\x02\x00" * 100)
    assert running.submit(b"garbage")[0] == 400
    for one in (*slow, garbage):
        one.close()


def test_silent_connections_do_not_fill_it(tmp_path: Path) -> None:
    with running_witness(make_witness(tmp_path / "w", str(LOG_KEY))) as one, ExitStack() as opened:
        half = b"GET / HTTP/1.1\r\nHost: w"
        for number in range(MAX_CONNECTIONS + 10):
            silent = opened.enter_context(socket.create_connection(("127.0.0.1", one.port)))
            # Some ask once and then by halves, some only by halves, some nothing at all.
            silent.sendall(half + b"\r\n\r\n" + half if number < 5 else half if number % 2 else b"")
        assert one.submit(b"garbage")[0] == 503
        deadline = time.monotonic() + 60
        while one.submit(b"garbage")[0] != 400:
            assert time.monotonic() < deadline, "silence fills the witness"
            time.sleep(0.5)


def test_of_many_at_once_one_is_cosigned(tmp_path: Path) -> None:
    folder = make_witness(tmp_path / "w", str(LOG_KEY))
    with running_witness(folder) as one:
        old = 0
        for _ in range(5):
            sizes, bodies = range(old + 1, old + 9), {size: body(old, size) for size in range(old + 1, old + 9)}
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda size, sent=bodies: one.submit(sent[size]), sizes))
            assert sorted(answer[0] for answer in answers) == [200, *[409] * 7]
            old = sizes[[answer[0] for answer in answers].index(200)]
            # Whoever came too late is told what won.
            assert {answer[2] for answer in answers if answer[0] == 409} == {f"{old}\n".encode()}


def test_what_was_cosigned_is_known_after_a_kill(tmp_path: Path) -> None:
    folder = make_witness(tmp_path / "w", str(LOG_KEY))
    with running_witness(folder) as one:
        assert one.submit(body(0, 9))[0] == 200
        one.process.kill()
        one.process.wait()
    with running_witness(folder) as again:
        assert again.submit(body(0, 5)) == (409, "text/x.tlog.size", b"9\n")
        assert again.submit(body(9, 12))[0] == 200
        again.process.terminate()
        assert again.process.wait(20) == 0


def test_one_folder_is_served_by_one_process(tmp_path: Path) -> None:
    folder = make_witness(tmp_path / "w", str(LOG_KEY))
    with running_witness(folder):
        with pytest.raises(ConflictError):
            WitnessFolder.open(folder).lock()
        with pytest.raises(AssertionError, match="conflict"), running_witness(folder):
            pass


def test_a_witness_is_made_once_and_keeps_its_key_to_itself(tmp_path: Path) -> None:
    folder = make_witness(tmp_path / "w", str(LOG_KEY))
    again = CliRunner().invoke(witness, ["init", str(folder), "--name", "other"])
    assert isinstance(again.exception, UsageError)
    assert isinstance(CliRunner().invoke(witness, ["show", str(tmp_path)]).exception, UsageError)
    twice = CliRunner().invoke(witness, ["follow", str(folder), "--key", str(folder / "log.pub")])
    assert isinstance(twice.exception, ConflictError)
    (folder / "witness.key").chmod(0o644)
    assert isinstance(CliRunner().invoke(witness, ["show", str(folder)]).exception, UsageError)
    (folder / "witness.key").chmod(0o600)
    (folder / "witness.key").write_bytes(bytes(32))
    assert isinstance(CliRunner().invoke(witness, ["show", str(folder)]).exception, WitnessStoreError)


@pytest.mark.parametrize("cosigned_before", [False, True])
def test_an_empty_file_is_not_taken_for_a_beginning(tmp_path: Path, *, cosigned_before: bool) -> None:
    folder = make_witness(tmp_path / "w", str(LOG_KEY))
    if cosigned_before:
        with running_witness(folder) as one:
            assert one.submit(body(0, 9))[0] == 200
    assert CliRunner().invoke(witness, ["show", str(folder)]).exception is None
    (kept,) = (folder / "logs").glob("*/checkpoint")
    kept.write_bytes(b"")
    assert isinstance(CliRunner().invoke(witness, ["show", str(folder)]).exception, WitnessStoreError)
    with pytest.raises(AssertionError, match="witness-store-damaged"), running_witness(folder):
        pass
