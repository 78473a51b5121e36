"""How long the console's pages take, before a real deployment with many requests and models.

Real log writer, keeper, broker and console; each page is loaded over TLS by one visitor who is signed in, one page at a
time. Told: milliseconds from the request to the last byte, and the page's size.

    python benchmarks/console.py [--requests N] [--models N] [--loads N]
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

from strongroom.access.policy import ModelTerms, Weights
from strongroom.access.request import Action
from strongroom.core.ids import ModelId
from support.consoles import RunningConsole, Visitor, console
from support.deployment import LEVEL, MODEL

AT_ONCE = 8
KEEPER = "simulators.unhurried_keeper"
"""One person asks for everything here; a real one would be slowed down."""
PAGES = (
    "/today",
    "/requests",
    "/requests?state=all",
    "/models",
    f"/models/{MODEL}",
    "/people",
    "/attestation",
    "/audit",
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


def loaded(live: RunningConsole, visitor: Visitor, path: str, loads: int) -> dict[str, object]:
    """Load a page so often; returns a line of the table."""
    connection = http.client.HTTPSConnection("localhost", live.port, context=live.context, timeout=60)
    headers = {
        "User-Agent": visitor.agent,
        "Cookie": "; ".join(f"{name}={value}" for name, value in visitor.cookies.items()),
    }
    seconds: list[float] = []
    size = 0
    while len(seconds) < loads:
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
    cuts = statistics.quantiles(seconds, n=20)
    return {"page": path, "p50_ms": round(1000 * cuts[9], 1), "p95_ms": round(1000 * cuts[18], 1), "bytes": size}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the console's pages")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=1_000, help="models in the policy; two of them are sealed")
    parser.add_argument("--loads", type=int, default=40, help="of each page")
    given = parser.parse_args()
    terms = [
        ModelTerms(model=ModelId(f"model-{number}"), level=LEVEL, least_isolation="vm-simulated", weights=Weights.TEST)
        for number in range(given.models - 2)
    ]
    with tempfile.TemporaryDirectory() as name, console(Path(name), models=terms, keeper_module=KEEPER) as live:
        began = time.perf_counter()
        furnish(live, given.requests)
        sys.stdout.write(f"furnished in {time.perf_counter() - began:.0f} s\n")
        dana = live.visitor()
        dana.sign_in()
        rows = [loaded(live, dana, path, given.loads) for path in PAGES]
        entries = live.occupied.head().size
    for row in rows:
        sys.stdout.write(f"{row['page']:<24} {row['p50_ms']:>8} ms {row['p95_ms']:>8} ms {row['bytes']:>8} bytes\n")
    found = {
        "benchmark": "console", "rows": rows, "requests": given.requests, "models": given.models,
        "log_entries": entries, "cores": os.cpu_count(), "load": f"{os.getloadavg()[0]:.1f}",
    }  # fmt: skip
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
