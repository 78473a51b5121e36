"""The queue in front of the log: groups, bounds, waits that end, and a halt that stays. A real store underneath."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from strongroom.audit.adapters.sqlite_store import SqliteStore
from strongroom.audit.errors import LogBusyError, LogHaltedError, LogOutcomeUnknownError
from strongroom.audit.facts import Producer
from strongroom.audit.sequencer import Batch, Counters
from strongroom.audit.writer import LogWriter, Tree
from strongroom.core.errors import UsageError
from strongroom.core.events import EventName
from support.logs import LOG_KEY, LOG_SIGNER, ORIGIN, opening, sample_entry

pytestmark = pytest.mark.integration


class Bench:
    """A log writer over a store whose commits wait for ``go``."""

    def __init__(self, folder: Path, *, lag: int = 0, wait_seconds: float = 5.0) -> None:
        self.go = threading.Event()
        self.go.set()
        self.batches: list[int] = []
        self.fail = False
        self.store = SqliteStore.open(folder / "log.db", LOG_KEY)
        self.executor = ThreadPoolExecutor(1)
        self.writer = LogWriter(
            Tree(
                store=self.store,
                origin=ORIGIN,
                sign=lambda checkpoint: checkpoint.sign(LOG_SIGNER),
                committed=self.committed,
            ),
            Counters(),
            executor=self.executor,
            lag=lambda: lag,
            max_queued=50,
            wait_seconds=wait_seconds,
        )

    def committed(self, batch: Batch) -> None:
        self.batches.append(len(batch.entries))
        self.go.wait(20)
        if self.fail:
            raise sqlite3.OperationalError("disk I/O error")

    def close(self) -> None:
        self.go.set()
        self.executor.shutdown()
        self.store.close()


ENTRIES = [sample_entry(EventName.REFUSED, seq) for seq in range(60)]


def test_what_waits_is_committed_together(tmp_path: Path) -> None:
    async def run() -> None:
        bench = Bench(tmp_path)
        await bench.writer.append([opening()], by=Producer.LOG)
        bench.go.clear()
        queued = [asyncio.create_task(bench.writer.append([entry], by=Producer.KEEPER)) for entry in ENTRIES[:40]]
        await asyncio.sleep(0.05)
        bench.go.set()
        receipts = await asyncio.gather(*queued)
        assert [receipt.first for receipt in receipts] == list(range(1, 41))
        assert len(bench.batches) <= 3
        assert sum(bench.batches) == 41
        assert len({receipt.checkpoint for receipt in receipts}) == len(bench.batches) - 1
        bench.close()

    asyncio.run(run())


def test_a_full_queue_refuses_at_once_and_takes_the_same_entry_later(tmp_path: Path) -> None:
    async def run() -> None:
        bench = Bench(tmp_path)
        bench.go.clear()
        queued = [bench.writer.submit([entry], by=Producer.KEEPER) for entry in ENTRIES[:50]]
        with pytest.raises(LogBusyError):
            bench.writer.submit([ENTRIES[50]], by=Producer.KEEPER)
        bench.go.set()
        await asyncio.gather(*queued)
        receipt = await bench.writer.append([ENTRIES[50]], by=Producer.KEEPER)
        assert receipt.first == 50
        bench.close()

    asyncio.run(run())


def test_a_slow_disk_ends_the_wait_not_the_order(tmp_path: Path) -> None:
    async def run() -> None:
        bench = Bench(tmp_path, wait_seconds=0.05)
        bench.go.clear()
        with pytest.raises(LogOutcomeUnknownError):
            await bench.writer.append([ENTRIES[0]], by=Producer.KEEPER)
        later = bench.writer.submit([ENTRIES[1]], by=Producer.KEEPER)
        bench.go.set()
        assert (await later).first == 1
        assert bench.store.read(0, 9) == tuple(ENTRIES[:2])
        bench.close()

    asyncio.run(run())


def test_one_failed_commit_halts_for_ever(tmp_path: Path) -> None:
    async def run() -> None:
        bench = Bench(tmp_path)
        bench.go.clear()
        bench.fail = True
        queued = [bench.writer.submit([entry], by=Producer.KEEPER) for entry in ENTRIES[:5]]
        bench.go.set()
        outcomes = await asyncio.gather(*queued, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {LogHaltedError}
        bench.fail = False
        for _ in range(2):
            with pytest.raises(LogHaltedError):
                bench.writer.submit([ENTRIES[5]], by=Producer.KEEPER)
        assert bench.writer.halted
        bench.close()

    asyncio.run(run())


def test_a_published_copy_that_lags_too_far_stops_appends(tmp_path: Path) -> None:
    async def run() -> None:
        bench = Bench(tmp_path, lag=1 << 30)
        with pytest.raises(LogBusyError):
            bench.writer.submit([ENTRIES[0]], by=Producer.KEEPER)
        bench.close()

    asyncio.run(run())


def test_an_empty_append_has_no_meaning(tmp_path: Path) -> None:
    async def run() -> None:
        bench = Bench(tmp_path)
        with pytest.raises(UsageError):
            bench.writer.submit([], by=Producer.KEEPER)
        bench.close()

    asyncio.run(run())
