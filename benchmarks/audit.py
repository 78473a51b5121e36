"""The log beside PostgreSQL, SQLite and a plain file: durable appends, each caller waiting for its own entry.

Every contender syncs before it answers. Ours also parses each entry strictly, grows a Merkle tree and signs its head
with each commit; the others keep a hash chain, or nothing. Runs are interleaved, each in a fresh folder or database on
the same disk; medians are printed. Callers share this machine's cores with what they call: tasks for ours, threads
with a connection each for the others. Then a log of --entries is published without syncs, verified, and proven from.

    python benchmarks/audit.py [--seconds S] [--rounds N] [--entries N] [--folder DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from benchmarks.audit_parts import reading
from benchmarks.audit_parts.contenders import CONTENDERS, Ground
from benchmarks.audit_parts.load import Measured, Pressure, median, of_chunk

from support.postgres import Cluster, programs

CALLERS: Final = (1, 8, 64)
ENTRIES: Final = 40_000
"""Entries made beforehand for each second of a run: more than any contender takes."""
OURS, SOCKET, OTHER = "strongroom, SQLite", "  SQLite, by socket", "strongroom, PostgreSQL"


def run_all(ground: Ground, rounds: int) -> dict[tuple[str, int], Measured]:
    """Run every contender at every number of callers, round by round."""
    found: dict[tuple[str, int], list[Measured]] = {}
    for number in range(rounds):
        for callers in CALLERS:
            for name, run in CONTENDERS.items():
                pressure = Pressure()
                measured = run(ground, callers)
                found.setdefault((name, callers), []).append(measured)
                told = f"{measured.per_second:,.0f}/s p50 {measured.p50:.2f} p99 {measured.p99:.2f} ms"
                print(
                    f"  round {number + 1}: {name.strip()}, {callers} callers: {told}, pressure {pressure}", flush=True
                )
    return {key: median(runs) for key, runs in found.items()}


def ratios(found: dict[tuple[str, int], Measured]) -> dict[str, float]:
    """Return what the goals are stated in."""
    most, one = max(CALLERS), 1

    def rate(name: str, callers: int = most) -> float:
        return found[name, callers].per_second

    sync = found["file and fdatasync", one].p50
    return {
        "p50_at_1_over_fdatasync": found[OURS, one].p50 / sync,
        "socket_p50_at_1_over_fdatasync": found[SOCKET, one].p50 / sync,
        "rate_at_64_over_rate_at_1": rate(OURS) / rate(OURS, one),
        "socket_rate_at_64_over_rate_at_1": rate(SOCKET) / rate(SOCKET, one),
        "over_postgres_chain_at_64": rate(OURS) / rate("PostgreSQL, chain"),
        "over_postgres_plain_at_64": rate(OURS) / rate("PostgreSQL, plain"),
        "over_sqlite_chain_at_64": rate(OURS) / rate("SQLite, chain"),
        "over_sqlite_chain_at_1": rate(OURS, one) / rate("SQLite, chain", one),
        "postgres_store_over_postgres_chain_at_64": rate(OTHER) / rate("PostgreSQL, chain"),
        "signed_over_unsigned_at_64": rate(OURS) / rate("  SQLite, unsigned"),
        "p99_ms_at_64": found[OURS, most].p99,
        "socket_p99_ms_at_64": found[SOCKET, most].p99,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="the log's speed")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each")
    parser.add_argument("--entries", type=int, default=200_000, help="length of the log that is verified")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    given = parser.parse_args()
    if programs() is None:
        sys.exit("no PostgreSQL here: apt-get install postgresql")
    place = Path(tempfile.mkdtemp(dir=given.folder))
    place.chmod(0o711)  # the database runs as another user
    cluster = Cluster.create(place)
    pressure = Pressure()
    try:
        ground = Ground(place, cluster, of_chunk(range(int(ENTRIES * given.seconds))), given.seconds)
        found = run_all(ground, given.rounds)
        (place / "long").mkdir()
        read = reading.measure(place / "long", given.entries) if given.entries else {}
    finally:
        cluster.end()
        shutil.rmtree(place)
    print(f"\n{'':<26}" + "".join(f"{f'{callers} at once':>30}" for callers in CALLERS))
    for name in CONTENDERS:
        cells = (found[name, callers] for callers in CALLERS)
        print(f"{name:<26}" + "".join(f"{m.per_second:>12,.0f}/s {m.p50:>6.2f} {m.p99:>7.2f} ms" for m in cells))
    for what, value in read.items():
        print(f"{what:<36}{value:>14,}")
    size = statistics.mean(map(len, ground.entries[:1000]))
    print(f"Entries of {size:.0f} bytes. {os.cpu_count()} cores; somebody waited for one {pressure} of the time.")
    told = {name: round(value, 2) for name, value in ratios(found).items()}
    print(json.dumps({"benchmark": "audit", "ratios": told, "reading": read, "cores": os.cpu_count()}))


if __name__ == "__main__":
    main()
