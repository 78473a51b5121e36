"""The real keeper with stopwatches in it: it writes where its time went.

At its end, to ``HOME/keeper/times.json``, in seconds.

CPU parts are the event loop's own time; ``log`` is how long appends were waited for, which other releases can use.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from strongroom.access.engine import CedarEngine
from strongroom.ipc import frames
from strongroom.keeper import journal, routes, service, wiring
from strongroom.keeper.adapters.log import SocketLog
from strongroom.release import delivery, judge

FOLDER = Path(sys.argv[sys.argv.index("--home") + 1]) / "keeper"
spent: defaultdict[str, float] = defaultdict(float)
calls: Counter[str] = Counter()


running: Counter[str] = Counter()


def timed(owner: Any, name: str, part: str, *, within: str = "") -> None:
    """Put a stopwatch around a function; with ``within``, it runs only while that part does."""
    inner: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(inner)
    def outer(*args: Any, **members: Any) -> Any:
        if within and not running[within]:
            return inner(*args, **members)
        began = time.perf_counter()
        running[part] += 1
        try:
            return inner(*args, **members)
        finally:
            running[part] -= 1
            spent[part] += time.perf_counter() - began
            calls[part] += 1

    setattr(owner, name, outer)


def timed_append() -> None:
    """Put a stopwatch around the wait for the log."""
    inner = SocketLog.append

    async def outer(self: SocketLog, entries: tuple[bytes, ...]) -> journal.Appended:
        began = time.perf_counter()
        try:
            return await inner(self, entries)
        finally:
            spent["log"] += time.perf_counter() - began
            calls["log"] += 1
            calls["entries"] += len(entries)

    setattr(SocketLog, "append", outer)  # noqa: B010 - mypy refuses to see a method replaced


if __name__ == "__main__":
    timed(frames, "read_call", "parse")
    timed(routes, "_dossier", "parse")
    timed(service, "examine", "verify")
    timed(judge, "decide", "decide")
    # Apart from the many questions that a policy is asked before it comes into force.
    timed(CedarEngine, "allows", "cedar", within="decide")
    timed(service.Keeper, "_keep_decision", "keep")
    timed(service.Keeper, "_open_data_key", "unwrap")
    timed(delivery, "encrypt_to", "hpke")
    timed(service, "sign", "sign")
    timed(journal.Journal, "record", "record")
    timed(journal.Journal, "_check_head", "record")
    timed(frames, "answer", "answer")
    timed_append()
    cpu = time.process_time()
    wiring.main()
    times = {"spent": dict(spent), "calls": dict(calls), "cpu": time.process_time() - cpu}
    (FOLDER / "times.json").write_text(json.dumps(times))
