"""How a call is timed: by its thread's processor time, and call by call by the wall clock."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

ROUNDS: Final = 5
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What one kind of call takes, in microseconds."""

    least: float
    """Processor time a call, in the best round: what other programs disturb least."""
    median: float
    """The same, in the median round."""
    p50: float
    """By the wall clock, over all calls of all rounds."""
    p99: float

    @property
    def per_second(self) -> float:
        """Calls in a second of processor time, by the median round."""
        return 1e6 / self.median

    def to_json(self) -> dict[str, float]:
        """Return the JSON form."""
        return {
            "us": round(self.median, 1),
            "us_least": round(self.least, 1),
            "p50": round(self.p50, 1),
            "p99": round(self.p99, 1),
        }


def timed(act: Callable[[T], object], given: Sequence[T], *, calls: int, rounds: int = ROUNDS) -> Timing:
    """Time so many calls a round, over what is given, again and again; one call before that isn't counted."""
    act(given[0])
    waiting = itertools.cycle(given)
    cpu, wall = list[float](), list[float]()
    for _ in range(rounds):
        began = time.thread_time()
        for item in itertools.islice(waiting, calls):
            at = time.perf_counter()
            act(item)
            wall.append(1e6 * (time.perf_counter() - at))
        cpu.append(1e6 * (time.thread_time() - began) / calls)
    cuts = statistics.quantiles(wall, n=100)
    return Timing(least=min(cpu), median=statistics.median(cpu), p50=cuts[49], p99=cuts[98])


def tell(title: str, rows: Iterable[tuple[str, Timing]]) -> None:
    """Print a table."""
    print(f"\n{title}")
    print(f"  {'':<58}{'per s':>9}{'CPU us':>9}{'(least)':>9}{'p50 us':>9}{'p99 us':>9}")
    for name, took in rows:
        figures = (took.per_second, took.median, took.least, took.p50, took.p99)
        print(f"  {name:<58}{figures[0]:>9,.0f}" + "".join(f"{one:>9,.1f}" for one in figures[1:]))
