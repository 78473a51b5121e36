"""The threads and the memory that sealing and opening work with: one set for the process, made at its first use.

Starting threads, and touching new memory, costs more than opening a small tensor; so both are kept.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from strongroom.sealing.adapters.memory import plaintext_buffer
from strongroom.sealing.spread import Engine

_MOST: Final = 8


def default_threads() -> int:
    """Return how many threads work: at least four, since some wait for the disk while others work."""
    return min(_MOST, max(4, os.cpu_count() or 1))


class _Shared:
    """The process's engine. A child that was forked has none of its threads, and makes its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._watching = False

    def engine(self) -> Engine:
        """Return it."""
        with self._lock:
            if self._engine is None:
                if not self._watching:
                    os.register_at_fork(after_in_child=self._forget)
                    self._watching = True
                self._engine = _new(default_threads())
            return self._engine

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._engine = None


def _new(threads: int) -> Engine:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="sealing")
    return Engine(pool=pool, threads=threads, allocate=plaintext_buffer)


_shared = _Shared()


@contextmanager
def local_engine(threads: int | None = None) -> Iterator[Engine]:
    """Give the process's engine, or one with ``threads`` threads of its own for the block."""
    if threads is None:
        yield _shared.engine()
        return
    engine = _new(threads)
    try:
        yield engine
    finally:
        if engine.pool is not None:
            engine.pool.shutdown()
