"""The real log writer asks real witnesses, and publishes what they cosigned; a log that went back is stopped."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from strongroom.audit.adapters.client import BlockingLogClient
from strongroom.audit.checkpoint import Checkpoint, read_checkpoint
from strongroom.audit.cosignature import CosignatureKind, CosignerKey
from strongroom.audit.note import Note, VerifierKey
from strongroom.audit.witness_policy import WitnessPolicy, check_note
from strongroom.cli.audit_witness import witness
from strongroom.core.errors import ExitCode
from support.logs import AT, LOG_KEY, found_home, log_writer, some_entries
from support.turning import Hand
from support.witnesses import make_witness, running_witness

pytestmark = pytest.mark.integration

RHYTHM = ("--witness-seconds", "0.2")


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it didn't happen in time"
        time.sleep(0.05)


def size_of(path: Path) -> int:
    return Checkpoint.parse_text(Note.parse(path.read_bytes()).text).size if path.exists() else 0


def append(home: Path, count: int, *, at: int = AT) -> None:
    with BlockingLogClient(home / "run" / "log.sock") as client:
        start = client.head().size
        client.append(some_entries(start + count, at=at)[start:])


def test_what_is_published_carries_the_log_and_its_witnesses(tmp_path: Path) -> None:
    home, key, genesis = found_home(tmp_path / "home")
    cosigner = CosignerKey(genesis.log_origin, CosignatureKind.ML_DSA_44, genesis.log_cosigner)
    first = make_witness(tmp_path / "w1", str(key), str(cosigner), name="w1.example")
    second = make_witness(tmp_path / "w2", str(key), name="w2.example", algorithm="ed25519")
    public = home / "log" / "public"
    cosigned = public / "checkpoint.cosigned"
    with running_witness(first) as one, running_witness(second) as other:
        text = f"log {cosigner}\n{one.policy('A')}{other.policy('B')}group both all A B\nquorum both\n"
        policy = WitnessPolicy.parse(text.encode())
        (home / "log" / "witnesses.policy").write_text(text)
        with log_writer(home, *RHYTHM):
            append(home, 20)
            wait_until(lambda: size_of(cosigned) == 21)
            found = check_note(cosigned.read_bytes(), policy, now=int(time.time()))
            assert set(found.counted) == {"A", "B"}
            # The quorum's note is also what is published as long as the log doesn't grow.
            assert set(check_note((public / "checkpoint").read_bytes(), policy, now=int(time.time())).counted) == {
                "A",
                "B",
            }
            assert read_checkpoint(cosigned.read_bytes(), key).size == 21
            before = found.quorum_at
            assert before is not None
            # An idle log is cosigned again, so that it stays fresh.
            wait_until(lambda: (check_note(cosigned.read_bytes(), policy, now=2**40).quorum_at or 0) > before)
            other.process.kill()
            append(home, 5)
            wait_until(lambda: size_of(public / "checkpoint") == 26)
            time.sleep(0.6)
            assert size_of(cosigned) == 21, "half of the witnesses are no quorum of both"
            with running_witness(second, port=other.port):
                wait_until(lambda: size_of(cosigned) == 26)


def test_a_log_that_was_rolled_back_is_stopped_by_what_a_witness_holds(tmp_path: Path) -> None:
    home, key, _genesis = found_home(tmp_path / "home")
    folder = make_witness(tmp_path / "w", str(key))
    cosigned = home / "log" / "public" / "checkpoint.cosigned"
    with running_witness(folder) as one:
        (home / "log" / "witnesses.policy").write_text(one.policy() + "quorum W\n")
        with log_writer(home, *RHYTHM) as process:
            append(home, 9)
            process.terminate()
            assert process.wait(20) == 0
        shutil.copytree(home, tmp_path / "old")
        with log_writer(home, *RHYTHM):
            append(home, 10)
            wait_until(lambda: size_of(cosigned) == 20)
        # The whole home goes back: nothing on this machine knows.
        shutil.rmtree(home)
        shutil.copytree(tmp_path / "old", home)
        with pytest.raises(AssertionError, match="log-rolled-back"), log_writer(home, *RHYTHM):
            pass
        one.process.kill()
        with log_writer(home, *RHYTHM) as process:
            append(home, 1)
            with running_witness(folder, port=one.port):
                assert process.wait(30) == ExitCode.TAMPERED
            assert "log-rolled-back" in (home / "log.err").read_text()


def test_an_emptied_log_signs_nothing_before_its_witnesses_were_asked(tmp_path: Path) -> None:
    home, key, _genesis = found_home(tmp_path / "home")
    folder = make_witness(tmp_path / "w", str(key))
    store, public = home / "log" / "log.db", home / "log" / "public"
    with running_witness(folder) as one:
        (home / "log" / "witnesses.policy").write_text(one.policy() + "quorum W\n")
        with log_writer(home, *RHYTHM) as process:
            wait_until(lambda: size_of(public / "checkpoint.cosigned") == 1)
            process.terminate()
            assert process.wait(20) == 0
        # Store and published folder are gone: nothing on this machine knows of a log, and its key is there.
        store.unlink()
        shutil.rmtree(public)
        with pytest.raises(AssertionError, match="log-rolled-back"), log_writer(home, *RHYTHM):
            pass
        assert not (public / "checkpoint").exists()
        with closing(sqlite3.connect(store)) as db:
            assert db.execute("SELECT count(*) FROM checkpoint").fetchall() == [(0,)]
    # A new deployment whose witnesses are down starts all the same.
    with log_writer(home, *RHYTHM):
        wait_until(lambda: size_of(public / "checkpoint") == 1)


def test_a_log_that_went_back_to_a_seam_signs_nothing_before_its_witnesses_were_asked(tmp_path: Path) -> None:
    home, key, genesis = found_home(tmp_path / "home")
    hand = Hand(home, genesis)
    with log_writer(home), hand.client() as client:
        prepared = client.prepare()
    folder = make_witness(tmp_path / "w", str(key))
    (tmp_path / "next.pub").write_text(f"{VerifierKey(f'{key.name}/2', prepared.key)}\n")
    follow = ["follow", str(folder), "--key", str(tmp_path / "next.pub")]
    assert CliRunner().invoke(witness, follow, catch_exceptions=False).exit_code == 0
    later, published = home / "log" / "shards" / "2", home / "log" / "public" / "shards" / "2"
    with running_witness(folder) as one:
        (home / "log" / "witnesses.policy").write_text(one.policy() + "quorum W\n")
        with log_writer(home, *RHYTHM) as process, hand.client() as client:
            hand.turn(client)
            hand.ordinary(client, 3)
            wait_until(lambda: size_of(published / "checkpoint.cosigned") == 4)
            process.terminate()
            assert process.wait(20) == 0
        # The second shard is gone but for its key: the log ends where the first one was closed.
        (later / "log.db").unlink()
        shutil.rmtree(published)
        with pytest.raises(AssertionError, match="log-rolled-back"), log_writer(home, *RHYTHM):
            pass
        assert not (published / "checkpoint").exists()


def test_a_fork_is_cosigned_once_and_its_other_branch_is_stopped(tmp_path: Path) -> None:
    """One key, two logs: each would be sound for who sees it alone. The second, longer one meets what a witness saw."""
    home, key, _genesis = found_home(tmp_path / "home")
    folder = make_witness(tmp_path / "w", str(key))
    with log_writer(home, *RHYTHM) as process:
        append(home, 4)
        process.terminate()
        assert process.wait(20) == 0
    other = tmp_path / "other"
    shutil.copytree(home, other)
    with running_witness(folder) as one:
        policy = one.policy() + "quorum W\n"
        (home / "log" / "witnesses.policy").write_text(policy)
        with log_writer(home, *RHYTHM):
            append(home, 5)
            wait_until(lambda: size_of(home / "log" / "public" / "checkpoint.cosigned") == 10)
        with log_writer(other, *RHYTHM) as process:
            append(other, 9, at=AT + 1)
            (other / "log" / "witnesses.policy").write_text(policy)
            assert process.wait(30) == ExitCode.TAMPERED
            assert "log-forked" in (other / "log.err").read_text()
        assert not (other / "log" / "public" / "checkpoint.cosigned").exists()


def test_witnesses_that_are_down_hold_nothing_up(tmp_path: Path) -> None:
    home, key, _genesis = found_home(tmp_path / "home")
    folder = make_witness(tmp_path / "w", str(key))
    with running_witness(folder) as one:
        (home / "log" / "witnesses.policy").write_text(one.policy() + "quorum W\n")
    with log_writer(home, *RHYTHM):
        append(home, 50)
        wait_until(lambda: size_of(home / "log" / "public" / "checkpoint") == 51)
        (home / "log" / "witnesses.policy").write_text("quorum nobody\n")
        time.sleep(0.5)
        append(home, 1)


@pytest.mark.parametrize("spoiled", ["", "not a note\n"], ids=["gone", "damaged"])
def test_a_witness_that_forgot_does_not_begin_anew(tmp_path: Path, spoiled: str) -> None:
    folder = make_witness(tmp_path / "w", str(LOG_KEY))
    kept = next((folder / "logs").iterdir()) / "checkpoint"
    kept.unlink()
    if spoiled:
        kept.write_text(spoiled)
    with pytest.raises(AssertionError, match="witness-store-damaged"), running_witness(folder):
        pass
