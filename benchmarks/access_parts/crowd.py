"""Several deciders at once: processes, and threads of one process.

``python -m benchmarks.access_parts.crowd THREADS SECONDS`` decides for so long and prints how often it did.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def decider() -> Callable[[float], int]:
    """Return what decides on facts with everything in order for so many seconds, and returns how often it did."""
    # Imported where it's used: the parent only counts.
    from strongroom.access.decision import decide  # noqa: PLC0415
    from strongroom.access.engine import CedarEngine  # noqa: PLC0415
    from support.facts import good, policy  # noqa: PLC0415

    engine, facts = CedarEngine(policy()), good()

    def decide_for(seconds: float) -> int:
        count, until = 0, time.perf_counter() + seconds
        while time.perf_counter() < until:
            assert decide(facts, engine).allowed
            count += 1
        return count

    return decide_for


def measured(processes: int, threads: int, seconds: float) -> dict[str, float]:
    """Return decisions per second of wall time, and the processor seconds that were had in each second."""
    command = [sys.executable, "-m", "benchmarks.access_parts.crowd", str(threads), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    running = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    for one in running:
        assert one.stdout is not None
        one.stdout.readline()
    for one in running:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    told = [json.loads(one.communicate()[0]) for one in running]
    return {
        "per_second": sum(one["count"] for one in told) / seconds,
        "cpu": sum(one["cpu"] for one in told) / seconds,
    }


def main() -> None:
    """Decide, in so many threads, once a line comes in."""
    threads, seconds = int(sys.argv[1]), float(sys.argv[2])
    decide_for = decider()
    decide_for(0.2)
    counts = list[int]()
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.process_time()
    workers = [threading.Thread(target=lambda: counts.append(decide_for(seconds))) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(json.dumps({"count": sum(counts), "cpu": time.process_time() - began}))


if __name__ == "__main__":
    main()
