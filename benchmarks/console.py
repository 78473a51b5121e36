"""How long the console's pages take, before a real deployment with many requests and models.

Real log writer, keeper, broker and console; each page is loaded over TLS by one visitor who is signed in, one page at a
time. Told: milliseconds from the request to the last byte, and the page's size; and the first load of a page, for which
nothing of the log was proven before, with the processor time that it cost all processes, what is read beside it too.
The log gets as long as asked for with signed entries of the keeper's. Told too:
how long the console's index takes in the background, how fast a page is meanwhile, and the processor time that a page
costs the console and the processes behind it, which says more than the clock where other programs run.

    python benchmarks/console.py [--folder FOLDER] [--requests N] [--models N] [--entries N] [--loads N]

A folder that is named is kept, and used again by the next run within a day; without ``console/log.index`` in it, that
run builds the index anew.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from simulators.long_log_keeper import WANTED
from strongroom.access.policy import ModelTerms, Weights
from strongroom.access.request import Action
from strongroom.core.ids import ModelId
from support.consoles import RunningConsole, Visitor, console
from support.deployment import LEVEL, MODEL
from support.long_console import keep, kept, reopened
from support.occupied import OTHER

AT_ONCE = 8
KEEPER = "simulators.long_log_keeper"
"""One person asks for everything here; a real one would be slowed down."""
STILL, STILL_SECONDS, MOST_SECONDS = 0.03, 0.3, 60.0
"""Processes that take less than this part of a core for so many seconds do nothing; and how long that is waited for.
Where nobody visits they take a hundredth of one, so some 3 milliseconds of each first load are that.
"""
TIMES = ("first_ms", "first_cpu_ms", "p50_ms", "p95_ms", "most_ms", "console_cpu_ms", "behind_cpu_ms")
PAGES = (
    "/today",
    "/requests",
    "/requests?state=all",
    "/models",
    f"/models/{MODEL}",
    "/people",
    "/attestation",
    "/incidents",
    "/drills",
    "/assurance",
    "/intake",
    "/audit",
    f"/audit?model={MODEL}",
    "/audit?person=dana&event=access:request",
    f"/audit/exposure?model={OTHER}",
    "/audit/9",
)


def furnish(live: RunningConsole, requests: int) -> None:
    """Have so many requests recorded."""
    lab = live.occupied

    callers = [lab.running.caller("dana") for _worker in range(AT_ONCE)]

    def some(worker: int) -> None:
        caller = callers[worker]
        for _number in range(worker, requests, AT_ONCE):
            envelope = lab.unsubmitted(Action.ROTATE)
            assert caller.post("/v1/requests", {"request": envelope.to_json()}).status == 200

    with ThreadPoolExecutor(AT_ONCE) as workers:
        list(workers.map(some, range(AT_ONCE)))


def lengthen(live: RunningConsole, entries: int) -> None:
    """Have the keeper make the log so long."""
    (live.occupied.deployment.home / WANTED).write_text(str(entries))
    while live.occupied.head().size < entries:
        time.sleep(1)


def index(visitor: Visitor) -> dict[str, object]:
    """Wait until the console's index knows the whole log; returns how long that took, and pages meanwhile."""
    began, meanwhile = time.perf_counter(), list[float]()
    while True:
        asked = time.perf_counter()
        told = visitor.get("/audit.json?event=log").json
        meanwhile.append(time.perf_counter() - asked)
        if told["reach"] >= told["size"]:
            break
        time.sleep(1)
    middle, late = _middle_and_late(meanwhile)
    seconds = round(time.perf_counter() - began, 1)
    return {"seconds": seconds, "visits": len(meanwhile), "p50_ms": middle, "p95_ms": late}


def _middle_and_late(seconds: list[float]) -> tuple[float, float]:
    # Each twice: an index that was there already takes one visit, and quantiles are of two values at least.
    cuts = statistics.quantiles([*seconds, *seconds], n=20)
    return round(1000 * cuts[9], 1), round(1000 * cuts[18], 1)


