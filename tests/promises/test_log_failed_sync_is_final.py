"""A sync that failed once is never tried again: the kernel may have dropped the pages, and a success would be a lie."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from strongroom.audit.adapters.client import BlockingLogClient
from strongroom.audit.errors import LogHaltedError
from strongroom.audit.wiring import Places
from strongroom.core.events import EventName
from support.logs import found_home, log_writer, sample_entry

pytestmark = pytest.mark.integration
SHIM: Final = Path(__file__).parents[1] / "support" / "failing_sync.c"


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here: apt-get install gcc")
    built = tmp_path_factory.mktemp("shim") / "failing_sync.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, SHIM, "-ldl"], check=True)
    return built


def synced(calls: Path, name: str) -> list[int]:
    """Return the results of the syncs of one file, in order."""
    lines = (line.split(" ", 1) for line in calls.read_text().splitlines())
    return [int(result) for result, path in lines if Path(path).name == name]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_failed_sync_halts_and_nothing_is_lost(
    tmp_path: Path, shim: Path, monkeypatch: pytest.MonkeyPatch, end: signal.Signals
) -> None:
    home, _, _ = found_home(tmp_path / "home")
    fails, calls = tmp_path / "fails", tmp_path / "calls"
    with monkeypatch.context() as context:
        context.setenv("LD_PRELOAD", str(shim))
        context.setenv("SYNC_FAILS", str(fails))
        context.setenv("SYNC_LOG", str(calls))
        with log_writer(home, fresh=True) as process, BlockingLogClient(Places(home).socket) as client:
            entries = [sample_entry(EventName.REFUSED, seq) for seq in range(12)]
            for entry in entries[:10]:
                client.append([entry])
            before = len(synced(calls, "log.db-wal"))
            assert before >= 10
            fails.touch()
            with pytest.raises(LogHaltedError):
                client.append([entries[10]])
            # The disk is well again, and that changes nothing.
            fails.unlink()
            for _ in range(3):
                with pytest.raises(LogHaltedError):
                    client.append([entries[10]])
            head = client.head()
            assert (head.halted, head.size) == (True, 11)
            assert client.read(0, 20)[1:] == tuple(entries[:10])
            assert synced(calls, "log.db-wal")[before:] == [-1]
            os.kill(process.pid, end)
            assert process.wait(20) == (0 if end is signal.SIGTERM else -end)
    with log_writer(home), BlockingLogClient(Places(home).socket) as client:
        # The entry whose sync failed may be there: its caller was told that it isn't known.
        head = client.head()
        assert head.size in (11, 12)
        assert client.read(0, 20)[1:11] == tuple(entries[:10])
        seq = head.next_seq
        assert client.append([sample_entry(EventName.REFUSED, seq)]).first == head.size


ROUNDS: Final = """
import sys
from pathlib import Path
from strongroom.audit.adapters.sqlite_store import SqliteStore
from support.logs import LOG_KEY, next_batch, some_entries

store = SqliteStore.open(Path(sys.argv[1]) / "log.db", LOG_KEY)
entries = some_entries(12)
store.commit(next_batch(store, entries[:10]))
store._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
for entry in entries[10:]:
    print("commit", file=open(sys.argv[2], "a"))
    store.commit(next_batch(store, [entry]))
print("commit", file=open(sys.argv[2], "a"))
store.close()
"""


def test_the_header_of_a_new_round_of_the_wal_is_synced_before_its_frames(tmp_path: Path, shim: Path) -> None:
    # What the model of torn writes rests on (tests/property/test_log_store_survives_torn_writes).
    calls = tmp_path / "calls"
    environment = {**os.environ, "LD_PRELOAD": str(shim), "SYNC_LOG": str(calls), "PYTHONPATH": str(SHIM.parents[1])}
    subprocess.run([sys.executable, "-c", ROUNDS, tmp_path, calls], check=True, env=environment)
    commits = calls.read_text().split("commit\n")[1:]
    assert [commit.count("log.db-wal\n") for commit in commits[:2]] == [2, 1]
