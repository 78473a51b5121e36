"""Callers who append one entry after the other, each waiting until it is durable: tasks, or threads."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.audit.entries import make_entry
from strongroom.audit.facts import Fact, Producer
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from support.logs import AT, KEEPER

WARM_UP: Final = 0.2
"""Seconds at the start of each run that aren't counted."""


@dataclass(frozen=True)
class Measured:
    """One run: appends a second, and how long one took, in milliseconds."""

    per_second: float
    p50: float
    p99: float

    @classmethod
    def of(cls, ended: Sequence[tuple[float, float]], began: float, seconds: float) -> Measured:
        """Count what ended after the warming up; ``ended`` holds the end and the duration of each append."""
        counted = [took for end, took in ended if end >= began + WARM_UP]
        cuts = statistics.quantiles(counted, n=100)
        return cls(len(counted) / (seconds - WARM_UP), 1000 * cuts[49], 1000 * cuts[98])


def median(runs: Sequence[Measured]) -> Measured:
    """Return the median of each number."""
    return Measured(*(statistics.median(getattr(run, name) for run in runs) for name in ("per_second", "p50", "p99")))


def entry(number: int) -> bytes:
    """Return the keeper's signed entry with this number: a refusal, 350 bytes."""
    facts: dict[str, Fact] = {
        "request": Digest.of(number.to_bytes(8, "big")),
        "step": "4.9",
        "reason": "policy",
        "decision": None,
    }
    return make_entry(EventName.REFUSED, at=AT, by=Producer.KEEPER, seq=number, facts=facts, signer=KEEPER)


def of_chunk(numbers: range) -> list[bytes]:
    """Return the entries with these numbers; for a process of its own."""
    return [entry(number) for number in numbers]


async def by_tasks(
    append: Callable[[bytes], Awaitable[object]], entries: Iterator[bytes], callers: int, seconds: float
) -> Measured:
    """Append with so many tasks. Entries are taken in order, as the keeper numbers them."""
    ended: list[tuple[float, float]] = []
    began = time.perf_counter()

    async def caller() -> None:
        for data in entries:
            start = time.perf_counter()
            await append(data)
            end = time.perf_counter()
            ended.append((end, end - start))
            if end >= began + seconds:
                return

    await asyncio.gather(*(caller() for _ in range(callers)))
    return Measured.of(ended, began, min(seconds, time.perf_counter() - began))


def by_threads(appends: Sequence[Callable[[bytes], object]], entries: Sequence[bytes], seconds: float) -> Measured:
    """Append with one thread for each of ``appends``."""
    ended: list[list[tuple[float, float]]] = [[] for _ in appends]
    began = time.perf_counter()

    def caller(number: int) -> None:
        append, mine = appends[number], ended[number]
        for data in entries[number :: len(appends)]:
            start = time.perf_counter()
            append(data)
            end = time.perf_counter()
            mine.append((end, end - start))
            if end >= began + seconds:
                return

    with ThreadPoolExecutor(len(appends)) as threads:
        list(threads.map(caller, range(len(appends))))
    whole = min(seconds, time.perf_counter() - began)
    return Measured.of([one for mine in ended for one in mine], began, whole)


class Pressure:
    """How much of the time somebody on this machine waited for a processor, in per cent."""

    def __init__(self) -> None:
        self._began, self._before = time.monotonic(), self._waited()

    @staticmethod
    def _waited() -> int:
        try:
            line = Path("/proc/pressure/cpu").read_text().splitlines()[0]
        except OSError:
            return 0
        return int(line.rsplit("=", 1)[1])

    def __str__(self) -> str:
        passed = 1e6 * (time.monotonic() - self._began)
        return f"{100 * (self._waited() - self._before) / passed:.0f} %"
