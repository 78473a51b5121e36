"""How long the console's pages take, before a real deployment with many requests and models.

Real log writer, keeper, broker and console; each page is loaded over TLS by one visitor who is signed in, one page at a
time. Told: milliseconds from the request to the last byte, and the page's size; and the first load of a page, for which
nothing of the log was proven before. The log gets as long as asked for with signed entries of the keeper's.

    python benchmarks/console.py [--requests N] [--models N] [--entries N] [--loads N]
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from simulators.long_log_keeper import WANTED
from strongroom.access.policy import ModelTerms, Weights
from strongroom.access.request import Action
from strongroom.core.ids import ModelId
from support.consoles import RunningConsole, Visitor, console
from support.deployment import LEVEL, MODEL
from support.occupied import OTHER

AT_ONCE = 8
KEEPER = "simulators.long_log_keeper"
"""One person asks for everything here; a real one would be slowed down."""
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


def index(visitor: Visitor) -> int:
    """Have the console's index read the log to its end; returns how many visits that took."""
    visits = 0
    while True:
        visits += 1
        told = visitor.get("/audit.json?event=log").json
        if told["reach"] >= told["size"]:
            return visits


def loaded(live: RunningConsole, visitor: Visitor, path: str, loads: int) -> dict[str, object]:
    """Load a page so often; returns a line of the table."""
    connection = http.client.HTTPSConnection("localhost", live.port, context=live.context, timeout=60)
    headers = {
        "User-Agent": visitor.agent,
        "Cookie": "; ".join(f"{name}={value}" for name, value in visitor.cookies.items()),
    }
    seconds: list[float] = []
    size = 0
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
    connection.close()
    first, cuts = seconds[0], statistics.quantiles(seconds[1:], n=20)
    told = {"first_ms": first, "p50_ms": cuts[9], "p95_ms": cuts[18]}
    return {"page": path, **{name: round(1000 * value, 1) for name, value in told.items()}, "bytes": size}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the console's pages")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=1_000, help="models in the policy; two of them are sealed")
    parser.add_argument("--entries", type=int, default=50_000, help="of the log, at least")
    parser.add_argument("--loads", type=int, default=40, help="of each page")
    given = parser.parse_args()
    terms = [
        ModelTerms(model=ModelId(f"model-{number}"), level=LEVEL, least_isolation="vm-simulated", weights=Weights.TEST)
        for number in range(given.models - 2)
    ]
    with tempfile.TemporaryDirectory() as name, console(Path(name), models=terms, keeper_module=KEEPER) as live:
        began = time.perf_counter()
        furnish(live, given.requests)
        lengthen(live, given.entries)
        sys.stdout.write(f"furnished in {time.perf_counter() - began:.0f} s\n")
        dana = live.visitor()
        dana.sign_in()
        began = time.perf_counter()
        visits = index(dana)
        sys.stdout.write(f"indexed by {visits} visits in {time.perf_counter() - began:.0f} s\n")
        rows = [loaded(live, dana, path, given.loads) for path in PAGES]
        entries = live.occupied.head().size
    for row in rows:
        times = " ".join(f"{row[name]:>8} ms" for name in ("first_ms", "p50_ms", "p95_ms"))
        sys.stdout.write(f"{row['page']:<42} {times} {row['bytes']:>8} bytes\n")
    found = {
        "benchmark": "console", "rows": rows, "requests": given.requests, "models": given.models,
        "log_entries": entries, "cores": os.cpu_count(), "load": f"{os.getloadavg()[0]:.1f}",
    }  # fmt: skip
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
