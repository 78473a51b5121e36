"""What was acknowledged is in the log, whatever happens to the process or the disk; what can't be stored is refused."""

from __future__ import annotations

import asyncio
import random
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from strongroom.audit.adapters.client import BlockingLogClient, LogClient
from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.entries import read_entry
from strongroom.audit.errors import LogHaltedError
from strongroom.audit.note import VerifierKey
from strongroom.audit.verify import verify_log
from strongroom.audit.wiring import Places
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from support.logs import AT, KEEPER, found_home, log_writer, sample_facts
from support.recorder import Recorder

pytestmark = pytest.mark.integration
CALLERS = 12


def acknowledged_until_killed(home: Path, key: VerifierKey, seconds: float) -> dict[int, Digest]:
    """Append from several callers, kill the process, return what was acknowledged: index -> fact of that entry."""
    known: dict[int, Digest] = {}

    async def run(process: subprocess.Popen[bytes]) -> None:
        async with await LogClient.connect(Places(home).socket) as client:
            recorder = Recorder(client, signer=KEEPER, key=key)

            async def caller(number: int) -> None:
                count = 0
                while True:
                    count += 1
                    mark = Digest.of(f"{seconds}/{number}/{count}".encode())
                    facts = {**sample_facts(EventName.REFUSED), "request": mark}
                    receipt = await recorder.record(EventName.REFUSED, at=AT, facts=facts)
                    known[receipt.first] = mark

            callers = [asyncio.create_task(caller(number)) for number in range(CALLERS)]
            await asyncio.sleep(seconds)
            process.kill()
            for outcome in await asyncio.gather(*callers, return_exceptions=True):
                assert isinstance(outcome, StrongroomError), outcome

    with log_writer(home) as process:
        asyncio.run(run(process))
        assert process.wait() == -9
    return known


def test_acknowledged_entries_survive_kill_9(tmp_path: Path) -> None:
    home, key, genesis = found_home(tmp_path / "home")
    rng = random.Random(20261123)  # noqa: S311 - moments to kill at, not secrets
    known: dict[int, Digest] = {}
    previous: bytes | None = None
    for _ in range(4):
        known |= acknowledged_until_killed(home, key, rng.uniform(0.15, 0.6))
        # What lies in the published folder at the moment of the kill is whole, and continues what lay there before.
        source = FolderSource(Places(home).public)
        verify_log(source, key, keeper_key=genesis.keeper_key, genesis=genesis.digest, previous=previous)
        previous = (Places(home).public / "checkpoint").read_bytes()
    assert len(known) > 4 * CALLERS
    with log_writer(home), BlockingLogClient(Places(home).socket) as client:
        size = client.head().size
        stored: list[bytes] = []
        while len(stored) < size:
            stored += client.read(len(stored), 256)
        assert client.flush() == size
    assert all(read_entry(stored[index]).digest("request") == mark for index, mark in known.items())
    report = verify_log(FolderSource(Places(home).public), key, keeper_key=genesis.keeper_key, previous=previous)
    assert report.checkpoint.size == size


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
    verify_log(FolderSource(Places(home).public), key, keeper_key=KEEPER.public_key)


def test_full_disk_halts(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    mounted = mount is not None and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], check=False, capture_output=True
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("a small file system can't be mounted here: that takes root")
    try:
        home, key, _ = found_home(disk / "home")
        with log_writer(home):
            size, codes = asyncio.run(append_until_refused(home, key))
        assert size > 10
        assert codes == [LogHaltedError.code] * 3
        saved = tmp_path / "saved"
        shutil.copytree(home, saved, ignore=lambda _folder, names: [n for n in names if n.endswith((".sock", ".new"))])
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    check_recovery(saved, key, size)


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
