"""Traps of processes, libraries and stores under access decisions, by the numbers of the page on access traps."""

from __future__ import annotations

import ast
import asyncio
import json
import pickle
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

import strongroom
from strongroom.audit.adapters.sqlite_store import SqliteStore as LogStore
from strongroom.audit.note import VerifierKey
from strongroom.broker.adapters.database import open_engines
from strongroom.broker.adapters.tls import PeerCertProtocol, server_context
from strongroom.core.errors import UsageError
from strongroom.core.extras import MissingExtraError, need
from strongroom.keys.hierarchy import Tree
from strongroom.keys.recipient import RecipientKey
from support.deployment import MODEL, signer
from support.room import Room, counted_bytes, found_room, unlocked

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration
SOURCES = Path(strongroom.__file__).parent
ROOT = Path(__file__).resolve().parents[2]
EXTRAS = (
    *("authlib", "joserfc", "scim2_server", "scim2_models", "torch", "transformers", "vllm", "numpy", "s3fs"),
    *("pkcs11", "boto3", "botocore", "google.cloud.kms", "grpc", "azure.keyvault", "azure.identity"),
)
PROCESSES = ("strongroom.audit.wiring", "strongroom.keeper.wiring", "strongroom.broker.wiring", "strongroom.cli.main")


# --- 6. A server that lets everybody in -------------------------------------------------------------------------------


@pytest.mark.parametrize("authorities", [(), (b"not a certificate",)])
def test_6_a_server_that_knows_no_authority_doesn_t_start(authorities: tuple[bytes, ...]) -> None:
    with pytest.raises(UsageError):
        server_context(authorities)


# --- 7. A chain under a lock ------------------------------------------------------------------------------------------


def test_7_releases_share_appends_however_slow_the_log_is() -> None:
    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask(max_uses=200)
        dossiers = [await room.dossier(request, RecipientKey()) for _ in range(48)]
        room.log.batches.clear()
        honest = room.log.append

        async def slow(entries: tuple[bytes, ...]) -> object:
            await asyncio.sleep(0.02)
            return await honest(entries)

        room.log.append = slow  # type: ignore[method-assign,assignment]
        await asyncio.gather(*(room.keeper.release(one) for one in dossiers))
        # Two appends of a slow disk and not forty-eight: what is chained is chained in memory, and waited for together.
        assert sum(room.log.batches) == 48 + 1
        assert len(room.log.batches) <= 3

    asyncio.run(run())


# --- 8. SQLite --------------------------------------------------------------------------------------------------------


def test_8_a_writer_takes_the_lock_before_it_reads_and_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "broker" / "broker.db"
    writer, reader = open_engines(path)
    try:
        with writer.begin() as connection:
            # Nothing was written yet, and nobody else can begin to write: no two can read first and then fail.
            with (
                sqlite3.connect(path, timeout=0, isolation_level=None) as other,
                pytest.raises(sqlite3.OperationalError, match="locked"),
            ):
                other.execute("BEGIN IMMEDIATE")
            other.close()
            connection.execute(text("CREATE TABLE t (x INTEGER)"))
        with reader.begin() as connection, pytest.raises(OperationalError, match="readonly"):
            connection.execute(text("INSERT INTO t VALUES (1)"))
        assert writer.pool.size() == 1  # type: ignore[attr-defined]  # of the queue pool
    finally:
        for engine in (writer, reader):
            engine.dispose()


def test_8_the_log_s_store_is_one_writer_s_alone_and_synchronous(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    store = LogStore.open(path, VerifierKey("log.example", signer("log").public_key))
    try:
        found = [store._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
        assert found == [2, "wal"]
        with (
            sqlite3.connect(path, timeout=0) as other,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("SELECT count(*) FROM entry")
        other.close()
    finally:
        store.close()


# --- 9. A key that is derived can't be destroyed ----------------------------------------------------------------------


def test_9_no_key_that_is_to_be_destroyed_is_derived_from_one_that_stays() -> None:
    founded = found_room()
    vault = unlocked(founded)
    # The same root, epoch, model and version twice: two keys, each as the random source gave it.
    keks = []
    for _ in range(2):
        held, keyring = vault.plan_kek(MODEL, Tree.ESCROWED, counted_bytes)
        vault.take(keyring)
        keks.append(vault._open_kek(held))
    assert bytes(keks[0]._buffer or b"") != bytes(keks[1]._buffer or b"")
    made = [vault.create(MODEL, 1, held.kek, counted_bytes) for _ in range(2)]
    opened = [vault.open(MODEL, 1, wrapped.data_key, wrapped) for _key, wrapped in made]
    assert bytes(opened[0]._buffer or b"") != bytes(opened[1]._buffer or b"")
    names = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for place in ("keys", "keeper")
        for path in (SOURCES / place).rglob("*.py")
        # The root of all is made of two parts, and destroyed with either: nothing that stays leads to it.
        if path != SOURCES / "keys" / "split_root.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    assert "new_key" in names
    assert not names & {"HKDF", "HKDFExpand", "KBKDFHMAC", "ConcatKDFHash"}


# --- 15. Handles that don't survive a fork ----------------------------------------------------------------------------


def test_15_no_process_that_holds_keys_forks() -> None:
    # PKCS#11 sessions die with a fork. What holds keys, sessions or databases is a program of its own, never forked.
    # A log is verified by several processes that are given a folder, and hold nothing.
    verifiers = {SOURCES / "audit" / "standalone_verifier.py", SOURCES / "audit" / "adapters" / "workers.py"}
    for place in ("keeper", "keys", "broker", "audit", "ipc", "client"):
        for path in set((SOURCES / place).rglob("*.py")) - verifiers:
            called = path.read_text(encoding="utf-8")
            assert not re.search(r"\bos\.fork|\bmultiprocessing\b|ProcessPoolExecutor", called), path


# --- 17. Libraries that only some need --------------------------------------------------------------------------------


def test_17_no_process_imports_an_extra_before_it_is_used() -> None:
    program = f"import sys, json, importlib\n[importlib.import_module(m) for m in {PROCESSES!r}]\n"
    program += f"print(json.dumps([m for m in {EXTRAS!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert json.loads(done.stdout) == []


def test_17_an_extra_that_isn_t_there_is_named_with_what_installs_it() -> None:
    with pytest.raises(MissingExtraError) as caught:
        need("no_such_library_at_all", extra="oidc")
    assert caught.value.remedy == "pip install 'strongroom[oidc]'"
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for path in SOURCES.rglob("*.py"):
        for extra in re.findall(r"\bneed\([^)]*extra=\"([a-z0-9]+)\"", path.read_text(encoding="utf-8")):
            assert re.search(rf"^{extra} = \[", declared, re.MULTILINE), (path, extra)


# --- 22 and 23. What goes to another process, and what an old binding would break -------------------------------------


def test_22_what_uvicorn_hands_to_a_worker_can_be_handed_on() -> None:
    assert pickle.loads(pickle.dumps(PeerCertProtocol)) is PeerCertProtocol  # noqa: S301 - our own bytes
    assert PeerCertProtocol.__qualname__ == "PeerCertProtocol"


def test_23_every_lock_file_has_a_cffi_that_the_cryptography_library_can_use() -> None:
    for name in ("runtime.txt", "dev.txt"):
        found = re.findall(r"^cffi==(\d+)\.", (ROOT / "requirements" / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert found, name
        assert all(int(major) >= 2 for major in found), name
