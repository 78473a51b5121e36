"""Several processes that walk one log: each takes a span at a time, and gives back its hashes and counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Final

from strongroom.audit.spans import Span, Spread, Walked

AHEAD: Final = 4
"""Spans handed out to each process before the first of them is back."""


@contextmanager
def workers(jobs: int) -> Iterator[Spread]:
    """Yield what spreads spans over ``jobs`` processes; one job is this process itself."""
    if jobs <= 1:
        yield map
        return
    # Spawned, not forked: a copy of a process with threads and open sockets would hold their locks for ever.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:

        def spread(walk: Callable[[Span], Walked], spans: Iterable[Span]) -> Iterator[Walked]:
            # A few at a time: how many there are is the log's word, and whoever takes the results may stop.
            waiting: deque[Future[Walked]] = deque()
            for span in spans:
                waiting.append(pool.submit(walk, span))
                if len(waiting) >= AHEAD * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        yield spread
