"""What was acknowledged is in the log, whatever happens to the process or the disk; what can't be stored is refused."""

from __future__ import annotations

import asyncio
import itertools
import random
import resource
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from strongroom.audit.adapters.client import BlockingLogClient, LogClient
from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.checkpoint import read_checkpoint
from strongroom.audit.entries import read_entry
from strongroom.audit.errors import LogHaltedError
from strongroom.audit.merkle import leaf_hash, tree_root
from strongroom.audit.note import VerifierKey
from strongroom.audit.replay import EntryChecks
from strongroom.audit.verify import SeenRoot, verify_log
from strongroom.audit.wiring import Places
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from support.forked import Process
from support.logs import AT, KEEPER, found_home, log_writer, sample_entry, sample_facts
from support.postgres import Cluster
from support.recorder import Recorder

pytestmark = pytest.mark.integration
CALLERS = 16
Home = tuple[Path, VerifierKey, Genesis]


@pytest.fixture(params=["sqlite", "postgres"])
def founded(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """Return a home whose log is kept by SQLite, or by PostgreSQL."""
    home = found_home(tmp_path / "home")
    if request.param == "postgres":
        cluster: Cluster = request.getfixturevalue("postgres")
        cluster.choose(home[0])
    return home


async def append_until(home: Path, key: VerifierKey, end: Callable[[], Awaitable[None]]) -> dict[int, Digest]:
    """Append from many callers until ``end`` is over and all fail; returns what was acknowledged: index -> its mark."""
    known: dict[int, Digest] = {}
    async with await LogClient.connect(Places(home).socket) as client:
        recorder = Recorder(client, signer=KEEPER, key=key)
        begun = (await client.head()).size

        async def caller(number: int) -> None:
            for count in itertools.count():
                mark = Digest.of(f"{begun}/{number}/{count}".encode())
                facts = {**sample_facts(EventName.REFUSED), "request": mark}
                receipt = await recorder.record(EventName.REFUSED, at=AT, facts=facts)
                known[receipt.first] = mark

        callers = [asyncio.create_task(caller(number)) for number in range(CALLERS)]
        await end()
        for outcome in await asyncio.gather(*callers, return_exceptions=True):
            assert isinstance(outcome, StrongroomError), outcome
    return known


def check_all_is_there(home: Path, key: VerifierKey, genesis: Genesis, known: Mapping[int, Digest]) -> None:
    """Start the log writer again: every acknowledged entry stands, and the last signed root is the recomputed one."""
    with log_writer(home), BlockingLogClient(Places(home).socket) as client:
        head = client.head()
        stored: list[bytes] = []
        while len(stored) < head.size:
            stored += client.read(len(stored), 256)
        assert client.flush() == head.size
    assert all(read_entry(stored[index]).digest("request") == mark for index, mark in known.items())
    assert head.checkpoint is not None
    signed = read_checkpoint(head.checkpoint, key)
    assert (signed.size, signed.root) == (len(stored), tree_root(leaf_hash(entry) for entry in stored))
    checks = EntryChecks(keeper_key=genesis.keeper_key, genesis=genesis.digest)
    assert verify_log(FolderSource(Places(home).public), key, entries=checks).checkpoint.size == head.size


def kill_again_and_again(founded: Home, times: int) -> None:
    home, key, genesis = founded
    rng = random.Random(20261123)  # noqa: S311 - moments to kill at, not secrets
    known: dict[int, Digest] = {}
    checks = EntryChecks(keeper_key=genesis.keeper_key, genesis=genesis.digest)
    seen: list[SeenRoot] = []
    for _ in range(times):
        seconds = rng.uniform(0.15, 0.6)
        with log_writer(home) as process:

            async def kill(process: Process = process, seconds: float = seconds) -> None:
                await asyncio.sleep(seconds)
                process.kill()

            known |= asyncio.run(append_until(home, key, kill))
            assert process.wait() == -9
        # What lies in the published folder at the moment of the kill is whole, and continues what lay there before.
        verify_log(FolderSource(Places(home).public), key, entries=checks, seen=seen)
        seen = [SeenRoot.kept((Places(home).public / "checkpoint").read_bytes(), key)]
    assert len(known) > times * CALLERS
    check_all_is_there(home, key, genesis, known)
    verify_log(FolderSource(Places(home).public), key, entries=checks, seen=seen)


def test_acknowledged_entries_survive_kill_9(founded: Home) -> None:
    kill_again_and_again(founded, 3)


@pytest.mark.heavy
def test_acknowledged_entries_survive_kill_9_twenty_times(founded: Home) -> None:
    kill_again_and_again(founded, 20)


def test_acknowledged_entries_survive_the_death_of_the_database(postgres: Cluster, tmp_path: Path) -> None:
    home, key, genesis = found_home(tmp_path / "home")
    postgres.choose(home)
    known: dict[int, Digest] = {}
    for seconds in (0.3, 0.5):
        with log_writer(home):

            async def kill(seconds: float = seconds) -> None:
                await asyncio.sleep(seconds)
                await asyncio.to_thread(postgres.kill)

            known |= asyncio.run(append_until(home, key, kill))
            postgres.start()
            # The database is back. This log writer isn't: what it sent last may be there or not.
            with BlockingLogClient(Places(home).socket) as client:
                assert client.head().halted
                with pytest.raises(LogHaltedError):
                    client.append([sample_entry(EventName.REFUSED, client.head().next_seq)])
    assert len(known) > 2 * CALLERS
    check_all_is_there(home, key, genesis, known)


async def append_until_refused(home: Path, key: VerifierKey) -> tuple[int, list[str]]:
    """Append until the log refuses, and twice more; returns the acknowledged size and the codes."""
    size, codes = 0, []
    async with await LogClient.connect(Places(home).socket) as client:
        recorder = Recorder(client, signer=KEEPER, key=key)
        for _ in range(20_000):
            try:
                receipt = await recorder.record(EventName.RELEASED, at=AT, facts=sample_facts(EventName.RELEASED))
            except StrongroomError as error:
                codes.append(error.code)
                if len(codes) == 3:
                    break
            else:
                assert not codes, "an append was accepted after one had failed"
                size = receipt.size
        assert (await client.head()).halted
    return size, codes


def check_recovery(home: Path, key: VerifierKey, acknowledged: int) -> None:
    with log_writer(home), BlockingLogClient(Places(home).socket) as client:
        assert client.head().size >= acknowledged
        assert client.flush() == client.head().size
    checks = EntryChecks(keeper_key=KEEPER.public_key, genesis=None)
    verify_log(FolderSource(Places(home).public), key, entries=checks)


def test_failing_write_halts_for_good_even_if_the_disk_recovers(tmp_path: Path) -> None:
    home, key, _ = found_home(tmp_path / "home")
    with log_writer(home) as process:
        # Every file of the process may be at most this long: writes fail, as on a full disk.
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        size, codes = asyncio.run(append_until_refused(home, key))
        assert codes == [LogHaltedError.code] * 3
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        with BlockingLogClient(Places(home).socket) as client:
            assert client.head().halted
            assert client.head().size == size
    check_recovery(home, key, size)