@dataclass(frozen=True)
class Spent:
    """Processor time, in seconds, of the console, and of the processes that it asks: broker, keeper and log writer."""

    console: float
    behind: float

    @classmethod
    def by(cls, live: RunningConsole) -> Spent:
        """Return what they took until now."""
        broker = live.occupied.running.process
        assert broker is not None
        behind = [broker.pid, *(one.pid for one in live.occupied.deployment.processes.values())]
        return cls(_processor(live.process.pid), sum(map(_processor, behind)))

    @classmethod
    def settled(cls, live: RunningConsole) -> Spent:
        """Return what they took, once none does anything any more: what was read beside a page is that page's cost."""
        before, ends = cls.by(live), time.monotonic() + MOST_SECONDS
        while True:
            time.sleep(STILL_SECONDS)
            now = cls.by(live)
            if now.both - before.both < STILL * STILL_SECONDS or time.monotonic() > ends:
                return now
            before = now

    @property
    def both(self) -> float:
        """All of it."""
        return self.console + self.behind


def _processor(pid: int) -> float:
    """Return the processor time that a process took, in seconds: all of its threads, those that ended too."""
    # The clock of another process, by the number that clock_getcpuclockid(3) gives it on Linux. Summed up from /proc,
    # the time of a thread that ended would be gone.
    return time.clock_gettime((~pid << 3) | 2)


def loaded(live: RunningConsole, visitor: Visitor, path: str, loads: int) -> dict[str, object]:
    """Load a page so often; returns a line of the table."""
    connection = http.client.HTTPSConnection("localhost", live.port, context=live.context, timeout=60)
    headers = {
        "User-Agent": visitor.agent,
        "Cookie": "; ".join(f"{name}={value}" for name, value in visitor.cookies.items()),
    }
    seconds: list[float] = []
    size, begun = 0, Spent.settled(live)
    first = begun
    while len(seconds) <= loads:
        began = time.perf_counter()
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status == 429:
            time.sleep(1)
            continue
        assert answer.status == 200, data
        seconds.append(time.perf_counter() - began)
        size = len(data)
        if len(seconds) == 1:
            first = Spent.settled(live)
    connection.close()
    middle, late = _middle_and_late(seconds[1:])
    last = Spent.settled(live)
    return {
        "page": path,
        "first_ms": round(1000 * seconds[0], 1), "first_cpu_ms": round(1000 * (first.both - begun.both), 1),
        "p50_ms": middle, "p95_ms": late, "most_ms": round(1000 * max(seconds[1:]), 1),
        "console_cpu_ms": round(1000 * (last.console - first.console) / loads, 1),
        "behind_cpu_ms": round(1000 * (last.behind - first.behind) / loads, 1),
        "bytes": size,
    }  # fmt: skip


@contextmanager
def prepared(folder: Path, given: argparse.Namespace) -> Iterator[RunningConsole]:
    """Run a furnished deployment, the one that was left in the folder or a new one, and a console before it."""
    if kept(folder) is None:
        terms = [
            ModelTerms(
                model=ModelId(f"model-{number}"), level=LEVEL, least_isolation="vm-simulated", weights=Weights.TEST
            )
            for number in range(given.models - 2)
        ]
        with console(folder, models=terms, keeper_module=KEEPER) as live:
            began = time.perf_counter()
            furnish(live, given.requests)
            lengthen(live, given.entries)
            keep(live, folder, requests=given.requests, models=given.models)
            sys.stdout.write(f"furnished in {time.perf_counter() - began:.0f} s\n")
    with reopened(folder, keeper_module=KEEPER) as live:
        yield live


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the console's pages")
    parser.add_argument("--folder", type=Path, help="where the deployment is, or is made and left; a passing one else")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=1_000, help="models in the policy; two of them are sealed")
    parser.add_argument("--entries", type=int, default=1_000_000, help="of the log, at least")
    parser.add_argument("--loads", type=int, default=40, help="of each page")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, prepared(folder := given.folder or Path(name), given) as live:
        dana = live.inside()
        indexed = index(dana)
        sys.stdout.write(f"indexed: {json.dumps(indexed)}\n")
        rows = [loaded(live, dana, path, given.loads) for path in PAGES]
        entries, made = live.occupied.head().size, kept(folder) or {}
    for row in rows:
        times = " ".join(f"{row[name]:>8} ms" for name in TIMES)
        sys.stdout.write(f"{row['page']:<42} {times} {row['bytes']:>8} bytes\n")
    found = {
        "benchmark": "console", "rows": rows, **made, "indexed": indexed,
        "log_entries": entries, "cores": os.cpu_count(), "load": f"{os.getloadavg()[0]:.1f}",
    }  # fmt: skip
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
