"""Work on one object that is spread over threads. The caller's thread is one of them: small work costs no hand-over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Generic, TypeVar

from strongroom.sealing.floe import wipe
from strongroom.sealing.seal import Allocate, heap

T = TypeVar("T")


class Engine:
    """What sealing and opening work with: threads, and memory for plaintext. Without a pool, the caller's thread."""

    __slots__ = ("_free", "_lock", "allocate", "pool", "threads")

    def __init__(self, *, pool: Executor | None = None, threads: int = 1, allocate: Allocate = heap) -> None:
        self.pool, self.threads, self.allocate = pool, threads if pool else 1, allocate
        self._lock = threading.Lock()
        self._free: list[memoryview] = []

    @contextmanager
    def scratch(self, size: int) -> Iterator[memoryview]:
        """Lend ``size`` bytes for plaintext; wiped when they come back, and lent again: new memory is slow."""
        with self._lock:
            fits = next((number for number, one in enumerate(self._free) if len(one) >= size), None)
            # By its number: views compare by what they show, and wiped ones all show the same.
            found = None if fits is None else self._free.pop(fits)
        buffer = found if found is not None else self.allocate(size)
        try:
            yield buffer[:size]
        finally:
            wipe(buffer[:size])
            with self._lock:
                self._free.append(buffer)


def spread(engine: Engine, runs: Sequence[T], do: Callable[[T, memoryview], None], *, scratch: int, depth: int) -> None:
    """Do all ``runs``, each once, in any order, in at most ``depth`` threads.

    Each thread has ``scratch`` bytes of its own, wiped at the end.

    Nothing runs any more when this returns or raises. The first error that a thread met is raised, the rest is left.
    """
    work = _Work(engine, runs, do, scratch=scratch)
    helpers = min(engine.threads, len(runs), depth) - 1
    futures = [engine.pool.submit(work.run) for _ in range(helpers)] if engine.pool else []
    try:
        work.run()
    finally:
        # A helper that got no thread yet has nothing left to do; waiting for it could be waiting for this very thread.
        started = [future for future in futures if not future.cancel()]
        for future in started:
            future.exception()
    for future in started:
        future.result()


class _Work(Generic[T]):
    """Runs that several threads take from one list."""

    __slots__ = ("_do", "_engine", "_lock", "_next", "_runs", "_scratch", "_stop")

    def __init__(self, engine: Engine, runs: Sequence[T], do: Callable[[T, memoryview], None], *, scratch: int) -> None:
        self._engine, self._runs, self._do, self._scratch = engine, runs, do, scratch
        # A lock of its own and not the interpreter's: it holds in free-threaded builds too.
        self._lock = threading.Lock()
        self._next = 0
        self._stop = False

    def _take(self) -> int | None:
        with self._lock:
            if self._stop or self._next == len(self._runs):
                return None
            self._next += 1
            return self._next - 1

    def run(self) -> None:
        """Do runs until there are none left, or until one failed."""
        with self._engine.scratch(self._scratch) as scratch:
            try:
                while (number := self._take()) is not None:
                    self._do(self._runs[number], scratch)
            except BaseException:
                self._stop = True
                raise
